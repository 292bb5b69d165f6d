//! What the registry keeps of one device.

use std::net::SocketAddr;
use std::sync::Arc;

use crate::model::{Binding, BindingSource, Device, DeviceState, Now, Tick, UnixMillis};
use crate::store::Seq;

/// A device and its bindings. There may be a million of these.
#[derive(Debug)]
pub(super) struct Record {
    pub(super) device: Device,
    pub(super) bindings: Box<[Binding]>,
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
    /// And in no case before this, the end of the grace after a start.
    pub(super) until: Tick,
}

impl Record {
    pub(super) fn new(device: Device) -> Self {
        let bindings = Box::default();
        Self { device, bindings, seq: Seq(0), bindings_seq: Seq(0), scheduled: NEVER }
    }

    /// What admins see. A registrar binding counts until its end, a passive one until it is swept.
    pub(super) fn state(&self, now: Now) -> DeviceState {
        if !self.device.enabled {
            DeviceState::Disabled
        } else if self.bindings.iter().any(|binding| binding.expires_at > now.tick) {
            DeviceState::Connected
        } else if self.bindings.iter().any(|binding| binding.source == BindingSource::Passive) {
            DeviceState::Stale
        } else {
            DeviceState::Disconnected
        }
    }

    /// Bindings that count at this moment.
    pub(super) fn present(&self, now: Now) -> impl Iterator<Item = &Binding> {
        self.bindings.iter().filter(move |binding| !is_over(binding, now))
    }

    pub(super) fn view(&self, now: Now) -> DeviceView {
        let freshest = self.present(now).max_by_key(|binding| binding.refreshed_at);
        let bindings = BindingSummary {
            count: self.present(now).count(),
            address: freshest.and_then(|binding| binding.received),
            user_agent: freshest.and_then(|binding| binding.user_agent.clone()),
            refreshed_at: freshest.map(|binding| binding.refreshed_at),
        };
        DeviceView {
            device: self.device.clone(),
            state: self.state(now),
            bindings,
            seq: self.seq,
            awaits: self.seq.max(self.bindings_seq),
        }
    }

    /// The number colleagues dial.
    pub(super) fn extension(&self) -> &str {
        self.device.extension.as_deref().unwrap_or(&self.device.user)
    }

    /// Takes out the bindings whose time is over.
    pub(super) fn sweep(&mut self, now: Now, grace: Grace) -> Vec<Binding> {
        if !self.bindings.iter().any(|binding| ends_at(binding, grace) <= now.tick) {
            return Vec::new();
        }
        let bindings = std::mem::take(&mut self.bindings).into_vec();
        let (over, kept): (Vec<Binding>, Vec<Binding>) =
            bindings.into_iter().partition(|binding| ends_at(binding, grace) <= now.tick);
        self.bindings = kept.into_boxed_slice();
        over
    }

    /// When next to look at it: a binding turns stale or ends.
    pub(super) fn next_deadline(&self, now: Now, grace: Grace) -> Tick {
        let deadlines = self
            .bindings
            .iter()
            .map(|binding| if binding.expires_at > now.tick { binding.expires_at } else { ends_at(binding, grace) });
        deadlines.min().unwrap_or(NEVER)
    }
}

/// Whether a binding no longer counts, swept or not.
fn is_over(binding: &Binding, now: Now) -> bool {
    binding.source == BindingSource::Registrar && binding.expires_at <= now.tick
}

/// When a binding is gone for good.
fn ends_at(binding: &Binding, grace: Grace) -> Tick {
    match binding.source {
        BindingSource::Registrar => binding.expires_at,
        BindingSource::Passive => (binding.expires_at + grace.ms).max(grace.until),
    }
}

/// Past every deadline.
pub(super) const NEVER: Tick = Tick(u64::MAX);
