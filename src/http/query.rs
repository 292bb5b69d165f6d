//! What comes in the path and the query: ids, filters, moments, and the cursors of pages.

use axum::extract::{FromRequestParts, Path, Query};
use axum::http::Uri;
use axum::http::request::Parts;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer, Serialize};

use super::problem::{Kind, Problem, Result};
use crate::model::UnixMillis;

/// The ids in a path. What is not an id names nothing, so it is answered like an id nobody has: 404.
#[derive(Clone, Copy, Debug)]
pub struct Ids<T>(pub T);

/// The query, read as `T`; unknown parameters are refused when `T` says so, and every `T` here does.
#[derive(Clone, Debug)]
pub struct Params<T>(pub T);

/// A moment in a query: milliseconds since 1970, or RFC 3339 (`2026-05-04T10:31:00+02:00`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment(pub UnixMillis);

/// Which page of a list.
#[derive(Clone, Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Paging {
    /// `next` of the page before.
    #[param(value_type = Option<String>)]
    after: Option<Cursor>,
    /// Items a page, 1 to 500.
    #[serde(default)]
    #[param(value_type = Option<u16>, minimum = 1, maximum = 500, default = 50)]
    pub limit: Limit,
}

/// The query of a list: which items, read as `T` and as strictly as [`Params`], and which page of them.
#[derive(Clone, Debug)]
pub struct Listed<T>(pub T, pub Paging);

/// One page of a list.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub struct Page<T> {
    /// The items, in the order of the list.
    pub items: Vec<T>,
    /// What to pass as `after` to get the next page; absent on the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// How many items a page may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit(pub usize);

/// Where a page begins: the sort key of the last item of the page before. Only lists of the same name take it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cursor(String);

impl Cursor {
    /// Writes the place `key` of the list `list`.
    #[must_use]
    pub fn write(list: &str, key: &str) -> String {
        URL_SAFE_NO_PAD.encode(format!("{list}:{key}"))
    }
}

impl Paging {
    /// The place in the list `list` after which the page begins; none = at its start.
    ///
    /// # Errors
    /// 400 when the cursor is one of another list.
    pub fn after(&self, list: &str) -> Result<Option<&str>> {
        let Some(Cursor(text)) = &self.after else { return Ok(None) };
        text.strip_prefix(list)
            .and_then(|rest| rest.strip_prefix(':'))
            .map(Some)
            .ok_or_else(|| Problem::parameter("after", "this cursor is not of this list; take it from `next`"))
    }
}

impl<'de> Deserialize<'de> for Cursor {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| D::Error::custom(NOT_A_CURSOR))?;
        String::from_utf8(bytes).map(Self).map_err(|_| D::Error::custom(NOT_A_CURSOR))
    }
}

impl Limit {
    /// As the history's questions take it.
    #[must_use]
    pub fn as_u32(self) -> u32 {
        u32::try_from(self.0).unwrap_or(u32::MAX)
    }
}

impl Default for Limit {
    fn default() -> Self {
        Self(50)
    }
}

impl<'de> Deserialize<'de> for Limit {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let limit = usize::deserialize(deserializer)?;
        if (1..=LIMIT_MAX).contains(&limit) {
            Ok(Self(limit))
        } else {
            Err(D::Error::custom(format_args!("limit is 1 to {LIMIT_MAX}")))
        }
    }
}

impl<'de> Deserialize<'de> for Moment {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        if let Ok(milliseconds) = text.parse() {
            return Ok(Self(UnixMillis(milliseconds)));
        }
        let moment: jiff::Timestamp = text
            .parse()
            .map_err(|_| D::Error::custom("a moment is milliseconds since 1970 or RFC 3339: 2026-05-04T10:31:00Z"))?;
        Ok(Self(UnixMillis(moment.as_millisecond())))
    }
}

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for Ids<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self> {
        let Path(ids) = Path::from_request_parts(parts, state).await.map_err(|_| {
            Problem::new(Kind::NotFound, "there is no such thing: the path has something that is no id")
        })?;
        Ok(Self(ids))
    }
}

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Params<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self> {
        read(parts.uri.query().unwrap_or_default()).map(Self)
    }
}

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Listed<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self> {
        let query = parts.uri.query().unwrap_or_default();
        let is_paging = |part: &&str| ["after", "limit"].contains(&part.split('=').next().unwrap_or_default());
        let (paging, rest): (Vec<&str>, Vec<&str>) = query.split('&').partition(is_paging);
        Ok(Self(read(&rest.join("&"))?, read(&paging.join("&"))?))
    }
}

