//! What the registry keeps of one device. There may be a million of these, so they are kept small.

use std::net::SocketAddr;
use std::sync::Arc;

use super::bound::Bound;
use super::homes::Home;
use crate::model::{BindingSource, Device, DeviceId, DeviceState, Now, Tick, UnixMillis};
use crate::store::Seq;

/// A device and its bindings.
#[derive(Debug)]
pub(super) struct Record {
    pub(super) id: DeviceId,
    /// Its account and PBX.
    pub(super) home: Arc<Home>,
    user: Box<str>,
    /// What most devices have none of.
    words: Option<Box<Words>>,
    pub(super) enabled: bool,
    assignable: bool,
    /// Admins were last told that it is stale.
    pub(super) told_stale: bool,
    /// The commit for which its bindings were last read, without its upper half: enough to tell the commits apart that are
    /// in the log.
    pub(super) logged: u32,
    last_seen_at: UnixMillis,
    created_at: UnixMillis,
    pub(super) bindings: Box<[Bound]>,
    /// Last change an admin made to the device, or its creation by a REGISTER we accepted.
    pub(super) seq: Seq,
    /// Last change of the bindings by a REGISTER we accepted; passive ones are promised to nobody.
    pub(super) bindings_seq: Seq,
    /// The deadline under which the wheel holds this device.
    pub(super) scheduled: Tick,
}

/// A device as its listing shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceView {
    /// The device.
    pub device: Device,
    /// What its bindings and its switch say.
    pub state: DeviceState,
    /// Its bindings in short.
    pub bindings: BindingSummary,
    /// Its version, and so its entity tag for edits. Phones coming and going don't change it.
    pub seq: Seq,
    /// What an answer that shows this view waits for.
    pub awaits: Seq,
}

/// The bindings of a device in short.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BindingSummary {
    /// How many there are, stale ones too.
    pub count: usize,
    /// Where the freshest was heard from.
    pub address: Option<SocketAddr>,
    /// User agent of the freshest.
    pub user_agent: Option<Arc<str>>,
    /// When the freshest was refreshed.
    pub refreshed_at: Option<UnixMillis>,
}

/// How long passive bindings outlive their time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Grace {
    /// Milliseconds after their end.
    pub(super) ms: u64,
    /// One that was last refreshed before this, our start, stays at least until `until`: its refreshes may have come
    /// while we were down.
    pub(super) started_at: UnixMillis,
    /// The end of the grace after a start.
    pub(super) until: Tick,
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Words {
    extension: Option<Box<str>>,
    label: Option<Box<str>>,
    caller_id: Option<Box<str>>,
    last_caller: Option<Box<str>>,
}

impl Record {
    pub(super) fn new(device: Device, home: Arc<Home>) -> Self {
        let mut record = Self {
            id: device.id,
            home,
            user: (*device.user).into(),
            words: None,
            enabled: true,
            assignable: false,
            told_stale: false,
            logged: 0,
            last_seen_at: device.last_seen_at,
            created_at: device.created_at,
            bindings: Box::default(),
            seq: Seq(0),
            bindings_seq: Seq(0),
            scheduled: NEVER,
        };
        record.set_device(device);
        record
    }

    /// The device as the rest of the world knows it.
    pub(super) fn device(&self) -> Device {
        let word = |pick: fn(&Words) -> &Option<Box<str>>| self.words.as_deref().and_then(|words| pick(words).clone());
        Device {
            id: self.id,
            account: self.home.account,
            pbx: self.home.pbx,
            user: Arc::from(&*self.user),
            extension: word(|words| &words.extension),
            label: word(|words| &words.label),
            caller_id: word(|words| &words.caller_id),
            enabled: self.enabled,
            assignable: self.assignable,
            last_caller: word(|words| &words.last_caller),
            last_seen_at: self.last_seen_at,
            created_at: self.created_at,
        }
    }

    /// Takes over everything about the device that can change.
    pub(super) fn set_device(&mut self, device: Device) {
        let Device { extension, label, caller_id, last_caller, .. } = device;
        let words = Words { extension, label, caller_id, last_caller };
        self.words = (words != Words::default()).then(|| Box::new(words));
        self.enabled = device.enabled;
        self.assignable = device.assignable;
        self.last_seen_at = device.last_seen_at;
    }

