//! How devices are: what PBXs, or we, found when they asked their contacts whether they live, and what the last day's
//! history and the bindings say.
//!
//! Answers to OPTIONS are kept in memory only: whoever asks tells them again. What happened in a day is counted in the
//! history, which a restart does not forget.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use dashmap::DashMap;
use serde::Serialize;
use smallvec::SmallVec;

use super::contact::contact_key;
use super::record::Record;
use super::{Registry, Target};
use crate::model::{Binding, DeviceId, DeviceState, Now, TransitionKind, UnixMillis};
use crate::store::{Seq, StoreError};

/// How a device is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct Health {
    /// The device.
    pub device: DeviceId,
    /// What its bindings and its switch say.
    pub state: DeviceState,
    /// Whether its PBX, or we where it is registered here, reached it when it was last asked (OPTIONS); none where nobody
    /// asks.
    pub reachable: Option<bool>,
    /// Round trip of that, in microseconds; the fastest contact's.
    pub round_trip_us: Option<u32>,
    /// When a binding was last set or refreshed.
    pub refreshed_at: Option<UnixMillis>,
    /// How often it went down in the last 24 hours.
    pub flaps: u32,
    /// How often its address changed in the last 24 hours.
    pub address_changes: u32,
    /// How often its user agent changed in the last 24 hours.
    pub user_agent_changes: u32,
    /// Two phones use its address-of-record: live contacts at different addresses and of different instances.
    pub duplicate: bool,
    /// Its contacts.
    pub contacts: Vec<ContactHealth>,
    /// What is not as it should be, in the order of this list's words; empty when it is fine.
    pub troubles: Vec<Trouble>,
}

/// How one contact of a device is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct ContactHealth {
    /// Its URI.
    #[schema(value_type = String)]
    pub contact: Box<str>,
    /// Where it was heard from.
    #[schema(value_type = Option<String>)]
    pub address: Option<SocketAddr>,
    /// Its user agent.
    #[schema(value_type = Option<String>)]
    pub user_agent: Option<Arc<str>>,
    /// When it was last refreshed.
    pub refreshed_at: UnixMillis,
    /// When it ends.
    pub expires_at: UnixMillis,
    /// Whether its PBX, or we, reached it when it was last asked.
    pub reachable: Option<bool>,
    /// Since when that is so.
    pub reachable_since: Option<UnixMillis>,
    /// Round trip, in microseconds.
    pub round_trip_us: Option<u32>,
}

/// What can be wrong with a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Trouble {
    /// No contact is bound: the phone is off, or can't log in.
    Unregistered,
    /// Its bindings are past their time.
    Stale,
    /// It is bound, and its PBX, or we, can't reach it: a NAT or firewall closed the way, or it went without a word.
    Unreachable,
    /// It went down three times or more in 24 hours.
    Flapping,
    /// Its address changed three times or more in 24 hours.
    AddressChanging,
    /// Its user agent changed in the last 24 hours.
    UserAgentChanged,
    /// Two phones use its address-of-record.
    Duplicate,
}

/// What was found when contacts were asked whether they live.
#[derive(Debug, Default)]
pub(super) struct Pings {
    devices: DashMap<DeviceId, SmallVec<[Ping; 1]>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Ping {
    /// The contact; none = the device as a whole.
    contact: Option<Box<str>>,
    reachable: Option<bool>,
    since: UnixMillis,
    round_trip_us: Option<u32>,
}

impl Registry {
    /// What the PBX's own OPTIONS say of a contact, or of a device as a whole. It is health: no binding begins or ends
    /// by it.
    pub fn reachability(
        &self,
        target: &Target<'_>,
        uri: Option<&str>,
        reachable: Option<bool>,
        rtt_us: Option<u32>,
        now: Now,
    ) {
        let device = target.device();
        if !self.devices.records.contains_key(&device) {
            return;
        }
        let before = self.health.reachable(device);
        self.health.note(device, uri, reachable, rtt_us, now);
        self.tell_reachable(device, before);
    }

