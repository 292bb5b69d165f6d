//! What every handler is given.

use std::sync::Arc;
use std::time::Duration;

use axum::http::{HeaderValue, header};

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
