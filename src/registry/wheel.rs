//! The expiry wheel: which devices to look at in which second.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::model::{DeviceId, Tick};

/// Devices by the second in which to look at them. Lazy where that is cheap: a deadline that moves later is found out
/// when the earlier one comes. One that moves earlier takes the old one out, or a phone that asks for less time again
/// and again would fill the wheel.
#[derive(Debug, Default)]
pub(super) struct Wheel {
    seconds: Mutex<BTreeSet<(u64, DeviceId)>>,
}

impl Wheel {
    /// Look at `device` once `deadline` has passed.
    pub(super) fn insert(&self, deadline: Tick, device: DeviceId) {
        self.seconds().insert((second(deadline), device));
    }

    /// [`Wheel::insert`] for many at once, which costs a fraction.
    pub(super) fn insert_all(&self, deadlines: Vec<(Tick, DeviceId)>) {
        let mut many: BTreeSet<_> =
            deadlines.into_iter().map(|(deadline, device)| (second(deadline), device)).collect();
        self.seconds().append(&mut many);
    }

    /// Undoes [`Wheel::insert`].
    pub(super) fn remove(&self, deadline: Tick, device: DeviceId) {
        self.seconds().remove(&(second(deadline), device));
    }

    /// Up to `max` devices to look at now, oldest deadlines first.
    pub(super) fn due(&self, now: Tick, max: usize) -> Vec<DeviceId> {
        let mut seconds = self.seconds();
        let mut due = Vec::new();
        while due.len() < max && seconds.first().is_some_and(|(at, _)| *at <= now.0 / SECOND_MS) {
            due.extend(seconds.pop_first().map(|(_, device)| device));
        }
        due
    }

    fn seconds(&self) -> MutexGuard<'_, BTreeSet<(u64, DeviceId)>> {
        self.seconds.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn second(deadline: Tick) -> u64 {
    deadline.0.div_ceil(SECOND_MS)
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

    #[tokio::test]
    async fn a_phone_that_asks_for_less_and_less_time_is_in_the_wheel_once() {
        use crate::clock::Clock;
        use crate::model::{Binding, BindingSource, Transport, UnixMillis};
        use crate::registry::{Change, Limits, Registry};

        let folder = tempfile::tempdir().unwrap();
        let store = crate::store::Store::open(&format!("sqlite:{}", folder.path().join("test.db").display())).await;
        let registry = Registry::open(store.unwrap(), Clock::manual(UnixMillis(0)), Limits::default()).await.unwrap();
        let defaults = registry.ensure_defaults().unwrap();
        let target = registry.resolve(defaults.pbx, "101", "pbx.local").unwrap();
        let now = registry.clock().now();
        for cseq in 0..100 {
            let binding = Binding {
                contact: "sip:101@192.0.2.7".into(),
                expires_at: now.tick + (7_200_000 - u64::from(cseq) * 60_000),
                q: 1000,
                transport: Transport::Udp,
                source: BindingSource::Registrar,
                cseq,
                call_id: "a".into(),
                received: None,
                user_agent: None,
                path: None,
                instance: None,
                reg_id: None,
                refreshed_at: now.unix,
            };
            registry.register(&target, BindingSource::Registrar, now, |_| (Change::Set(vec![binding]), ()));
        }
        assert_eq!(registry.devices.wheel.seconds().len(), 1);
        registry.delete_device(target.device(), None).unwrap();
        assert_eq!(registry.devices.wheel.seconds().len(), 0);
    }
}