    /// What our own OPTIONS say of a contact that registered here: the round trip in microseconds, or that there was no
    /// answer.
    pub fn contact_asked(&self, device: DeviceId, uri: &str, round_trip_us: Option<u32>, now: Now) {
        let is_bound = |record: &Record| record.bindings.iter().any(|bound| bound.contact() == uri);
        if !self.devices.records.get(&device).is_some_and(|record| is_bound(&record)) {
            return;
        }
        let before = self.health.reachable(device);
        self.health.note(device, Some(uri), Some(round_trip_us.is_some()), round_trip_us, now);
        self.tell_reachable(device, before);
    }

    /// How a device is; none when there is no such device.
    ///
    /// # Errors
    /// [`StoreError`] when the database can't tell the last day's history.
    pub async fn device_health(&self, device: DeviceId) -> Result<Option<Health>, StoreError> {
        let now = self.clock.now();
        let Some(view) = self.device(device) else { return Ok(None) };
        self.settle().await;
        let since = UnixMillis(now.unix.0.saturating_sub(DAY_MS));
        let counts = self.store.transitions_since(device, since).await?;
        let count = |kind| counts.iter().find(|(of, _)| *of == kind).map_or(0, |(_, count)| *count);
        let bindings = self.bindings(device);
        let contacts: Vec<ContactHealth> =
            bindings.iter().map(|binding| self.health.of_contact(device, binding, now)).collect();
        let health = Health {
            device,
            state: view.state,
            reachable: self.health.reachable(device),
            round_trip_us: self.health.round_trip(device),
            refreshed_at: view.bindings.refreshed_at,
            flaps: count(TransitionKind::Down),
            address_changes: count(TransitionKind::AddressChanged),
            user_agent_changes: count(TransitionKind::UserAgentChanged),
            duplicate: is_duplicate(&bindings, now),
            contacts,
            troubles: Vec::new(),
        };
        Ok(Some(Health { troubles: troubles(&health), ..health }))
    }

    /// Whether the PBX reached the device when it last asked.
    #[must_use]
    pub fn is_reachable(&self, device: DeviceId) -> Option<bool> {
        self.health.reachable(device)
    }

    /// Whether two phones use the device's address-of-record.
    #[must_use]
    pub fn is_duplicate(&self, device: DeviceId) -> bool {
        let now = self.clock.now();
        let shared = self.devices.records.get(&device).is_some_and(|record| record.bindings.len() > 1);
        shared && is_duplicate(&self.bindings(device), now)
    }

    /// A leg of it rings or calls, so it can be reached.
    pub(super) fn proved_alive(&self, device: DeviceId, now: Now) {
        let before = self.health.reachable(device);
        if before == Some(false) {
            self.health.proved_alive(device, now);
            self.tell_reachable(device, before);
        }
    }

    fn tell_reachable(&self, device: DeviceId, before: Option<bool>) {
        let after = self.health.reachable(device);
        // A first answer is news only when it is a bad one.
        let event = match (before, after) {
            (None | Some(true), Some(false)) => "device.unreachable",
            (Some(false), Some(true)) => "device.reachable",
            _ => return,
        };
        if let Some(view) = self.device(device) {
            self.announce_device(event, &view, Seq(0));
        }
    }
}

impl Pings {
    /// No contact of it is there any more.
    pub(super) fn forget(&self, device: DeviceId) {
        self.devices.remove(&device);
    }

    /// This contact is gone.
    pub(super) fn forget_contact(&self, device: DeviceId, uri: &str) {
        if !self.devices.contains_key(&device) {
            return;
        }
        let key = contact_key(uri);
        self.devices.remove_if_mut(&device, |_, pings| {
            pings.retain(|ping| ping.contact.as_deref().is_none_or(|known| !same(known, uri, key.as_ref())));
            pings.is_empty()
        });
    }

    fn note(&self, device: DeviceId, uri: Option<&str>, reachable: Option<bool>, rtt_us: Option<u32>, now: Now) {
        let mut pings = self.devices.entry(device).or_default();
        let key = uri.and_then(contact_key);
        let known = pings.iter_mut().find(|ping| match (ping.contact.as_deref(), uri) {
            (Some(known), Some(uri)) => same(known, uri, key.as_ref()),
            (None, None) => true,
            _ => false,
        });
        if let Some(ping) = known {
            if reachable.is_some() && ping.reachable != reachable {
                ping.reachable = reachable;
                ping.since = now.unix;
            }
            // An unanswered question has no round trip.
            ping.round_trip_us = if ping.reachable == Some(false) { None } else { rtt_us.or(ping.round_trip_us) };
            return;
        }
        if pings.len() >= CONTACTS_MAX {
            // Contacts come and go; those that were asked last stay.
            pings.remove(0);
        }
        let round_trip_us = rtt_us.filter(|_| reachable != Some(false));
        pings.push(Ping { contact: uri.map(Into::into), reachable, since: now.unix, round_trip_us });
    }

