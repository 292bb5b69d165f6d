//! What every handler is given.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};

use super::etag::etag;
use super::problem::{Kind, Problem, Result};
use crate::clock::Clock;
use crate::registry::{ChangeError, Registry};
use crate::store::Seq;

/// What every handler is given. Cheap to clone.
#[derive(Clone)]
pub struct AppState {
    /// Everything we know.
    pub registry: Arc<Registry>,
    /// The clocks.
    pub clock: Clock,
    /// Bounds.
    pub settings: Settings,
}

/// Bounds of the API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Largest body accepted, in bytes.
    pub body_bytes_max: usize,
    /// How often a quiet event stream says that it lives.
    pub heartbeat: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self { body_bytes_max: 256 * 1024, heartbeat: Duration::from_secs(15) }
    }
}

impl AppState {
    /// Waits until the change `seq`, and with it every earlier one of the same record, is on disk.
    ///
    /// # Errors
    /// 503 when the database does not confirm it in time; the change stays and may still commit.
    pub async fn stored(&self, seq: Seq) -> Result<()> {
        self.registry.committed(seq).await.map_err(|_| Problem::new(Kind::NotStored, NOT_STORED))
    }

    /// The same for a thing that was just made at `location`: who is told 503 can look there before trying again.
    ///
    /// # Errors
    /// As [`AppState::stored`], with `Location`.
    pub async fn stored_at(&self, seq: Seq, location: &str) -> Result<()> {
        self.stored(seq).await.map_err(|problem| match HeaderValue::try_from(location) {
            Ok(location) => problem.with_header(header::LOCATION, location),
            Err(_) => problem,
        })
    }
}

/// Keeps back the answer that something is not there until that is on disk: it may have been deleted a moment ago, and a
/// deletion that is lost in a crash would bring it back.
pub async fn certain_of_absence(State(state): State<AppState>, request: Request, next: Next) -> Response {
    let route = request.extensions().get::<MatchedPath>().is_some_and(|path| path.as_str().starts_with("/v1/"));
    let response = next.run(request).await;
    if !route || response.status() != StatusCode::NOT_FOUND {
        return response;
    }
    match state.stored(state.registry.latest()).await {
        Ok(()) => response,
        Err(problem) => problem.into_response(),
    }
}

impl From<ChangeError> for Problem {
    fn from(error: ChangeError) -> Self {
        let detail = error.to_string();
        match error {
            ChangeError::NotFound => Self::new(Kind::NotFound, "there is no such thing"),
            ChangeError::Stale { current } => Self::new(Kind::Stale, detail).with_etag(etag(current)),
            ChangeError::Conflict { .. } => Self::new(Kind::Conflict, detail),
            ChangeError::Limit { .. } => Self::new(Kind::LimitReached, detail),
            ChangeError::InUse { .. } => Self::new(Kind::InUse, detail),
            ChangeError::Invalid { .. } => {
                // The registry names the member first: `site: no such site in this account`.
                let named = detail
                    .split_once(": ")
                    .filter(|(name, _)| name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'));
                let (pointer, detail) =
                    named.map_or((String::new(), &*detail), |(name, detail)| (format!("/{name}"), detail));
                Self::invalid(pointer, detail)
            }
        }
    }
}

const NOT_STORED: &str = "the database has not confirmed this yet: it is not known to be stored, and may still commit; \
                          asking again is safe";

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;
    use sqlx::Connection as _;

    use crate::http::testing::Office;

    #[tokio::test]
    async fn x2_a_write_that_is_not_known_to_be_stored_is_503_and_a_retry_waits_for_the_same_commit() {
        let office = Office::waiting(Duration::from_millis(500)).await;
        let device = office.phone("204").await;
        let (user, _) = office.user("ann").await;
        let stalled = office.stall().await;
        let path = format!("/v1/users/{user}/devices/{device}");
        for _ in 0..2 {
            let answer = office.put(&path).await;
            assert_eq!(answer.problem(), (503, "not-stored"));
            assert_eq!(answer.headers["retry-after"], "2");
            assert!(answer.json["detail"].as_str().unwrap().contains("may still commit"));
        }
        let created = office.post("/v1/users", &json!({"name": "Bob"})).await;
        assert_eq!(created.problem(), (503, "not-stored"));
        let location = created.headers["location"].to_str().unwrap().to_owned();
        assert_eq!(office.get(&location).await.problem(), (503, "not-stored"), "a read of the change waits as well");
        assert_eq!(office.get(&format!("/v1/users/{user}")).await.status, 200, "what is stored is read all the same");
        stalled.close().await.unwrap();
        let linked = patient(async || office.put(&path).await).await;
        assert_eq!(linked, 200, "the link that was asked for first");
        assert_eq!(patient(async || office.get(&location).await).await, 200);
    }

    #[tokio::test]
    async fn what_is_gone_is_gone_only_once_that_is_stored() {
        let office = Office::waiting(Duration::from_millis(500)).await;
        let (user, _) = office.user("ann").await;
        let path = format!("/v1/users/{user}");
        let stalled = office.stall().await;
        assert_eq!(office.delete(&path).await.problem(), (503, "not-stored"));
        assert_eq!(office.delete(&path).await.problem(), (503, "not-stored"), "not 404 yet: it may come back");
        stalled.close().await.unwrap();
        assert_eq!(patient(async || office.delete(&path).await).await, 404);
    }

    /// The status once it is no longer 503.
    async fn patient(ask: impl AsyncFn() -> crate::http::testing::Answer) -> u16 {
        loop {
            let answer = ask().await;
            if answer.status != 503 {
                return answer.status;
            }
        }
    }
}
