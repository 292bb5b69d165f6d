//! Sites: the PBXs a call may cross.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::answer::{Tagged, edited, page_of, removed};
use super::auth::Admin;
use super::body::{Body, MergePatch};
use super::etag::IfMatch;
use super::problem::{Problem, Result};
use super::query::{Ids, Listed, Page, Paging};
use super::responses::{Creating, Editing, Listing, Reading, Removing};
use super::state::AppState;
use super::values;
use crate::model::{AccountId, Site, SiteId};
use crate::store::Stored;

/// The routes of this file.
pub fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(list_sites, create_site)).routes(routes!(read_site, edit_site, delete_site))
}

/// What can be set of a site.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SiteEdit {
    /// The account it belongs to; by default the token's own. It can't be changed later.
    #[serde(default)]
    account: Option<AccountId>,
    /// What people call it, unique within the account.
    name: String,
}

/// Which sites to list.
#[derive(Clone, Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct SiteFilter {
    /// Of this account; by default the token's own.
    account: Option<AccountId>,
}

/// List sites
///
/// An account's sites, by name.
#[utoipa::path(get, path = "/v1/sites", tag = "sites", params(SiteFilter, Paging),
    responses((status = 200, description = "A page of sites", body = Page<Site>), Listing))]
async fn list_sites(
    State(state): State<AppState>,
    admin: Admin,
    Listed(filter, paging): Listed<SiteFilter>,
) -> Result<Json<Page<Site>>> {
    let account = admin.account(&state, filter.account)?;
    let after = paging.after(LIST)?;
    let page = state.registry.sites.page(account, after, paging.limit.0, |_| true);
    page_of(&state, LIST, page, Site::clone).await
}

/// Create a site
#[utoipa::path(post, path = "/v1/sites", tag = "sites", request_body = SiteEdit,
    responses((status = 201, description = "The new site", body = Site,
        headers(("ETag" = String), ("Location" = String))), Creating))]
async fn create_site(State(state): State<AppState>, admin: Admin, Body(edit): Body<SiteEdit>) -> Result<Tagged<Site>> {
    let account = admin.account(&state, edit.account)?;
    let site = Site {
        id: SiteId(state.clock.uuid()),
        account,
        name: values::name("/name", &edit.name)?,
        created_at: state.clock.now().unix,
    };
    let stored = state.registry.create_site(site)?;
    let location = format!("/v1/sites/{}", stored.value.id);
    Tagged::created(&state, stored.value.clone(), stored.seq, location).await
}

/// Read a site
#[utoipa::path(get, path = "/v1/sites/{id}", tag = "sites", params(("id" = SiteId, Path)),
    responses((status = 200, description = "The site", body = Site, headers(("ETag" = String))), Reading))]
async fn read_site(State(state): State<AppState>, admin: Admin, Ids(id): Ids<SiteId>) -> Result<Tagged<Site>> {
    let stored = seen(&state, admin, id)?;
    Tagged::ok(&state, stored.value.clone(), stored.seq).await
}

/// Edit a site
///
/// A merge patch (RFC 7396).
#[utoipa::path(patch, path = "/v1/sites/{id}", tag = "sites",
    params(("id" = SiteId, Path), ("If-Match" = Option<String>, Header)),
    request_body(content = SiteEdit, content_type = "application/merge-patch+json"),
    responses((status = 200, description = "The site as it is now", body = Site, headers(("ETag" = String))), Editing))]
async fn edit_site(
    State(state): State<AppState>,
    admin: Admin,
    Ids(id): Ids<SiteId>,
    versions: IfMatch,
    patch: MergePatch,
) -> Result<Tagged<Site>> {
    let current = seen(&state, admin, id)?;
    let stored = edited(
        |edit| state.registry.update_site(id, versions.expected(current.seq), edit),
        |site: &mut Site| {
            let before = SiteEdit { account: Some(site.account), name: site.name.clone() };
            let edit = patch.applied_to(&before)?;
            if edit.account != before.account {
                return Err(Problem::invalid("/account", "a site can't move to another account"));
            }
            site.name = values::name("/name", &edit.name)?;
            Ok(())
        },
    )?;
    Tagged::ok(&state, stored.value.clone(), stored.seq).await
}

/// Delete a site
///
/// It must have no PBXs.
#[utoipa::path(delete, path = "/v1/sites/{id}", tag = "sites",
    params(("id" = SiteId, Path), ("If-Match" = Option<String>, Header)),
    responses((status = 204, description = "It is gone"), Removing))]
async fn delete_site(
    State(state): State<AppState>,
    admin: Admin,
    Ids(id): Ids<SiteId>,
    versions: IfMatch,
) -> Result<StatusCode> {
    let current = seen(&state, admin, id)?;
    removed(&state, state.registry.delete_site(id, versions.expected(current.seq))).await
}

fn seen(state: &AppState, admin: Admin, id: SiteId) -> Result<std::sync::Arc<Stored<Site>>> {
    let stored = state.registry.sites.get(id).filter(|site| admin.0.reaches(state, site.value.account));
    stored.ok_or_else(|| Problem::not_found("site"))
}

