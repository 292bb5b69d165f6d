//! Forgets history by age, in steps small enough that nobody waits for them.

use std::time::Duration;

use super::engine::Engine;
use super::{Store, StoreError};
use crate::model::UnixMillis;

/// How long history is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Calls, and devices going up and down.
    pub calls: Duration,
    /// The reasons behind popups.
    pub trails: Duration,
}

impl Default for Retention {
    fn default() -> Self {
        Self { calls: Duration::from_hours(90 * 24), trails: Duration::from_hours(30 * 24) }
    }
}

impl Store {
    /// Deletes what is older than it may be, as of `now`. Answers how many entries went.
    ///
    /// # Errors
    /// [`StoreError`] when the database can't do it now; what is left goes the next time.
    pub async fn prune(&self, retention: Retention, now: UnixMillis) -> Result<u64, StoreError> {
        let (calls, trails) = (before(now, retention.calls), before(now, retention.trails));
        let mut pruned = 0;
        for (sql, before) in [(CALLS, calls), (TRANSITIONS, calls), (TRAIL, trails)] {
            loop {
                let step = self.prune_step(sql, before).await?;
                pruned += step;
                if step < STEP {
                    break;
                }
                tokio::time::sleep(PAUSE).await;
            }
        }
        Ok(pruned)
    }

    async fn prune_step(&self, sql: &'static str, before: i64) -> Result<u64, StoreError> {
        let step = i64::try_from(STEP).unwrap_or(i64::MAX);
        Ok(match &self.engine {
            Engine::Sqlite(sqlite) => {
                sqlx::query(sql).bind(before).bind(step).execute(&sqlite.pool).await?.rows_affected()
            }
            Engine::Postgres(postgres) => {
                sqlx::query(sql).bind(before).bind(step).execute(&postgres.pool).await?.rows_affected()
            }
        })
    }
}

fn before(now: UnixMillis, age: Duration) -> i64 {
    now.0.saturating_sub(i64::try_from(age.as_millis()).unwrap_or(i64::MAX))
}

/// Who had to do with them goes along (ON DELETE CASCADE). A call that still goes on stays.
const CALLS: &str = "DELETE FROM calls WHERE id IN
    (SELECT id FROM calls WHERE began_at < $1 AND ended_at IS NOT NULL ORDER BY began_at LIMIT $2)";
const TRANSITIONS: &str =
    "DELETE FROM transitions WHERE seq IN (SELECT seq FROM transitions WHERE at < $1 ORDER BY at LIMIT $2)";
const TRAIL: &str = "DELETE FROM trail WHERE seq IN (SELECT seq FROM trail WHERE at < $1 ORDER BY at LIMIT $2)";

/// Entries deleted at once.
const STEP: u64 = 500;

/// Between two steps, for others.
const PAUSE: Duration = Duration::from_millis(50);
