//! What every failure looks like: RFC 9457 problem details under a stable `type`.

use axum::http::{HeaderName, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

pub use super::kind::Kind;

/// A failure, as clients see it (RFC 9457, `application/problem+json`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    kind: Kind,
    detail: String,
    pointer: Option<String>,
    parameter: Option<&'static str>,
    headers: Vec<(HeaderName, HeaderValue)>,
    etag: Option<String>,
}

/// Shorthand for what handlers return.
pub type Result<T, E = Problem> = std::result::Result<T, E>;

impl Problem {
    /// A failure of this kind; `detail` says what happened this time, for a person.
    #[must_use]
    pub fn new(kind: Kind, detail: impl Into<String>) -> Self {
        Self { kind, detail: detail.into(), pointer: None, parameter: None, headers: Vec::new(), etag: None }
    }

    /// 404 for `what`, e.g. `user`.
    #[must_use]
    pub fn not_found(what: &str) -> Self {
        Self::new(Kind::NotFound, format!("there is no such {what}"))
    }

    /// 422 for the member at `pointer` (RFC 6901).
    #[must_use]
    pub fn invalid(pointer: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::new(Kind::InvalidValue, detail).at(pointer)
    }

    /// 400 for the query parameter (or header) `name`.
    #[must_use]
    pub fn parameter(name: &'static str, detail: impl Into<String>) -> Self {
        Self { parameter: Some(name), ..Self::new(Kind::BadRequest, detail) }
    }

    /// Names the offending member of the body (RFC 6901; empty = the whole body).
    #[must_use]
    pub fn at(self, pointer: impl Into<String>) -> Self {
        Self { pointer: Some(pointer.into()), ..self }
    }

    /// Adds a header to the answer.
    #[must_use]
    pub fn with_header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    /// Tells the version that is there now, in the body and as `ETag`.
    #[must_use]
    pub fn with_etag(mut self, etag: HeaderValue) -> Self {
        self.etag = etag.to_str().ok().map(str::to_owned);
        self.with_header(header::ETAG, etag)
    }

    /// What happened this time, for a person.
    #[must_use]
    pub fn detail(&self) -> &str {
        &self.detail
    }

    /// Its kind.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.kind
    }
}

/// The JSON of a problem.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(as = Problem, example = json!({
    "type": "/problems/bad-body", "title": "The body can't be read", "status": 400,
    "detail": "invalid type: string \"yes\", expected a boolean at line 1 column 15", "pointer": "/enabled",
}))]
pub struct ProblemBody<'a> {
    /// Which kind of problem, stable: a reference to a page of this server that explains it.
    r#type: String,
    /// The kind in words, always the same.
    title: &'a str,
    /// The HTTP status again.
    status: u16,
    /// What happened this time.
    #[serde(skip_serializing_if = "str::is_empty")]
    #[schema(required = false)]
    detail: &'a str,
    /// The offending member of the body (RFC 6901; empty = the whole body).
    #[serde(skip_serializing_if = "Option::is_none")]
    pointer: Option<&'a str>,
    /// The offending query parameter or header.
    #[serde(skip_serializing_if = "Option::is_none")]
    parameter: Option<&'a str>,
    /// The present version, when `If-Match` named another one.
    #[serde(skip_serializing_if = "Option::is_none")]
    etag: Option<&'a str>,
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = self.kind.status();
        let body = ProblemBody {
            r#type: format!("/problems/{}", self.kind.slug()),
            title: self.kind.title(),
            status: status.as_u16(),
            detail: &self.detail,
            pointer: self.pointer.as_deref(),
            parameter: self.parameter,
            etag: self.etag.as_deref(),
        };
        let json = serde_json::to_vec(&body).unwrap_or_default();
        let mut response = (status, [(header::CONTENT_TYPE, PROBLEM_JSON)], json).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if matches!(self.kind, Kind::NotStored | Kind::Unavailable) {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static(RETRY_AFTER_S));
        }
        for (name, value) in self.headers {
            headers.append(name, value);
        }
        response
    }
}

/// Media type of problem details.
pub const PROBLEM_JSON: &str = "application/problem+json";

/// Seconds after which to try again.
const RETRY_AFTER_S: &str = "2";

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_problem_tells_its_type_title_status_detail_and_pointer_and_no_empty_members() {
        let response = Problem::invalid("/email", "not an address").into_response();
        assert_eq!(response.status(), 422);
        assert_eq!(response.headers()[header::CONTENT_TYPE], PROBLEM_JSON);
        assert_eq!(response.headers()[header::CACHE_CONTROL], "no-store");
        let body = axum::body::to_bytes(response.into_body(), 10_000).await.unwrap();
        let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(
            body,
            serde_json::json!({"type": "/problems/invalid-value", "title": "A value can't be accepted", "status": 422,
                "detail": "not an address", "pointer": "/email"})
        );
    }

    #[test]
    fn unavailability_says_when_to_come_back() {
        let response = Problem::new(Kind::NotStored, "").into_response();
        assert_eq!(
            (response.status().as_u16(), &response.headers()[header::RETRY_AFTER]),
            (503, &"2".parse().unwrap())
        );
    }
}