const LIST: &str = "sites";

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::http::testing::Office;

    #[tokio::test]
    async fn a_site_is_created_read_renamed_and_deleted() {
        let office = Office::open().await;
        let created = office.post("/v1/sites", &json!({"name": " Berlin "})).await;
        assert_eq!((created.status, &created.json["name"]), (201, &json!("Berlin")));
        let path = created.headers["location"].to_str().unwrap().to_owned();
        assert_eq!(office.get(&path).await.etag(), created.etag());
        let renamed = office.patch(&path, &json!({"name": "Hamburg"})).await;
        assert_eq!((renamed.status, &renamed.json["name"]), (200, &json!("Hamburg")));
        assert_ne!(renamed.etag(), created.etag());
        assert!(office.get("/v1/sites").await.items("name").contains(&json!("Hamburg")));
        assert_eq!(office.delete(&path).await.status, 204);
        assert_eq!(office.get(&path).await.problem(), (404, "not-found"));
        assert_eq!(office.delete(&path).await.problem(), (404, "not-found"));
    }

    #[tokio::test]
    async fn an_edit_of_an_older_version_is_refused_with_the_present_one() {
        let office = Office::open().await;
        let created = office.post("/v1/sites", &json!({"name": "Berlin"})).await;
        let path = format!("/v1/sites/{}", created.id());
        let old = [("if-match", created.etag())];
        let edit = |name: &str| json!({ "name": name });
        let (one, two) = (edit("One"), edit("Two"));
        let first = office.call("PATCH", &path, &office.admin, &old, Some(&one)).await;
        assert_eq!(first.status, 200);
        let second = office.call("PATCH", &path, &office.admin, &old, Some(&two)).await;
        assert_eq!(second.problem(), (412, "stale"));
        assert_eq!((&second.json["etag"], second.etag()), (&json!(first.etag()), first.etag()));
        assert_eq!(office.call("DELETE", &path, &office.admin, &old, None).await.problem(), (412, "stale"));
        for ok in [first.etag(), "*"] {
            let again = office.call("PATCH", &path, &office.admin, &[("if-match", ok)], Some(&one)).await;
            assert_eq!((again.status, again.etag()), (200, first.etag()), "an edit that changes nothing is no change");
        }
        let bad = office.call("PATCH", &path, &office.admin, &[("if-match", "7")], Some(&one)).await;
        assert_eq!((bad.problem(), &bad.json["parameter"]), ((400, "bad-request"), &json!("If-Match")));
    }

    #[tokio::test]
    async fn a_site_with_pbxs_stays_and_a_taken_name_is_a_conflict() {
        let office = Office::open().await;
        let site = office.registry.pbxs.get(office.pbx).unwrap().value.site;
        assert_eq!(office.delete(&format!("/v1/sites/{site}")).await.problem(), (409, "in-use"));
        assert_eq!(office.post("/v1/sites", &json!({"name": "Berlin"})).await.status, 201);
        assert_eq!(office.post("/v1/sites", &json!({"name": "BERLIN"})).await.problem(), (409, "conflict"));
    }

    #[tokio::test]
    async fn pages_follow_one_another_by_their_cursor() {
        let office = Office::open().await;
        for n in 0..5 {
            assert_eq!(office.post("/v1/sites", &json!({"name": format!("Site {n}")})).await.status, 201);
        }
        let mut names = Vec::new();
        let mut path = "/v1/sites?limit=2".to_owned();
        loop {
            let page = office.get(&path).await;
            assert!(page.json["items"].as_array().unwrap().len() <= 2);
            names.extend(page.items("name"));
            let Some(next) = page.json["next"].as_str() else { break };
            path = format!("/v1/sites?limit=2&after={next}");
        }
        assert_eq!(names, ["default", "Site 0", "Site 1", "Site 2", "Site 3", "Site 4"]);
        let foreign = office.get("/v1/users?limit=1").await.json["next"].as_str().map(str::to_owned);
        assert_eq!(foreign, None);
        let of_sites = office.get("/v1/sites?limit=1").await.json["next"].as_str().unwrap().to_owned();
        let refused = office.get(&format!("/v1/users?after={of_sites}")).await;
        assert_eq!((refused.problem(), &refused.json["parameter"]), ((400, "bad-request"), &json!("after")));
        for bad in ["limit=0", "limit=501", "after=%00", "colour=red"] {
            assert_eq!(office.get(&format!("/v1/sites?{bad}")).await.problem(), (400, "bad-request"), "{bad}");
        }
    }

    #[tokio::test]
    async fn a_stranger_finds_nothing_and_agents_are_refused() {
        let office = Office::open().await;
        let id = office.post("/v1/sites", &json!({"name": "Berlin"})).await.id().to_owned();
        let (_, stranger) = office.stranger();
        let edit = json!({"name": "Mine"});
        for (method, body) in [("GET", None), ("PATCH", Some(&edit)), ("DELETE", None)] {
            let answer = office.call(method, &format!("/v1/sites/{id}"), &stranger, &[], body).await;
            assert_eq!(answer.problem(), (404, "not-found"), "{method}");
        }
        let body = json!({"name": "Mine", "account": office.account});
        assert_eq!(office.call("POST", "/v1/sites", &stranger, &[], Some(&body)).await.status, 404);
        let (_, agent) = office.user("ann").await;
        let refused = office.call("GET", "/v1/sites", &agent, &[], None).await;
        assert_eq!(refused.problem(), (403, "forbidden"));
        let challenge = refused.headers["www-authenticate"].to_str().unwrap();
        assert!(challenge.contains("insufficient_scope") && challenge.contains("scope=\"admin\""), "{challenge}");
    }
}
