//! Which registrations came over which connection: one that is closed takes them along, after a grace in which a fresh
//! REGISTER, over whatever transport, keeps them.

use std::collections::{BTreeSet, VecDeque};
use std::hash::BuildHasher as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use dashmap::DashMap;
use foldhash::quality::RandomState;
use smallvec::SmallVec;

use crate::model::{Binding, BindingSource, DeviceId, Now, Tick, Transport};
use crate::registry::Registry;

use super::front::dropped;
use super::mail::Mail;

/// A connection, told from every other of this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct FlowId(u64);

/// What is known of the connections to registrars.
#[derive(Debug)]
pub(super) struct Flows {
    grace_ms: u64,
    opened: AtomicU64,
    /// The connection each registration last came over: a later one takes it from an earlier one, which then may close.
    /// No more than bindings that came over connections.
    holders: DashMap<Registration, Holder, RandomState>,
    /// The same from the other side. A connection over which nobody registered has no entry.
    held: DashMap<FlowId, BTreeSet<Registration>, RandomState>,
    /// The letter boxes of those that are open.
    mails: DashMap<FlowId, Arc<Mail>, RandomState>,
    /// Closed ones in the order of the end of their grace, which is equally long for all.
    closed: Mutex<VecDeque<(Tick, FlowId)>>,
    hasher: RandomState,
}

/// A device and the hash of the Call-ID with which a phone keeps up its bindings (RFC 3261 §10.2: one for all of them).
type Registration = (DeviceId, u64);

#[derive(Clone, Copy, Debug)]
struct Holder {
    flow: FlowId,
    transport: Transport,
    /// Of the REGISTER that came over it last.
    cseq: u32,
}

impl Flows {
    pub(super) fn new(grace_ms: u64) -> Self {
        Self {
            grace_ms,
            opened: AtomicU64::new(0),
            holders: DashMap::default(),
            held: DashMap::default(),
            mails: DashMap::default(),
            closed: Mutex::default(),
            hasher: RandomState::default(),
        }
    }

    /// A new connection, with its letter box where it may be asked something.
    pub(super) fn open(&self, mail: Option<Arc<Mail>>) -> FlowId {
        let flow = FlowId(self.opened.fetch_add(1, Ordering::Relaxed));
        if let Some(mail) = mail {
            self.mails.insert(flow, mail);
        }
        flow
    }

    /// The letter box of the connection that a binding last came over, while that is open.
    pub(super) fn mail(&self, device: DeviceId, binding: &Binding) -> Option<Arc<Mail>> {
        let call_id = self.hash(&binding.call_id);
        let holder = *self.holders.get(&(device, call_id))?;
        self.held_by(binding, call_id, holder).then_some(())?;
        self.mails.get(&holder.flow).map(|mail| mail.clone())
    }

    /// How a Call-ID is remembered.
    pub(super) fn hash(&self, call_id: &str) -> u64 {
        self.hasher.hash_one(call_id)
    }

    /// A REGISTER with this Call-ID (hashed) and `CSeq` came over `flow` and was accepted; `live` are the Call-IDs of all
    /// bindings that the device has now.
    pub(super) fn registered(
        &self,
        (flow, transport): (FlowId, Transport),
        device: DeviceId,
        (call_id, cseq): (u64, u32),
        live: &[u64],
    ) {
        let mut gone: SmallVec<[Registration; 1]> = SmallVec::new();
        {
            let mut held = self.held.entry(flow).or_default();
            let of_device = held.range((device, u64::MIN)..=(device, u64::MAX));
            gone.extend(of_device.filter(|(_, known)| !live.contains(known)).copied());
            gone.iter().for_each(|registration| _ = held.remove(registration));
            if live.contains(&call_id) {
                if held.len() >= HELD_MAX && !held.contains(&(device, call_id)) {
                    return dropped("connection_registrations");
                }
                held.insert((device, call_id));
            }
        }
        for registration in gone {
            self.holders.remove_if(&registration, |_, holder| holder.flow == flow);
        }
        if live.contains(&call_id) {
            self.holders.insert((device, call_id), Holder { flow, transport, cseq });
        }
    }

    /// `flow` was closed.
    pub(super) fn closed(&self, flow: FlowId, now: Tick) {
        self.mails.remove(&flow);
        if self.held.contains_key(&flow) {
            self.queue().push_back((now + self.grace_ms, flow));
        }
    }

    /// Ends the bindings of connections whose grace is over.
    pub(super) fn expire(&self, registry: &Registry, now: Now) {
        while let Some(flow) = self.due(now.tick) {
            let Some((_, held)) = self.held.remove(&flow) else { continue };
            for registration in held {
                let Some((_, holder)) = self.holders.remove_if(&registration, |_, holder| holder.flow == flow) else {
                    continue;
                };
                let (device, call_id) = registration;
                let is_held = |binding: &Binding| self.held_by(binding, call_id, holder);
                registry.end_bindings(device, is_held, "connection_closed", now);
            }
        }
    }

    /// Whether a binding still is as it was last registered over that connection.
    fn held_by(&self, binding: &Binding, call_id: u64, holder: Holder) -> bool {
        binding.source == BindingSource::Registrar
            && binding.transport == holder.transport
            && binding.cseq <= holder.cseq
            && self.hash(&binding.call_id) == call_id
    }

    fn due(&self, now: Tick) -> Option<FlowId> {
        self.queue().pop_front_if(|(at, _)| *at <= now).map(|(_, flow)| flow)
    }

    fn queue(&self) -> std::sync::MutexGuard<'_, VecDeque<(Tick, FlowId)>> {
        self.closed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Registrations over one connection, as a session border controller may bundle them; those beyond outlive it.
const HELD_MAX: usize = 10_000;
