//! Feeds that connect out: one trait, and the supervisor that retries. A feed itself never does.

use std::future::Future;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::model::UnixMillis;
use crate::registry::FeedHandle;

/// One way events reach us over a connection of our own.
pub trait Feed: Send {
    /// Connects, subscribes, takes a snapshot and follows, until something breaks. Dropping the future at any await ends
    /// the session cleanly.
    fn session(&mut self) -> impl Future<Output = FeedError> + Send;

    /// Its PBX is gone, or out of reach for so long that what it told last can't be taken for true any more: its live
    /// legs are to be ended, so that no popup stays open.
    fn abandon(&mut self);
}

/// Why a session ended, in words for a person; never with a secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FeedError {
    /// The other side does not let us in: asking again soon is no use, and may get us banned.
    #[error("{0}")]
    Refused(String),
    /// It could not be reached, or the connection broke.
    #[error("{0}")]
    Broken(String),
    /// The host answers and nobody listens there, or the PBX said goodbye: it does not run.
    #[error("{0}")]
    Gone(String),
}

/// Runs a feed until `stop`: after an error it waits, longer each time, and tries again.
pub async fn supervise(mut feed: impl Feed, handle: FeedHandle, clock: Clock, stop: CancellationToken) {
    let mut failures = 0_u32;
    let mut last_well = clock.now();
    let mut abandoned = false;
    loop {
        let began = clock.now();
        handle.connecting(began);
        let error = tokio::select! {
            () = stop.cancelled() => return,
            error = feed.session() => error,
        };
        let now = clock.now();
        failures = if now.tick - began.tick > STEADY_MS { 1 } else { failures.saturating_add(1) };
        if handle.is_up() {
            (last_well, abandoned) = (now, false);
        }
        let given_up = matches!(error, FeedError::Gone(_)) || now.tick - last_well.tick > OUT_OF_REACH_MS;
        if given_up && !abandoned {
            abandoned = true;
            feed.abandon();
        }
        let wait = wait_after(&error, failures, clock.uuid().as_u128());
        tracing::warn!(feed = handle.name(), %error, retry_ms = wait, "a feed broke");
        handle.failed(now, &error.to_string(), UnixMillis(now.unix.0.saturating_add_unsigned(wait)));
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(Duration::from_millis(wait)) => {}
        }
    }
}

/// Milliseconds until the next attempt: doubling from the first, with a quarter of it left to chance so that many feeds
/// do not return at once.
fn wait_after(error: &FeedError, failures: u32, chance: u128) -> u64 {
    let (first, most) = match error {
        FeedError::Refused(_) => (REFUSED_MS, REFUSED_MAX_MS),
        FeedError::Broken(_) | FeedError::Gone(_) => (BROKEN_MS, BROKEN_MAX_MS),
    };
    let wait = first.saturating_mul(1 << failures.saturating_sub(1).min(16)).min(most);
    let jitter = u64::try_from(chance % u128::from(wait / 4 + 1)).unwrap_or(0);
    wait - jitter
}

/// A session that lasted so long was a good one: the next wait is the first again.
const STEADY_MS: u64 = 60_000;
/// A PBX out of reach for so long has most likely lost its calls, and nobody could tell us of their ends.
const OUT_OF_REACH_MS: u64 = 30_000;
const BROKEN_MS: u64 = 1_000;
const BROKEN_MAX_MS: u64 = 60_000;
const REFUSED_MS: u64 = 30_000;
const REFUSED_MAX_MS: u64 = 600_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_a_bound_and_a_refusal_waits_longer() {
        let broken = |failures| wait_after(&FeedError::Broken(String::new()), failures, 0);
        assert_eq!([1, 2, 3, 7, 40].map(broken), [1_000, 2_000, 4_000, 60_000, 60_000]);
        let refused = |failures| wait_after(&FeedError::Refused(String::new()), failures, 0);
        assert_eq!([1, 2, 9].map(refused), [30_000, 60_000, 600_000]);
    }

    #[test]
    fn chance_shortens_a_wait_by_a_quarter_at_most() {
        for chance in 0..2_000 {
            let wait = wait_after(&FeedError::Broken(String::new()), 1, chance);
            assert!((750..=1_000).contains(&wait), "{wait}");
        }
    }
}
