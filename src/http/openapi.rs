//! `/openapi.json` (OpenAPI 3.1), made from the handlers, and the pages behind each problem's `type`.

use axum::Extension;
use axum::body::Bytes;
use axum::extract::Path;
use axum::http::{HeaderValue, header};
use axum::response::IntoResponse;
use serde::Serialize;
use serde_json::Value;
use utoipa::openapi::path::PathItem;
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{ComponentsBuilder, InfoBuilder, Object, OpenApi, OpenApiBuilder, Ref, RefOr, Schema};
use utoipa::{PartialSchema as _, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::problem::{Kind, Problem, ProblemBody, Result};
use super::state::AppState;

/// The document before any route is in it.
#[must_use]
pub fn frame() -> OpenApi {
    let info = InfoBuilder::new().title("hookswitch").version(env!("CARGO_PKG_VERSION")).description(Some(DESCRIPTION));
    let bearer = Http::builder().scheme(HttpAuthScheme::Bearer).description(Some(BEARER)).build();
    let components = ComponentsBuilder::new()
        .schema(ProblemBody::name(), ProblemBody::schema())
        .security_scheme("bearer", SecurityScheme::Http(bearer));
    OpenApiBuilder::new()
        .info(info)
        .components(Some(components.build()))
        .security(Some([SecurityRequirement::new("bearer", Vec::<String>::new())]))
        .build()
}

/// The document once every route is in it: merge patches are described as such, and values say what they mean.
#[must_use]
pub fn finished(mut document: OpenApi) -> OpenApi {
    let mut patched = Vec::new();
    for item in document.paths.paths.values_mut() {
        patched.extend(patch_schemas(item));
    }
    let Some(components) = document.components.as_mut() else { return document };
    for name in patched {
        let Some(RefOr::T(Schema::Object(mut schema))) = components.schemas.get(&name).cloned() else { continue };
        // RFC 7396: whatever is absent stays as it is.
        schema.required.clear();
        schema.properties.retain(|_, member| !is_fixed(member));
        components.schemas.insert(patch_name(&name), RefOr::T(Schema::Object(schema)));
    }
    for (name, meanings) in MEANINGS {
        if let Some(RefOr::T(Schema::Object(schema))) = components.schemas.get_mut(*name) {
            explain(schema, meanings);
        }
    }
    document
}

/// The routes of this file. The first needs the [`Document`] as an extension.
pub fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(read_openapi)).routes(routes!(read_problem))
}

/// The finished document as JSON.
#[derive(Clone, Debug)]
pub struct Document(Bytes);

impl From<&OpenApi> for Document {
    fn from(document: &OpenApi) -> Self {
        // The document is plain data with string keys: writing it as JSON can't fail.
        Self(serde_json::to_vec(document).unwrap_or_default().into())
    }
}

/// What a problem type means.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct ProblemType {
    /// The type.
    #[schema(example = "/problems/stale")]
    r#type: String,
    /// Its title.
    title: &'static str,
    /// Its status.
    status: u16,
    /// What it means and what to do about it.
    explanation: &'static str,
}

/// Describe this API
///
/// This document (OpenAPI 3.1). No token is needed.
#[utoipa::path(get, path = "/openapi.json", tag = "openapi", security(()),
    responses((status = 200, description = "This document", body = Object)))]
async fn read_openapi(Extension(Document(json)): Extension<Document>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))], json)
}

/// Explain a problem type
///
/// What the `type` of a problem refers to. No token is needed.
#[utoipa::path(get, path = "/problems/{type}", tag = "problems", security(()),
    params(("type" = String, Path, description = "The last part of the problem's `type`")),
    responses((status = 200, description = "What it means", body = ProblemType),
        (status = 404, description = "No problem has this type", body = ProblemBody, content_type = "application/problem+json")))]
async fn read_problem(Path(slug): Path<String>) -> Result<axum::Json<ProblemType>> {
    let kind = Kind::ALL.into_iter().find(|kind| kind.slug() == slug);
    let kind = kind.ok_or_else(|| Problem::not_found("problem type"))?;
    Ok(axum::Json(ProblemType {
        r#type: format!("/problems/{slug}"),
        title: kind.title(),
        status: kind.status().as_u16(),
        explanation: kind.explanation(),
    }))
}

/// Points the body of a PATCH at the patch form of its schema. Names the schemas.
fn patch_schemas(item: &mut PathItem) -> Vec<String> {
    let body = item.patch.as_mut().and_then(|operation| operation.request_body.as_mut());
    let Some(RefOr::T(body)) = body else { return Vec::new() };
    let mut names = Vec::new();
    for content in body.content.values_mut() {
        let RefOr::T(content) = content else { continue };
        let Some(RefOr::Ref(reference)) = &content.schema else { continue };
        let Some(name) = reference.ref_location.rsplit('/').next().map(str::to_owned) else { continue };
        content.schema = Some(Ref::from_schema_name(patch_name(&name)).into());
        names.push(name);
    }
    names
}

