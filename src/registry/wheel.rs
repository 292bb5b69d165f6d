//! The expiry wheel: which devices to look at in which second.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use crate::model::{DeviceId, Tick};

/// Lazy: nothing is ever cancelled. Who takes a device out checks its deadlines and puts it back when they moved.
#[derive(Debug, Default)]
pub(super) struct Wheel {
    seconds: Mutex<BTreeMap<u64, Vec<DeviceId>>>,
}

impl Wheel {
    /// Look at `device` once `deadline` has passed.
    pub(super) fn insert(&self, deadline: Tick, device: DeviceId) {
        let mut seconds = self.seconds.lock().unwrap_or_else(PoisonError::into_inner);
        seconds.entry(deadline.0.div_ceil(SECOND_MS)).or_default().push(device);
    }

    /// Up to `max` devices to look at now, oldest deadlines first.
    pub(super) fn due(&self, now: Tick, max: usize) -> Vec<DeviceId> {
        let mut seconds = self.seconds.lock().unwrap_or_else(PoisonError::into_inner);
        let mut due = Vec::new();
        while due.len() < max
            && let Some(mut second) = seconds.first_entry()
            && *second.key() <= now.0 / SECOND_MS
        {
            let devices = second.get_mut();
            let rest = devices.len().saturating_sub(max - due.len());
            due.extend(devices.drain(rest..));
            if devices.is_empty() {
                second.remove();
            }
        }
        due
    }
}

const SECOND_MS: u64 = 1000;

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn a_device_comes_out_once_its_deadline_has_passed_and_not_before() {
        let (wheel, device) = (Wheel::default(), DeviceId(Uuid::from_u128(1)));
        wheel.insert(Tick(10_500), device);
        assert_eq!(wheel.due(Tick(10_999), 10), []);
        assert_eq!(wheel.due(Tick(11_000), 10), [device]);
        assert_eq!(wheel.due(Tick(99_000), 10), []);
    }

    #[test]
    fn a_storm_comes_out_in_slices_and_nothing_is_lost() {
        let wheel = Wheel::default();
        for n in 0..10 {
            wheel.insert(Tick(1_000 + n % 2 * 1_000), DeviceId(Uuid::from_u128(u128::from(n))));
        }
        let mut seen = Vec::new();
        loop {
            let slice = wheel.due(Tick(5_000), 3);
            if slice.is_empty() {
                break;
            }
            assert!(slice.len() <= 3);
            seen.extend(slice);
        }
        seen.sort();
        assert_eq!(seen, (0..10).map(|n| DeviceId(Uuid::from_u128(n))).collect::<Vec<_>>());
    }
}
