//! The one place that reads the clocks. Everything else is handed a [`Now`].

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use uuid::timestamp::context::ContextV7;
use uuid::{Timestamp, Uuid};

use crate::model::{Now, Tick, UnixMillis};

/// Hands out [`Now`]; cheap to clone, all clones tell the same time.
#[derive(Clone, Debug)]
pub struct Clock(Arc<Inner>);

impl Clock {
    /// The machine's clocks.
    #[must_use]
    pub fn system() -> Self {
        Self::over(Source::System { started: Instant::now() })
    }

    /// A clock that stands still at `unix` until it is told to move; for tests and replays.
    #[must_use]
    pub fn manual(unix: UnixMillis) -> Self {
        Self::over(Source::Manual(Mutex::new(Now { tick: FIRST_TICK, unix })))
    }

    /// This instant on both clocks.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "this is the one place that reads the clocks")]
    pub fn now(&self) -> Now {
        match &self.0.source {
            Source::System { started } => {
                let elapsed_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
                let unix_ms = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
                Now { tick: FIRST_TICK + elapsed_ms, unix: UnixMillis(i64::try_from(unix_ms).unwrap_or(i64::MAX)) }
            }
            Source::Manual(now) => *now.lock().unwrap_or_else(PoisonError::into_inner),
        }
    }

    /// Moves a manual clock forward on both scales. The machine's clocks are left alone.
    pub fn advance(&self, by: Duration) {
        if let Source::Manual(now) = &self.0.source {
            let mut now = now.lock().unwrap_or_else(PoisonError::into_inner);
            *now = now.after(u64::try_from(by.as_millis()).unwrap_or(u64::MAX));
        }
    }

    /// A new `UUIDv7`: ids drawn one after the other sort in that order.
    #[must_use]
    pub fn uuid(&self) -> Uuid {
        let unix_ms = u64::try_from(self.now().unix.0).unwrap_or(0);
        let nanos = u32::try_from(unix_ms % 1000).unwrap_or(0) * 1_000_000;
        let order = self.0.order.lock().unwrap_or_else(PoisonError::into_inner);
        Uuid::new_v7(Timestamp::from_unix(&*order, unix_ms / 1000, nanos))
    }

    /// Starts timing something on the machine's monotonic clock.
    #[must_use]
    pub fn stopwatch() -> Stopwatch {
        Stopwatch(Instant::now())
    }

    fn over(source: Source) -> Self {
        Self(Arc::new(Inner { source, order: Mutex::new(ContextV7::new()) }))
    }
}

/// Time since [`Clock::stopwatch`].
#[derive(Clone, Copy, Debug)]
pub struct Stopwatch(Instant);

impl Stopwatch {
    /// How long ago it was started.
    #[must_use]
    pub fn elapsed(self) -> Duration {
        self.0.elapsed()
    }
}

#[derive(Debug)]
struct Inner {
    source: Source,
    /// Keeps ids drawn within one millisecond in order.
    order: Mutex<ContextV7>,
}

#[derive(Debug)]
enum Source {
    System { started: Instant },
    Manual(Mutex<Now>),
}

/// Tick at start. Far from zero, so that a deadline that passed while we were down still has a place before it.
const FIRST_TICK: Tick = Tick(1 << 40);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manual_clock_moves_only_when_told_and_its_clones_with_it() {
        let clock = Clock::manual(UnixMillis(1_000));
        let (same, before) = (clock.clone(), clock.now());
        assert_eq!(clock.now(), before);
        clock.advance(Duration::from_millis(250));
        assert_eq!(same.now(), before.after(250));
    }

    #[test]
    fn a_deadline_from_before_the_start_keeps_its_place_on_both_clocks() {
        let now = Clock::system().now();
        let day_ago = UnixMillis(now.unix.0 - 86_400_000);
        assert_eq!(now.to_unix(now.to_tick(day_ago)), day_ago);
    }

    #[test]
    fn ids_drawn_one_after_the_other_sort_in_that_order() {
        for clock in [Clock::system(), Clock::manual(UnixMillis(1_700_000_000_123))] {
            let ids: Vec<Uuid> = (0..1000).map(|_| clock.uuid()).collect();
            assert!(ids.is_sorted());
        }
    }
}