/// Whether a member is set when its resource is made and never after.
fn is_fixed(member: &RefOr<Schema>) -> bool {
    // Where the words stand depends on what the member is: a reference, a value, either or null.
    serde_json::to_string(member).unwrap_or_default().contains(FIXED)
}

/// Adds what each value means to the description of an enum.
fn explain(schema: &mut Object, meanings: &[&str]) {
    let values = schema.enum_values.iter().flatten().filter_map(Value::as_str);
    let lines = values.zip(meanings).map(|(value, meaning)| format!("- `{value}`: {meaning}"));
    let lines: Vec<String> = lines.collect();
    let about = schema.description.take().unwrap_or_default();
    schema.description = Some(format!("{about}\n\n{}", lines.join("\n")));
}

/// `UserEdit` → `UserPatch`.
fn patch_name(name: &str) -> String {
    format!("{}Patch", name.strip_suffix("Edit").unwrap_or(name))
}

const DESCRIPTION: &str = "Which phones are alive, whose they are, and whose screen must pop when one rings. Times are \
    milliseconds since 1970. Failures are problem details (RFC 9457). Lists come in pages: pass `next` as `after`. \
    Resources that can be edited carry an `ETag`, and changes honour `If-Match`. A write is answered once it is on disk; \
    503 `not-stored` means that it is not known to be, and may still be.";
