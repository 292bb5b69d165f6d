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
use crate::ingest::webhook::Webhook;
use crate::registry::{ChangeError, Registry};
use crate::store::Seq;

/// What every handler is given. Cheap to clone.
#[derive(Clone)]
pub struct AppState {
    /// Everything we know.
    pub registry: Arc<Registry>,
    /// Where posted events go.
    pub webhook: Arc<Webhook>,
    /// The clocks.
    pub clock: Clock,
    /// The realm that SIP passwords are set under.
    pub realm: Arc<str>,
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
    /// How long a PBX may take to confirm a change.
    pub confirm_wait: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self { body_bytes_max: 256 * 1024, heartbeat: Duration::from_secs(15), confirm_wait: CONFIRM_WAIT }
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

const CONFIRM_WAIT: Duration = Duration::from_secs(5);
const NOT_STORED: &str = "the database has not confirmed this yet: it is not known to be stored, and may still commit; \
                          asking again is safe";

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;
    use sqlx::Connection as _;

    use crate::http::testing::Office;
    use crate::model::{Binding, BindingSource};
    use crate::registry::Change;

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

    #[tokio::test]
    async fn what_an_answer_leaves_out_is_gone_for_good_or_the_answer_waits() {
        let office = Office::waiting(Duration::from_millis(100)).await;
        let (device, other) = (office.phone("204").await, office.phone("205").await);
        let ((ann, agent), (bob, _)) = (office.user("ann").await, office.user("bob").await);
        let linked = format!("/v1/users/{ann}/devices/{device}");
        assert_eq!(office.put(&linked).await.status, 201);
        let stalled = office.stall().await;
        assert_eq!(office.get("/v1/users").await.status, 200, "what is stored is read all the same");
        assert_eq!(office.delete(&linked).await.problem(), (503, "not-stored"));
        for path in [format!("/v1/devices/{device}"), "/v1/devices".into(), format!("/v1/users/{ann}/devices")] {
            assert_eq!(office.get(&path).await.problem(), (503, "not-stored"), "{path} shows nobody linked");
        }
        let mine = office.call("GET", "/v1/me/devices", &agent, &[], None).await;
        assert_eq!(mine.problem(), (503, "not-stored"));
        assert_eq!(office.get(&format!("/v1/devices/{other}")).await.status, 200, "nothing of this one changed");
        assert_eq!(office.delete(&format!("/v1/users/{bob}")).await.problem(), (503, "not-stored"));
        assert_eq!(office.get("/v1/users").await.problem(), (503, "not-stored"), "a list without Bob");
        stalled.close().await.unwrap();
        for path in ["/v1/users".to_owned(), "/v1/devices".into(), format!("/v1/users/{ann}/devices")] {
            assert_eq!(patient(async || office.get(&path).await).await, 200);
        }
    }

    #[tokio::test]
    async fn a_user_named_beside_a_device_is_named_as_stored() {
        let office = Office::waiting(Duration::from_millis(100)).await;
        let (device, (ann, _)) = (office.phone("204").await, office.user("ann").await);
        assert_eq!(office.put(&format!("/v1/users/{ann}/devices/{device}")).await.status, 201);
        let stalled = office.stall().await;
        let renamed = office.patch(&format!("/v1/users/{ann}"), &json!({"name": "Anna"})).await;
        assert_eq!(renamed.problem(), (503, "not-stored"));
        assert_eq!(office.get(&format!("/v1/devices/{device}")).await.problem(), (503, "not-stored"));
        stalled.close().await.unwrap();
        assert_eq!(patient(async || office.get(&format!("/v1/devices/{device}")).await).await, 200);
    }

    #[tokio::test]
    async fn a_phone_that_unregisters_from_a_device_just_deleted_waits_for_the_deletion() {
        let office = Office::waiting(Duration::from_millis(100)).await;
        let device = office.phone("204").await;
        let target = office.registry.resolve(office.pbx, "204", "pbx.local").unwrap();
        let stalled = office.stall().await;
        assert_eq!(office.delete(&format!("/v1/devices/{device}")).await.problem(), (503, "not-stored"));
        let now = office.clock.now();
        let gone = |known: &[Binding]| (Change::Keep, known.len());
        let registered = office.registry.register(&target, BindingSource::Registrar, now, gone);
        assert_eq!(registered.value, 0);
        assert!(registered.seq.is_some_and(|seq| !office.registry.is_stored(seq)), "a crash would bring it back");
        stalled.close().await.unwrap();
        while !office.registry.is_stored(registered.seq.unwrap()) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
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