    fn proved_alive(&self, device: DeviceId, now: Now) {
        let Some(mut pings) = self.devices.get_mut(&device) else { return };
        for ping in pings.iter_mut().filter(|ping| ping.reachable == Some(false)) {
            ping.reachable = Some(true);
            ping.since = now.unix;
        }
    }

    /// One contact that answers is enough.
    fn reachable(&self, device: DeviceId) -> Option<bool> {
        let pings = self.devices.get(&device)?;
        pings.iter().filter_map(|ping| ping.reachable).reduce(|one, other| one || other)
    }

    fn round_trip(&self, device: DeviceId) -> Option<u32> {
        self.devices.get(&device)?.iter().filter_map(|ping| ping.round_trip_us).min()
    }

    fn of_contact(&self, device: DeviceId, binding: &Binding, now: Now) -> ContactHealth {
        let key = contact_key(&binding.contact);
        let pings = self.devices.get(&device);
        let named =
            |ping: &&Ping| ping.contact.as_deref().is_some_and(|known| same(known, &binding.contact, key.as_ref()));
        let ping = pings
            .as_ref()
            .and_then(|pings| pings.iter().find(named).or_else(|| pings.iter().find(|ping| ping.contact.is_none())));
        ContactHealth {
            contact: binding.contact.clone(),
            address: binding.received,
            user_agent: binding.user_agent.clone(),
            refreshed_at: binding.refreshed_at,
            expires_at: now.to_unix(binding.expires_at),
            reachable: ping.and_then(|ping| ping.reachable),
            reachable_since: ping.filter(|ping| ping.reachable.is_some()).map(|ping| ping.since),
            round_trip_us: ping.and_then(|ping| ping.round_trip_us),
        }
    }
}

fn same(known: &str, uri: &str, key: Option<&crate::model::ContactKey>) -> bool {
    known == uri || key.is_some() && contact_key(known).as_ref() == key
}

/// Live contacts at different addresses, and nothing that says they are one phone.
fn is_duplicate(bindings: &[Binding], now: Now) -> bool {
    let place = |binding: &Binding| -> Option<IpAddr> {
        let named = || contact_key(&binding.contact)?.host.trim_matches(['[', ']']).parse().ok();
        binding.received.map(|received| received.ip()).or_else(named)
    };
    let live: SmallVec<[&Binding; 4]> = bindings.iter().filter(|binding| binding.expires_at > now.tick).collect();
    live.iter().enumerate().any(|(at, one)| {
        live.iter().skip(at + 1).any(|other| {
            let one_phone = one.instance.is_some() && one.instance == other.instance;
            !one_phone && matches!((place(one), place(other)), (Some(one), Some(other)) if one != other)
        })
    })
}

fn troubles(health: &Health) -> Vec<Trouble> {
    let bound = !health.contacts.is_empty();
    let checks = [
        (Trouble::Unregistered, !bound),
        (Trouble::Stale, health.state == DeviceState::Stale),
        (Trouble::Unreachable, bound && health.reachable == Some(false)),
        (Trouble::Flapping, health.flaps >= OFTEN),
        (Trouble::AddressChanging, health.address_changes >= OFTEN),
        (Trouble::UserAgentChanged, health.user_agent_changes > 0),
        (Trouble::Duplicate, health.duplicate),
    ];
    checks.into_iter().filter(|(_, is_so)| *is_so).map(|(trouble, _)| trouble).collect()
}

const DAY_MS: i64 = 86_400_000;
/// So often in a day is more than a move and a power cut.
const OFTEN: u32 = 3;
/// Contacts of one device whose answers are kept.
const CONTACTS_MAX: usize = 32;
