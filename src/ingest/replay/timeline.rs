//! The capture's clock: it moves when the stamps do.

use crate::model::{Now, Tick, UnixMillis};

/// Turns stamps into instants. Deadlines count on elapsed capture time, which never goes back, whatever stamps do.
#[derive(Debug)]
pub(super) struct Timeline {
    /// The latest stamp; none before the first.
    last_us: Option<i64>,
    elapsed_us: u64,
    now: Now,
    /// Stamps a little older than the one before.
    pub(super) out_of_order: u64,
    /// Times the capturing machine's clock was set back.
    pub(super) set_back: u64,
}

impl Timeline {
    pub(super) fn new() -> Self {
        let now = Now { tick: FIRST_TICK, unix: UnixMillis(0) };
        Self { last_us: None, elapsed_us: 0, now, out_of_order: 0, set_back: 0 }
    }

    /// The instant of this stamp. One that comes out of order counts as the latest before it.
    pub(super) fn at(&mut self, stamp_us: i64) -> Now {
        let last_us = *self.last_us.get_or_insert(stamp_us);
        let forward = stamp_us.saturating_sub(last_us);
        if forward < 0 && forward > -DISORDER_US {
            self.out_of_order += 1;
            return self.now;
        }
        if forward < 0 {
            self.set_back += 1;
        }
        self.last_us = Some(stamp_us);
        self.elapsed_us = self.elapsed_us.saturating_add(u64::try_from(forward).unwrap_or(0));
        let tick = FIRST_TICK + self.elapsed_us / 1000;
        self.now = Now { tick, unix: UnixMillis(stamp_us.div_euclid(1000)) };
        self.now
    }

    /// The instant of the latest stamp.
    pub(super) fn now(&self) -> Now {
        self.now
    }
}

/// Far from zero, as the daemon's own first tick.
const FIRST_TICK: Tick = Tick(1 << 40);
/// Capture points are merged and cards take their time: stamps may be out of order by less than this.
const DISORDER_US: i64 = 10_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stamps_out_of_order_do_not_turn_time_back_and_a_clock_set_back_expires_nothing() {
        let mut timeline = Timeline::new();
        let start = timeline.at(1_000_000_000_000);
        let later = timeline.at(1_000_000_500_000);
        assert_eq!((later.tick - start.tick, later.unix), (500, UnixMillis(1_000_000_500)));
        assert_eq!((timeline.at(1_000_000_400_000), timeline.out_of_order), (later, 1));
        let back = timeline.at(500_000_000_000);
        assert_eq!((back.tick, back.unix, timeline.set_back), (later.tick, UnixMillis(500_000_000), 1));
        assert_eq!(timeline.at(500_000_001_000).tick, later.tick + 1);
        timeline.at(i64::MAX);
        timeline.at(i64::MIN);
        assert!(timeline.at(i64::MAX).tick > later.tick);
    }
}
