//! A step of the wall clock. In memory it moves nothing, since deadlines there are monotonic; but what is stored bears the
//! wall's time, and a restart after the step would take it for long past, or far away.

use std::sync::Weak;
use std::time::Duration;

use super::Registry;
use crate::model::{DeviceId, Now};
use crate::store::{DirtyKey, Kind};

/// How far the wall clock is ahead of the monotonic one.
#[derive(Debug)]
pub(super) struct Wall {
    ahead_ms: i64,
}

impl Wall {
    /// As at `now`.
    pub(super) fn at(now: Now) -> Self {
        Self { ahead_ms: ahead_ms(now) }
    }

    /// By how many milliseconds it was stepped since it was last asked, forward when positive. None when it goes with the
    /// monotonic clock, or as nearly as a clock does that is being slewed.
    pub(super) fn stepped(&mut self, now: Now) -> Option<i64> {
        let ahead_ms = ahead_ms(now);
        let step_ms = ahead_ms.saturating_sub(self.ahead_ms);
        if step_ms.unsigned_abs() < STEP_MS {
            return None;
        }
        self.ahead_ms = ahead_ms;
        Some(step_ms)
    }
}

/// Writes the bindings of all devices anew, with their ends by the wall as it now is; no more at once than one commit takes,
/// so that nobody's answer has to wait for all of them.
pub(super) async fn restate(registry: Weak<Registry>) {
    let devices: Vec<DeviceId> = match registry.upgrade() {
        Some(registry) => registry.devices.records.iter().map(|record| record.id).collect(),
        None => return,
    };
    for some in devices.chunks(SLICE) {
        let Some(registry) = registry.upgrade() else { return };
        let mut last = None;
        for device in some {
            // Under the record's lock, as with every mark.
            if registry.devices.records.get(device).is_some_and(|record| !record.bindings.is_empty()) {
                last = Some(registry.journal.mark(DirtyKey { kind: Kind::Bindings, id: device.0 }));
            }
        }
        if let Some(last) = last {
            // When the database is away the rest may as well wait in memory with these.
            let _ = registry.journal.committed(last, PATIENCE).await;
        }
    }
}

fn ahead_ms(now: Now) -> i64 {
    now.unix.0.saturating_sub(i64::try_from(now.tick.0).unwrap_or(i64::MAX))
}

/// NTP slews by at most half a millisecond a second, so that a clock it mends is restated seldom; and no phone's time is so
/// short that this much matters to it.
const STEP_MS: u64 = 10_000;
const SLICE: usize = 2_000;
const PATIENCE: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Tick, UnixMillis};

    #[test]
    fn a_step_is_told_once_each_way_and_the_passing_of_time_is_none() {
        let at = |tick, unix| Now { tick: Tick(tick), unix: UnixMillis(unix) };
        let mut wall = Wall::at(at(1_000, 50_000));
        assert_eq!(wall.stepped(at(90_001_000, 90_050_000)), None);
        assert_eq!(wall.stepped(at(90_002_000, 93_651_000)), Some(3_600_000));
        assert_eq!(wall.stepped(at(90_003_000, 93_652_000)), None);
        assert_eq!(wall.stepped(at(90_004_000, 90_053_000)), Some(-3_600_000));
    }

    #[test]
    fn a_clock_that_drifts_is_noticed_when_it_is_far_off() {
        let at = |tick: u64| Now { tick: Tick(tick), unix: UnixMillis(i64::try_from(tick + tick / 2_000).unwrap()) };
        let mut wall = Wall::at(at(0));
        let told = (1..=40_000).filter(|second| wall.stepped(at(second * 1_000)).is_some()).count();
        assert_eq!(told, 2);
    }
}
