//! JSON bodies in: whole values, and merge patches (RFC 7396). What can't be read is answered with the JSON pointer of
//! the offending member.

use std::time::Duration;

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{FromRequest, Request};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::IntoResponse as _;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_path_to_error::{Path, Segment};

use super::problem::{Kind, Problem, Result};

/// A JSON body. Unknown members are refused when `T` says so, and every `T` here does.
#[derive(Clone, Debug)]
pub struct Body<T>(pub T);

/// A merge patch (RFC 7396): members that are absent stay, `null` sets a member back to what it is when nobody sets it.
#[derive(Clone, Debug)]
pub struct MergePatch(Value);

impl MergePatch {
    /// What `current` becomes.
    ///
    /// # Errors
    /// 400 with a pointer when the result is no `T`.
    pub fn applied_to<T: Serialize + DeserializeOwned>(&self, current: &T) -> Result<T> {
        let mut value = serde_json::to_value(current)
            .map_err(|error| Problem::new(Kind::Internal, format!("the present value can't be patched: {error}")))?;
        merge(&mut value, &self.0);
        serde_path_to_error::deserialize(value).map_err(|error| unreadable(error.path(), error.inner()))
    }
}

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Body<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self> {
        if !is_json(request.headers(), &["application/json"]) {
            return Err(Problem::new(Kind::UnsupportedMediaType, "send `Content-Type: application/json`"));
        }
        let bytes = received(request, state).await?;
        must_be_object(&bytes)?;
        read(&bytes).map(Self)
    }
}

impl<S: Send + Sync> FromRequest<S> for MergePatch {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self> {
        if !is_json(request.headers(), &["application/merge-patch+json", "application/json"]) {
            return Err(Problem::new(Kind::UnsupportedMediaType, "send `Content-Type: application/merge-patch+json`"));
        }
        let patch: Value = read(&received(request, state).await?)?;
        if patch.is_object() {
            Ok(Self(patch))
        } else {
            Err(Problem::new(Kind::BadBody, "a merge patch is an object").at(""))
        }
    }
}

/// Any JSON that is said to be one of these media types.
///
/// # Errors
/// As for [`Body`].
pub async fn value<S: Send + Sync>(request: Request, state: &S, media_types: &[&str]) -> Result<Value> {
    if !is_json(request.headers(), media_types) {
        let wanted = format!("send `Content-Type: {}`", media_types.join("` or `"));
        return Err(Problem::new(Kind::UnsupportedMediaType, wanted));
    }
    read(&received(request, state).await?)
}

/// The member at `path` as a JSON pointer (RFC 6901).
#[must_use]
pub fn pointer(path: &Path) -> String {
    let mut out = String::new();
    for segment in path {
        match segment {
            Segment::Seq { index } => {
                out.push('/');
                out.push_str(&index.to_string());
            }
            Segment::Map { key } => {
                out.push('/');
                out.push_str(&key.replace('~', "~0").replace('/', "~1"));
            }
            // A variant is not a member of the JSON that was sent.
            Segment::Enum { .. } | Segment::Unknown => {}
        }
    }
    out
}

/// An array would be taken for the members of `T` in the order of its declaration.
fn must_be_object(bytes: &[u8]) -> Result<()> {
    if bytes.trim_ascii_start().first() == Some(&b'{') {
        Ok(())
    } else {
        Err(Problem::new(Kind::BadBody, "the body must be a JSON object").at(""))
    }
}

fn read<T: DeserializeOwned>(bytes: &[u8]) -> Result<T> {
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let value = serde_path_to_error::deserialize(&mut json).map_err(|error| unreadable(error.path(), error.inner()))?;
    json.end().map_err(|error| Problem::new(Kind::BadBody, error.to_string()).at(""))?;
    Ok(value)
}

fn unreadable(path: &Path, error: &serde_json::Error) -> Problem {
    Problem::new(Kind::BadBody, error.to_string()).at(pointer(path))
}