    /// The user part of its address-of-record.
    pub(super) fn user(&self) -> &str {
        &self.user
    }

    /// The number colleagues dial.
    pub(super) fn extension(&self) -> &str {
        self.words.as_deref().and_then(|words| words.extension.as_deref()).unwrap_or(&self.user)
    }

    /// A name a person can recognise.
    pub(super) fn label(&self) -> Option<&str> {
        self.words.as_deref().and_then(|words| words.label.as_deref())
    }

    /// What admins see. A registrar binding counts until its end, a passive one until it is swept.
    pub(super) fn state(&self, now: Now) -> DeviceState {
        if !self.enabled {
            DeviceState::Disabled
        } else if self.bindings.iter().any(|binding| self.believed_until(binding) > now.tick) {
            DeviceState::Connected
        } else if self.bindings.iter().any(|binding| binding.source == BindingSource::Passive) {
            DeviceState::Stale
        } else {
            DeviceState::Disconnected
        }
    }

    /// Bindings that count at this moment.
    pub(super) fn present(&self, now: Now) -> impl Iterator<Item = &Bound> {
        self.bindings.iter().filter(move |binding| !is_over(binding, now))
    }

    pub(super) fn view(&self, now: Now) -> DeviceView {
        let freshest = self.present(now).max_by_key(|binding| binding.refreshed_at);
        let bindings = BindingSummary {
            count: self.present(now).count(),
            address: freshest.and_then(Bound::received),
            user_agent: freshest.and_then(|binding| binding.user_agent.clone()),
            refreshed_at: freshest.map(|binding| binding.refreshed_at),
        };
        DeviceView {
            device: self.device(),
            state: self.state(now),
            bindings,
            seq: self.seq,
            awaits: self.seq.max(self.bindings_seq),
        }
    }

    /// Takes out the bindings whose time is over.
    pub(super) fn sweep(&mut self, now: Now, grace: Grace) -> Vec<Bound> {
        if !self.bindings.iter().any(|binding| self.ends_at(binding, grace, now) <= now.tick) {
            return Vec::new();
        }
        let bindings = std::mem::take(&mut self.bindings).into_vec();
        let (over, kept): (Vec<Bound>, Vec<Bound>) =
            bindings.into_iter().partition(|binding| self.ends_at(binding, grace, now) <= now.tick);
        self.bindings = kept.into_boxed_slice();
        over
    }

    /// When next to look at it: a binding turns stale or ends.
    pub(super) fn next_deadline(&self, now: Now, grace: Grace) -> Tick {
        let deadlines = self.bindings.iter().map(|binding| {
            let until = self.believed_until(binding);
            if binding.expires_at > now.tick {
                binding.expires_at
            } else if until > now.tick {
                // As long as a connector lists it; that it stops shows when one looks.
                until.min(now.tick + LISTED_LOOK_MS)
            } else {
                self.ends_at(binding, grace, now)
            }
        });
        deadlines.min().unwrap_or(NEVER)
    }

    /// When a binding turns from live to stale (a registrar's: to nothing).
    fn believed_until(&self, binding: &Bound) -> Tick {
        match binding.source {
            BindingSource::Passive if binding.is_listed() => self.home.lead.believes(binding.expires_at),
            BindingSource::Passive | BindingSource::Registrar => binding.expires_at,
        }
    }

    /// When a binding is gone for good.
    fn ends_at(&self, binding: &Bound, grace: Grace, now: Now) -> Tick {
        if binding.source == BindingSource::Registrar {
            return binding.expires_at;
        }
        // A phone that rang or called was alive, whatever became of its refreshes.
        let alive_at = now.to_tick(self.last_seen_at).min(now.tick);
        let end = self.believed_until(binding).max(alive_at) + grace.ms;
        if binding.refreshed_at < grace.started_at { end.max(grace.until) } else { end }
    }
}

/// Whether a binding no longer counts, swept or not.
fn is_over(binding: &Bound, now: Now) -> bool {
    binding.source == BindingSource::Registrar && binding.expires_at <= now.tick
}

/// How often a binding past its time is looked at that only lives because a connector lists it, in milliseconds.
const LISTED_LOOK_MS: u64 = 30_000;
/// Past every deadline.
pub(super) const NEVER: Tick = Tick(u64::MAX);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_stays_small() {
        assert!(size_of::<Record>() <= 112, "{}", size_of::<Record>());
    }
}
