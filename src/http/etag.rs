//! Versions of records: `ETag` out, `If-Match` in (RFC 9110 §8.8.3, §13.1.1). A record's version is the sequence number
//! of its last change.

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderValue, header};

use super::problem::{Problem, Result};
use crate::store::Seq;

/// The `ETag` of a record whose last change is `seq`.
#[must_use]
pub fn etag(seq: Seq) -> HeaderValue {
    // Quotes and digits are always a valid header value.
    HeaderValue::try_from(format!("\"{}\"", seq.0)).unwrap_or_else(|_| HeaderValue::from_static("\"0\""))
}

/// The versions a client is willing to change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IfMatch {
    /// No `If-Match`, or `*`: whichever is there.
    Any,
    /// One of these. Versions that can't be ours, and weak ones, match nothing and are left out.
    OneOf(Vec<Seq>),
}

impl IfMatch {
    /// What to expect of a record that is at `current`: a version the change must still find, or none to take any.
    #[must_use]
    pub fn expected(&self, current: Seq) -> Option<Seq> {
        match self {
            Self::Any => None,
            Self::OneOf(versions) if versions.contains(&current) => Some(current),
            Self::OneOf(_) => Some(NEVER),
        }
    }
}

impl<S: Send + Sync> FromRequestParts<S> for IfMatch {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self> {
        let mut versions = Vec::new();
        let mut any = true;
        for value in parts.headers.get_all(header::IF_MATCH) {
            any = false;
            let value = value.to_str().map_err(|_| unreadable())?;
            if value.trim() == "*" {
                return Ok(Self::Any);
            }
            for tag in value.split(',').map(str::trim).filter(|tag| !tag.is_empty()) {
                let weak = tag.starts_with("W/");
                let opaque = tag.trim_start_matches("W/").strip_prefix('"').and_then(|tag| tag.strip_suffix('"'));
                let opaque = opaque.ok_or_else(unreadable)?;
                versions.extend(opaque.parse().ok().filter(|_| !weak).map(Seq));
            }
        }
        Ok(if any { Self::Any } else { Self::OneOf(versions) })
    }
}

fn unreadable() -> Problem {
    Problem::parameter("If-Match", "If-Match is `*` or a list of quoted versions, such as \"12\"")
}

/// The version of no record. (0 is one: a device that no admin and no registrar has touched yet.)
const NEVER: Seq = Seq(u64::MAX);

#[cfg(test)]
mod tests {
    use axum::http::Request;

    use super::*;

    async fn read(values: &[&str]) -> Result<IfMatch> {
        let mut request = Request::builder();
        for value in values {
            request = request.header(header::IF_MATCH, *value);
        }
        IfMatch::from_request_parts(&mut request.body(()).unwrap().into_parts().0, &()).await
    }

    #[tokio::test]
    async fn if_match_lists_the_versions_a_client_will_change() {
        assert_eq!(read(&[]).await.unwrap(), IfMatch::Any);
        assert_eq!(read(&["*"]).await.unwrap(), IfMatch::Any);
        assert_eq!(read(&["\"7\""]).await.unwrap(), IfMatch::OneOf(vec![Seq(7)]));
        assert_eq!(read(&["\"7\", \"x\"", "\"9\""]).await.unwrap(), IfMatch::OneOf(vec![Seq(7), Seq(9)]));
        assert_eq!(
            read(&["W/\"7\""]).await.unwrap(),
            IfMatch::OneOf(vec![]),
            "weak tags never match (RFC 9110 §13.1.1)"
        );
        for bad in ["7", "\"7", "W/7", "\u{e9}"] {
            assert!(read(&[bad]).await.is_err(), "{bad}");
        }
    }

    #[test]
    fn a_version_that_is_not_the_present_one_is_never_found() {
        assert_eq!(IfMatch::Any.expected(Seq(3)), None);
        assert_eq!(IfMatch::OneOf(vec![Seq(2), Seq(3)]).expected(Seq(3)), Some(Seq(3)));
        for versions in [vec![], vec![Seq(2)]] {
            for current in [Seq(0), Seq(3)] {
                assert_ne!(IfMatch::OneOf(versions.clone()).expected(current).unwrap(), current);
            }
        }
        assert_eq!(etag(Seq(3)), "\"3\"");
    }
}
