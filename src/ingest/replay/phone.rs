//! One device of a replay.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::news::{ContactRecord, DeviceRecord, Origin, RegistrationOutcome};
use crate::model::{Binding, DeviceId, DeviceState, Now, Tick, UnixMillis};
use crate::sip::Uri;

/// A device and what was seen of it.
pub(super) struct Phone {
    pub(super) id: DeviceId,
    user: Box<str>,
    pub(super) host: Box<str>,
    pub(super) extension: Option<Box<str>>,
    pub(super) label: Option<Box<str>>,
    pub(super) enabled: bool,
    origin: Origin,
    first_seen_at: Option<UnixMillis>,
    last_seen_at: Option<UnixMillis>,
    pub(super) bindings: Vec<Binding>,
    registrations: BTreeMap<RegistrationOutcome, u64>,
    in_calls: u64,
    assignable: bool,
    /// Under which deadline the office holds it.
    pub(super) scheduled: Option<Tick>,
}

impl Phone {
    pub(super) fn new(id: DeviceId, user: &str, origin: Origin, now: Option<UnixMillis>) -> Self {
        Self {
            id,
            user: user.into(),
            host: Box::default(),
            extension: None,
            label: None,
            enabled: true,
            origin,
            first_seen_at: now,
            last_seen_at: now,
            bindings: Vec::new(),
            registrations: BTreeMap::new(),
            in_calls: 0,
            assignable: false,
            scheduled: None,
        }
    }

    pub(super) fn user(&self) -> &str {
        &self.user
    }

    pub(super) fn extension(&self) -> &str {
        self.extension.as_deref().unwrap_or(&self.user)
    }

    /// Notes a REGISTER of it.
    pub(super) fn registered(&mut self, outcome: RegistrationOutcome, host: &str, at: UnixMillis) {
        *self.registrations.entry(outcome).or_default() += 1;
        if *self.host != *host {
            self.host = host.into();
        }
        self.seen(at);
    }

    /// Notes that it rang, answered or placed a call.
    pub(super) fn called(&mut self, external: bool, at: UnixMillis) {
        self.in_calls += 1;
        self.assignable |= external;
        self.seen(at);
    }

    /// Whether it is at this address; none when nothing is known about where it is.
    pub(super) fn is_at(&self, address: IpAddr) -> Option<bool> {
        let mut known = false;
        for binding in &self.bindings {
            let named = Uri::parse(&binding.contact).ok().and_then(|uri| host_address(uri.host));
            for at in binding.received.map(|received| received.ip()).into_iter().chain(named) {
                if at.to_canonical() == address.to_canonical() {
                    return Some(true);
                }
                known = true;
            }
        }
        known.then_some(false)
    }

    pub(super) fn record(&self, now: Now) -> DeviceRecord {
        let state = match (self.enabled, self.bindings.iter().map(|binding| binding.expires_at).max()) {
            (false, _) => DeviceState::Disabled,
            (true, None) => DeviceState::Disconnected,
            (true, Some(last)) if last > now.tick => DeviceState::Connected,
            (true, Some(_)) => DeviceState::Stale,
        };
        let contacts = self.bindings.iter().map(|binding| ContactRecord {
            uri: binding.contact.to_string(),
            received: binding.received,
            transport: binding.transport,
            expires_at: now.to_unix(binding.expires_at),
            user_agent: binding.user_agent.as_deref().map(str::to_owned),
        });
        DeviceRecord {
            id: self.id,
            user: self.user.to_string(),
            host: self.host.to_string(),
            extension: self.extension().to_owned(),
            label: self.label.as_deref().map(str::to_owned),
            state,
            origin: self.origin,
            first_seen_at: self.first_seen_at,
            last_seen_at: self.last_seen_at,
            contacts: contacts.collect(),
            registrations: self.registrations.clone(),
            in_calls: self.in_calls,
            assignable: self.assignable,
        }
    }

    fn seen(&mut self, at: UnixMillis) {
        self.first_seen_at.get_or_insert(at);
        self.last_seen_at = Some(at);
    }
}

fn host_address(host: &str) -> Option<IpAddr> {
    host.trim_start_matches('[').trim_end_matches(']').parse().ok()
}