async fn received<S: Send + Sync>(request: Request, state: &S) -> Result<Bytes> {
    let bytes = tokio::time::timeout(BODY_TIMEOUT, Bytes::from_request(request, state));
    match bytes.await {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(rejection)) => Err(not_received(rejection)),
        Err(_) => Err(Problem::new(Kind::Timeout, format!("no whole body within {} s", BODY_TIMEOUT.as_secs()))),
    }
}

fn not_received(rejection: BytesRejection) -> Problem {
    let text = rejection.body_text();
    if rejection.into_response().status() == StatusCode::PAYLOAD_TOO_LARGE {
        metrics::counter!("hookswitch_dropped_total", "where" => "http", "reason" => "body_too_large").increment(1);
        Problem::new(Kind::TooLarge, text)
    } else {
        Problem::new(Kind::BadBody, text)
    }
}

/// Whether the body is said to be one of these. A body that does not say so is refused: browsers may send such bodies
/// across origins without asking.
fn is_json(headers: &HeaderMap, accepted: &[&str]) -> bool {
    let Some(value) = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()) else { return false };
    let essence = value.split(';').next().unwrap_or_default().trim();
    accepted.iter().any(|accepted| accepted.eq_ignore_ascii_case(essence))
}

/// RFC 7396 §2, `MergePatch(target, patch)`.
fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = Value::Object(serde_json::Map::new());
    }
    let Value::Object(target) = target else { return };
    for (name, value) in patch {
        if value.is_null() {
            target.remove(name);
        } else {
            merge(target.entry(name.as_str()).or_insert(Value::Null), value);
        }
    }
}

/// How long a body may take to arrive.
const BODY_TIMEOUT: Duration = Duration::from_secs(15);

#[cfg(test)]
mod tests {
    use serde::Deserialize;
    use serde_json::json;

    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Thing {
        name: String,
        #[serde(default)]
        tags: Vec<u8>,
        #[serde(default)]
        inner: Inner,
        #[serde(default)]
        nick: Option<String>,
    }

    #[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
    #[serde(default, deny_unknown_fields)]
    struct Inner {
        on: bool,
        #[serde(rename = "a/b~c")]
        odd: u8,
    }

    fn pointer_of(text: &str) -> Option<String> {
        let problem = read::<Thing>(text.as_bytes()).unwrap_err();
        assert_eq!(problem.kind(), Kind::BadBody);
        pointer_in(problem)
    }

    fn pointer_in(problem: Problem) -> Option<String> {
        let response = problem.into_response();
        let body = futures_util::FutureExt::now_or_never(axum::body::to_bytes(response.into_body(), 10_000));
        let body: Value = serde_json::from_slice(&body.unwrap().unwrap()).unwrap();
        body.get("pointer").map(|pointer| pointer.as_str().unwrap().to_owned())
    }

