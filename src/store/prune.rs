//! Forgets history by age, in steps small enough that nobody waits for them.

use std::time::Duration;

use super::cell::json;
use super::engine::Engine;
use super::statements::CALLS_GONE;
use super::{Store, StoreError};
use crate::clock::{Clock, Stopwatch};
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
    /// Deletes what is older than it may be, as of `now`, at most [`PRUNE_ROWS_MAX`] rows in one transaction, with commits in
    /// between. Answers how many entries went.
    ///
    /// # Errors
    /// [`StoreError`] when the database can't do it now; what is left goes the next time.
    pub async fn prune(&self, retention: Retention, now: UnixMillis) -> Result<u64, StoreError> {
        let (calls, trails) = (before(now, retention.calls), before(now, retention.trails));
        let mut pruned = self.prune_calls(calls).await?;
        for (sql, before) in [(TRANSITIONS, calls), (TRAIL, trails)] {
            loop {
                let took = Clock::stopwatch();
                let step = self.prune_step(sql, before).await?;
                pruned += step;
                if step < PRUNE_ROWS_MAX {
                    break;
                }
                leave_room(took).await;
            }
        }
        Ok(pruned)
    }

    /// Calls take along who had to do with them, and a call to a large queue that is many rows.
    async fn prune_calls(&self, before: i64) -> Result<u64, StoreError> {
        let (mut pruned, mut from) = (0, i64::MIN);
        loop {
            // Read first, and by the readers: looking for them keeps nobody from writing.
            let oldest = self.oldest_calls(from, before).await?;
            let Some(last) = oldest.last() else { return Ok(pruned) };
            // What is gone is passed over: on Postgres it may still be in the index.
            from = last.1;
            for step in steps(&oldest) {
                let took = Clock::stopwatch();
                let ids: Vec<&str> = step.iter().map(|(id, ..)| id.as_str()).collect();
                pruned += self.delete_calls(json(&ids)).await?;
                leave_room(took).await;
            }
        }
    }

    /// Ids of the oldest calls that began in this time and are over, when they began, and how many rows each is.
    async fn oldest_calls(&self, from: i64, before: i64) -> Result<Vec<(String, i64, i64)>, StoreError> {
        Ok(match &self.engine {
            Engine::Sqlite(sqlite) => {
                sqlx::query_as(OLDEST_CALLS).bind(from).bind(before).bind(limit()).fetch_all(&sqlite.pool).await?
            }
            Engine::Postgres(postgres) => {
                sqlx::query_as(OLDEST_CALLS).bind(from).bind(before).bind(limit()).fetch_all(&postgres.pool).await?
            }
        })
    }

    async fn delete_calls(&self, ids: String) -> Result<u64, StoreError> {
        let _turn = self.engine.turn().await;
        Ok(match &self.engine {
            Engine::Sqlite(sqlite) => {
                sqlx::query(CALLS_GONE.sqlite).bind(ids).execute(&sqlite.pool).await?.rows_affected()
            }
            Engine::Postgres(postgres) => {
                sqlx::query(CALLS_GONE.postgres).bind(ids).execute(&postgres.pool).await?.rows_affected()
            }
        })
    }

    async fn prune_step(&self, sql: &'static str, before: i64) -> Result<u64, StoreError> {
        let _turn = self.engine.turn().await;
        Ok(match &self.engine {
            Engine::Sqlite(sqlite) => {
                sqlx::query(sql).bind(before).bind(limit()).execute(&sqlite.pool).await?.rows_affected()
            }
            Engine::Postgres(postgres) => {
                sqlx::query(sql).bind(before).bind(limit()).execute(&postgres.pool).await?.rows_affected()
            }
        })
    }
}

/// Leaves the database to others for as long as a step took.
async fn leave_room(took: Stopwatch) {
    tokio::time::sleep(took.elapsed().max(PAUSE_MIN)).await;
}

/// Divides calls so that no part is more rows than a transaction may delete, or it is one call.
fn steps(calls: &[(String, i64, i64)]) -> impl Iterator<Item = &[(String, i64, i64)]> {
    let mut rows = 0;
    calls.chunk_by(move |(.., before), (.., rows_of_next)| {
        rows = if rows == 0 { *before } else { rows } + rows_of_next;
        let fits = rows <= limit();
        if !fits {
            rows = 0;
        }
        fits
    })
}

fn before(now: UnixMillis, age: Duration) -> i64 {
    now.0.saturating_sub(i64::try_from(age.as_millis()).unwrap_or(i64::MAX))
}

fn limit() -> i64 {
    i64::try_from(PRUNE_ROWS_MAX).unwrap_or(i64::MAX)
}

/// Most rows one transaction deletes, those that go along (ON DELETE CASCADE) counted; a single call may have more.
pub const PRUNE_ROWS_MAX: u64 = 1_000;

const PAUSE_MIN: Duration = Duration::from_millis(5);

/// A call that still goes on stays.
const OLDEST_CALLS: &str = "SELECT id, began_at, 1 + (SELECT COUNT(*) FROM call_users WHERE call_id = calls.id)
        + (SELECT COUNT(*) FROM call_devices WHERE call_id = calls.id)
    FROM calls WHERE began_at >= $1 AND began_at < $2 AND ended_at IS NOT NULL ORDER BY began_at LIMIT $3";
const TRANSITIONS: &str =
    "DELETE FROM transitions WHERE seq IN (SELECT seq FROM transitions WHERE at < $1 ORDER BY at LIMIT $2)";
const TRAIL: &str = "DELETE FROM trail WHERE seq IN (SELECT seq FROM trail WHERE at < $1 ORDER BY at LIMIT $2)";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_step_deletes_more_rows_than_it_may_unless_it_is_one_call() {
        let of = |rows: &[i64]| -> Vec<Vec<i64>> {
            let calls: Vec<_> = rows.iter().map(|rows| (String::new(), 0, *rows)).collect();
            steps(&calls).map(|step| step.iter().map(|(.., rows)| *rows).collect()).collect()
        };
        assert_eq!(of(&[400, 600, 1, 5_000, 999, 1, 1]), [vec![400, 600], vec![1], vec![5_000], vec![999, 1], vec![1]]);
        assert_eq!(of(&[3; 1_000]).iter().map(Vec::len).collect::<Vec<_>>(), [333, 333, 333, 1]);
        assert!(of(&[]).is_empty());
    }
}
