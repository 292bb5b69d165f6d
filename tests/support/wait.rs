//! Waiting for something to become so, without sleeping longer than needed.

use std::time::{Duration, Instant};

/// Asks `look` until it answers, for at most [`PATIENCE`]; panics with `what` when it never does.
pub async fn until<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(Instant::now() < end, "waited {PATIENCE:?} in vain: {what}");
        tokio::time::sleep(PAUSE).await;
    }
}

/// Long enough for a busy machine with two cores, short enough for a person.
pub const PATIENCE: Duration = Duration::from_secs(20);
const PAUSE: Duration = Duration::from_millis(20);