    #[test]
    fn the_offending_member_is_named() {
        assert_eq!(pointer_of(r#"{"name": 5}"#).unwrap(), "/name");
        assert_eq!(pointer_of(r#"{"name": "x", "tags": [1, 2, "3"]}"#).unwrap(), "/tags/2");
        assert_eq!(pointer_of(r#"{"name": "x", "inner": {"on": "yes"}}"#).unwrap(), "/inner/on");
        assert_eq!(pointer_of(r#"{"name": "x", "inner": {"a/b~c": true}}"#).unwrap(), "/inner/a~1b~0c");
        assert_eq!(pointer_of(r#"{"name": "x", "unknown": 1}"#).unwrap(), "/unknown");
        assert_eq!(pointer_of(r#"{"name": "x", "name": "y"}"#).unwrap(), "", "the detail names it");
        assert_eq!(pointer_of("{}").unwrap(), "");
        assert_eq!(pointer_of("").unwrap(), "");
        assert_eq!(pointer_of("[1]").unwrap(), "/0");
        assert_eq!(pointer_of(r#"{"name": "x"} x"#).unwrap(), "");
    }

    #[test]
    fn a_body_that_is_empty_or_an_array_is_told_to_be_an_object() {
        assert!(must_be_object(b" {}").is_ok());
        for bad in ["", "  ", r#"["x", [], {}, null]"#, "null", "5", "x"] {
            let problem = must_be_object(bad.as_bytes()).unwrap_err();
            assert_eq!(problem.kind(), Kind::BadBody, "{bad}");
            assert_eq!(pointer_in(problem).unwrap(), "");
        }
    }

    #[test]
    fn a_deeply_nested_body_is_refused_and_not_followed() {
        let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
        assert_eq!(read::<Value>(deep.as_bytes()).unwrap_err().kind(), Kind::BadBody);
    }

    #[test]
    fn a_patch_keeps_what_is_absent_and_clears_what_is_null() {
        let thing =
            Thing { name: "x".into(), tags: vec![1], inner: Inner { on: true, odd: 3 }, nick: Some("y".into()) };
        let patched =
            MergePatch(json!({"inner": {"on": false}, "nick": null, "tags": [2]})).applied_to(&thing).unwrap();
        assert_eq!(patched, Thing { name: "x".into(), tags: vec![2], inner: Inner { on: false, odd: 3 }, nick: None });
        for (patch, pointer) in [
            (json!({"inner": {"on": "no"}}), "/inner/on"),
            (json!({"other": 1}), "/other"),
            (json!({"name": null}), ""),
            (json!({"inner": 4}), "/inner"),
        ] {
            let problem = MergePatch(patch).applied_to(&thing).unwrap_err();
            assert_eq!(pointer_in(problem).unwrap(), pointer);
        }
    }

    #[test]
    fn patches_merge_as_the_examples_of_rfc_7396_appendix_a() {
        for (original, patch, result) in [
            (json!({"a": "b"}), json!({"a": "c"}), json!({"a": "c"})),
            (json!({"a": "b"}), json!({"b": "c"}), json!({"a": "b", "b": "c"})),
            (json!({"a": "b"}), json!({"a": null}), json!({})),
            (json!({"a": "b", "b": "c"}), json!({"a": null}), json!({"b": "c"})),
            (json!({"a": ["b"]}), json!({"a": "c"}), json!({"a": "c"})),
            (json!({"a": "c"}), json!({"a": ["b"]}), json!({"a": ["b"]})),
            (json!({"a": {"b": "c"}}), json!({"a": {"b": "d", "c": null}}), json!({"a": {"b": "d"}})),
            (json!({"a": [{"b": "c"}]}), json!({"a": [1]}), json!({"a": [1]})),
            (json!(["a", "b"]), json!(["c", "d"]), json!(["c", "d"])),
            (json!({"a": "b"}), json!(["c"]), json!(["c"])),
            (json!({"a": "foo"}), json!(null), json!(null)),
            (json!({"a": "foo"}), json!("bar"), json!("bar")),
            (json!({"e": null}), json!({"a": 1}), json!({"e": null, "a": 1})),
            (json!([1, 2]), json!({"a": "b", "c": null}), json!({"a": "b"})),
            (json!({}), json!({"a": {"bb": {"ccc": null}}}), json!({"a": {"bb": {}}})),
        ] {
            let mut target = original.clone();
            merge(&mut target, &patch);
            assert_eq!(target, result, "{original} + {patch}");
        }
    }

    #[test]
    fn only_bodies_that_say_they_are_json_are_read() {
        let said = |value: &str| {
            let headers = HeaderMap::from_iter([(header::CONTENT_TYPE, value.parse().unwrap())]);
            is_json(&headers, &["application/json"])
        };
        assert!(said("application/json") && said("Application/JSON; charset=utf-8"));
        assert!(!said("text/plain") && !said("application/x-www-form-urlencoded"));
        assert!(!is_json(&HeaderMap::new(), &["application/json"]));
    }
}