/// Reads a query, still in its escapes.
fn read<T: DeserializeOwned>(query: &str) -> Result<T> {
    let uri = Uri::builder().path_and_query(format!("/?{query}")).build();
    let uri = uri.map_err(|_| Problem::new(Kind::BadRequest, "the query is malformed"))?;
    let Query(value) =
        Query::try_from_uri(&uri).map_err(|rejection| Problem::new(Kind::BadRequest, plain(&rejection.body_text())))?;
    Ok(value)
}

/// What is wrong with a query, without the words about how it is read.
fn plain(text: &str) -> &str {
    text.strip_prefix("Failed to deserialize query string: ").unwrap_or(text)
}

/// The most items a page may have.
pub const LIMIT_MAX: usize = 500;

const NOT_A_CURSOR: &str = "this is no cursor; take it from `next`";

#[cfg(test)]
mod tests {
    use axum::http::Request;
    use axum::response::IntoResponse as _;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Filter {
        since: Option<Moment>,
    }

    async fn read(query: &str) -> Result<Listed<Filter>> {
        let request = Request::builder().uri(format!("/things?{query}")).body(()).unwrap();
        Listed::from_request_parts(&mut request.into_parts().0, &()).await
    }

    #[tokio::test]
    async fn moments_are_milliseconds_or_rfc_3339_with_an_offset() {
        let since =
            async |text: &str| read(&format!("since={text}")).await.map(|Listed(filter, _)| filter.since.unwrap().0.0);
        assert_eq!(since("1777883460000").await.unwrap(), 1_777_883_460_000);
        assert_eq!(since("2026-05-04T08:31:00Z").await.unwrap(), 1_777_883_460_000);
        assert_eq!(since("2026-05-04T10:31:00%2B02:00").await.unwrap(), 1_777_883_460_000);
        for bad in ["", "yesterday", "2026-05-04T10:31:00", "10:31"] {
            assert_eq!(since(bad).await.unwrap_err().kind(), Kind::BadRequest, "{bad}");
        }
    }

    #[tokio::test]
    async fn limits_are_bounded_and_unknown_parameters_refused() {
        assert_eq!(read("").await.unwrap().1.limit, Limit(50));
        assert_eq!(read("since=1&limit=500").await.unwrap().1.limit, Limit(500));
        for bad in ["limit=0", "limit=501", "limit=-1", "limit=many", "colour=red"] {
            let problem = read(bad).await.unwrap_err();
            assert_eq!(problem.kind(), Kind::BadRequest, "{bad}");
            let body = axum::body::to_bytes(problem.into_response().into_body(), 10_000).await.unwrap();
            let said: serde_json::Value = serde_json::from_slice(&body).unwrap();
            let (name, _) = bad.split_once('=').unwrap();
            assert!(said["detail"].as_str().unwrap().starts_with(&format!("{name}: ")), "{said}");
        }
    }

    #[tokio::test]
    async fn a_cursor_is_taken_by_its_own_list_only() {
        let Listed(_, paging) = read(&format!("after={}", Cursor::write("users", "a:b"))).await.unwrap();
        assert_eq!(paging.after("users").unwrap(), Some("a:b"));
        assert_eq!(paging.after("devices").unwrap_err().kind(), Kind::BadRequest);
        assert_eq!(read("").await.unwrap().1.after("users").unwrap(), None);
        assert_eq!(read("after=***").await.unwrap_err().kind(), Kind::BadRequest);
    }
}