/// What the doc comment of a member says that a PATCH can't set.
const FIXED: &str = "It can't be changed later.";
/// Enums by name, with what each of their values means, in order; made from their doc comments by `build.rs`.
const MEANINGS: &[(&str, &[&str])] = include!(concat!(env!("OUT_DIR"), "/meanings.rs"));
const BEARER: &str = "A token of scope `admin` (an account and those below it), `agent` (one user) or `pbx` (one PBX).";

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::{Value, json};

    use crate::http::testing::Office;

    fn operations(document: &Value) -> Vec<(String, String, &Value)> {
        let paths = document["paths"].as_object().unwrap();
        let of = |(path, item): (&String, &'_ Value)| {
            let methods = item.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
            methods.into_iter().map(|method| (path.clone(), method)).collect::<Vec<_>>()
        };
        let all = paths.iter().flat_map(of);
        all.map(|(path, method)| (path.clone(), method.clone(), &document["paths"][&path][&method])).collect()
    }

    fn references<'a>(value: &'a Value, out: &mut BTreeSet<&'a str>) {
        match value {
            Value::Object(members) => {
                out.extend(members.get("$ref").and_then(Value::as_str));
                members.values().for_each(|member| references(member, out));
            }
            Value::Array(items) => items.iter().for_each(|item| references(item, out)),
            _ => {}
        }
    }

    #[tokio::test]
    async fn the_document_is_openapi_3_1_and_whole() {
        let office = Office::open().await;
        let document = office.call("GET", "/openapi.json", "", &[], None).await.json;
        assert!(document["openapi"].as_str().unwrap().starts_with("3.1"));
        let mut found = BTreeSet::new();
        references(&document, &mut found);
        assert!(found.len() > 20);
        for reference in found {
            let pointer = reference.strip_prefix('#').unwrap();
            assert!(document.pointer(pointer).is_some(), "{reference} leads nowhere");
        }
        let mut ids = BTreeSet::new();
        for (path, method, operation) in operations(&document) {
            let id = operation["operationId"].as_str().unwrap();
            assert!(ids.insert(id.to_owned()), "{id} names two operations");
            assert!(operation["summary"].is_string(), "{method} {path} says nothing about itself");
            let public = operation["security"][0].as_object().is_some_and(serde_json::Map::is_empty);
            assert_eq!(public, !path.starts_with("/v1/"), "{method} {path}");
            if !public {
                assert!(operation["responses"]["401"].is_object(), "{method} {path}");
                let problem = &operation["responses"]["401"]["content"]["application/problem+json"]["schema"]["$ref"];
                assert_eq!(problem, "#/components/schemas/Problem");
            }
        }
    }

    #[tokio::test]
    async fn every_route_refuses_who_has_no_token_or_a_wrong_one() {
        let office = Office::open().await;
        let document = office.call("GET", "/openapi.json", "", &[], None).await.json;
        let expired = "hs_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
        for (path, method, _) in operations(&document).iter().filter(|(path, ..)| path.starts_with("/v1/")) {
            let path = path.replace("{id}", "00000000-0000-7000-8000-000000000000");
            let path = path.replace("{device}", "00000000-0000-7000-8000-000000000000");
            for token in ["", expired, "hs_", "Basic"] {
                let answer = office.call(&method.to_uppercase(), &path, token, &[], None).await;
                assert_eq!(answer.problem(), (401, "unauthorized"), "{method} {path}");
                let challenge = answer.headers["www-authenticate"].to_str().unwrap();
                assert!(challenge.starts_with("Bearer realm="), "{challenge}");
                assert_eq!(challenge.contains("invalid_token"), !token.is_empty(), "RFC 6750 §3.1");
            }
        }
    }

    #[tokio::test]
    async fn the_body_of_a_patch_needs_no_member() {
        let office = Office::open().await;
        let document = office.call("GET", "/openapi.json", "", &[], None).await.json;
        let patches = operations(&document).into_iter().filter(|(_, method, _)| method == "patch");
        for (path, _, operation) in patches {
            let content = &operation["requestBody"]["content"]["application/merge-patch+json"];
            let reference = content["schema"]["$ref"].as_str().unwrap();
            assert!(reference.ends_with("Patch"), "{path}: {reference}");
            assert!(document.pointer(&reference[1..]).unwrap().get("required").is_none(), "{path}");
        }
    }

    #[tokio::test]
    async fn a_patch_shows_the_members_that_can_be_changed_and_no_others() {
        let office = Office::open().await;
        let document = office.call("GET", "/openapi.json", "", &[], None).await.json;
        let members = |name: &str| {
            let properties = document["components"]["schemas"][name]["properties"].as_object().unwrap();
            properties.keys().cloned().collect::<BTreeSet<_>>()
        };
        for (noun, fixed) in [
            ("Account", &["parent"][..]),
            ("Pbx", &["account"]),
            ("Queue", &["account", "pbx"]),
            ("Site", &["account"]),
            ("User", &["account"]),
            ("Device", &[]),
        ] {
            let mut rest = members(&format!("{noun}Edit"));
            rest.retain(|member| !fixed.contains(&member.as_str()));
            assert_eq!(members(&format!("{noun}Patch")), rest, "{noun}");
        }
        let queue = office.post("/v1/queues", &json!({"pbx": office.pbx, "name": "sales"})).await;
        let elsewhere = json!({"pbx": "00000000-0000-7000-8000-000000000000"});
        let refused = office.patch(&format!("/v1/queues/{}", queue.json["id"].as_str().unwrap()), &elsewhere).await;
        assert_eq!((refused.problem().0, &refused.json["pointer"]), (422, &json!("/pbx")), "as the document says");
    }

    #[tokio::test]
    async fn every_value_of_every_enum_says_what_it_means() {
        let office = Office::open().await;
        let document = office.call("GET", "/openapi.json", "", &[], None).await.json;
        let schemas = document["components"]["schemas"].as_object().unwrap();
        let enums = schemas.iter().filter_map(|(name, schema)| Some((name, schema, schema["enum"].as_array()?)));
        let mut count = 0;
        for (name, schema, values) in enums {
            let about = schema["description"].as_str().unwrap();
            for value in values.iter().map(|value| value.as_str().unwrap()) {
                let meanings = about.lines().filter_map(|line| line.strip_prefix(&format!("- `{value}`: ")));
                let meanings: Vec<&str> = meanings.collect();
                assert!(matches!(meanings[..], [one] if one.len() > 3), "{name} {value}: {about}");
                count += 1;
            }
        }
        assert!(count > 100, "{count}");
        let direction = schemas["LegDirection"]["description"].as_str().unwrap();
        assert!(direction.ends_with("- `from_pbx`: The PBX called a phone or the outside."), "{direction}");
    }

    #[tokio::test]
    async fn an_event_that_is_posted_has_the_types_that_are_read() {
        let office = Office::open().await;
        let document = office.call("GET", "/openapi.json", "", &[], None).await.json;
        let text = document["components"]["schemas"]["CloudEvent"].to_string();
        for kind in crate::ingest::webhook::KINDS {
            assert!(text.contains(&format!("[\"{kind}\"]")), "{kind}: {text}");
        }
    }

    #[tokio::test]
    async fn a_problem_type_leads_to_its_explanation() {
        let office = Office::open().await;
        let refused = office.get("/v1/users/none").await;
        assert_eq!(refused.problem(), (404, "not-found"));
        let page = office.call("GET", refused.json["type"].as_str().unwrap(), "", &[], None).await;
        assert_eq!(
            (page.status, &page.json["type"], &page.json["title"]),
            (200, &refused.json["type"], &refused.json["title"])
        );
        assert_eq!(office.call("GET", "/problems/none", "", &[], None).await.status, 404);
    }
}
