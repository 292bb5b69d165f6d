//! One leg seen twice: a connector's channel and the SIP dialog under it are one leg, whichever is heard of first.
//!
//! While a connector of a PBX is up it knows every channel, so a SIP leg of that PBX waits until the connector says which
//! one it is. What nobody has named in time goes its own way.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use foldhash::quality::RandomState;

use crate::model::{LegEvent, LegKey, LegStart, Now, PbxEvent, PbxId, Tick};

/// Which SIP legs are whose, and those nobody has named yet.
#[derive(Default)]
pub(super) struct Pairing {
    /// SIP legs that are a connector's.
    same: HashMap<LegKey, LegKey, RandomState>,
    /// Connectors' legs by what names the SIP under them.
    names: HashMap<Name, LegKey, RandomState>,
    /// What to forget of a connector's leg: its names and the SIP legs under it.
    known: HashMap<LegKey, Known, RandomState>,
    held: HashMap<LegKey, Held, RandomState>,
    due: BTreeSet<(Tick, LegKey)>,
}

/// What SIP and a connector both know of a leg.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Name {
    /// Its Call-ID.
    CallId(PbxId, Arc<str>),
    /// The audio port the PBX offered and whom it called; before the phone has answered at all this is what there is.
    Media(PbxId, u16, Box<str>),
}

/// What becomes of an event of a SIP feed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Taken {
    /// The leg is its own.
    Own,
    /// It is this leg of a connector.
    Same(LegKey),
    /// It waits.
    Held,
    /// Too many wait; the leg goes its own way.
    Full,
}

#[derive(Default)]
struct Known {
    names: Vec<Name>,
    legs: Vec<LegKey>,
}

struct Held {
    names: Vec<Name>,
    events: Vec<(Now, PbxEvent)>,
    until: Tick,
}

impl Name {
    /// The names that a SIP leg's INVITE has.
    fn of_sip(pbx: PbxId, start: &LegStart) -> Vec<Self> {
        let media = start.media_port.map(|port| Self::Media(pbx, port, start.target.user.clone()));
        std::iter::once(Self::CallId(pbx, start.call_key.clone())).chain(media).collect()
    }

    /// The names that a connector's first words give a leg.
    pub fn of_connector(pbx: PbxId, start: &LegStart) -> Vec<Self> {
        let call_id = start.sip_call_id.as_deref().map(|call_id| Self::CallId(pbx, call_id.into()));
        let media = start.media_port.map(|port| Self::Media(pbx, port, start.target.user.clone()));
        call_id.into_iter().chain(media).collect()
    }
}

impl Pairing {
    /// Says where an event of a SIP feed belongs. `waits` = a connector of the PBX is up and the leg is not known yet.
    pub fn take_in(&mut self, now: Now, event: &PbxEvent, waits: impl FnOnce() -> bool) -> Taken {
        if let Some(leg) = self.same.get(&event.leg) {
            return Taken::Same(leg.clone());
        }
        if let Some(held) = self.held.get_mut(&event.leg) {
            if held.events.len() < EVENTS_MAX {
                held.events.push((now, event.clone()));
            }
            return Taken::Held;
        }
        let LegEvent::Started(start) = &event.event else { return Taken::Own };
        let waits = waits();
        if !waits && self.names.is_empty() {
            return Taken::Own;
        }
        let names = Name::of_sip(event.pbx, start);
        if let Some(leg) = names.iter().find_map(|name| self.names.get(name)).cloned() {
            self.pair(event.leg.clone(), leg.clone());
            return Taken::Same(leg);
        }
        if !waits {
            return Taken::Own;
        }
        if self.held.len() >= HELD_MAX {
            return Taken::Full;
        }
        let until = now.tick + HOLD_MS;
        self.due.insert((until, event.leg.clone()));
        self.held.insert(event.leg.clone(), Held { names, events: vec![(now, event.clone())], until });
        Taken::Held
    }

    /// A connector's leg has this name. What waited for it comes out, in order, and is that leg from now on.
    pub fn name(&mut self, leg: &LegKey, name: Name) -> Vec<(Now, PbxEvent)> {
        let waiting: Vec<LegKey> =
            self.held.iter().filter(|(_, held)| held.names.contains(&name)).map(|(key, _)| key.clone()).collect();
        let known = self.known.entry(leg.clone()).or_default();
        if known.names.len() < NAMES_MAX && !self.names.contains_key(&name) {
            known.names.push(name.clone());
            self.names.insert(name, leg.clone());
        }
        let mut events = Vec::new();
        for key in waiting {
            events.extend(self.release(&key));
            self.pair(key, leg.clone());
        }
        events.sort_by_key(|(at, _)| at.tick);
        events
    }

    /// A SIP leg that was followed by itself is a connector's.
    pub fn pair(&mut self, sip: LegKey, leg: LegKey) {
        self.known.entry(leg.clone()).or_default().legs.push(sip.clone());
        self.same.insert(sip, leg);
    }

    /// Whether a SIP leg is known to be this connector's leg.
    pub fn is_paired(&self, leg: &LegKey) -> bool {
        self.known.get(leg).is_some_and(|known| !known.legs.is_empty())
    }

    /// The events of legs that have waited long enough, leg by leg.
    pub fn overdue(&mut self, now: Now) -> Vec<Vec<(Now, PbxEvent)>> {
        let mut legs = Vec::new();
        while let Some((_, key)) = self.due.first().filter(|(at, _)| *at <= now.tick).cloned() {
            legs.push(self.release(&key));
        }
        legs
    }

    /// When [`Pairing::overdue`] has something, at the earliest.
    pub fn next_deadline(&self) -> Option<Tick> {
        self.due.first().map(|(at, _)| *at)
    }

    /// A leg's call is over.
    pub fn forget(&mut self, leg: &LegKey) {
        let Some(known) = self.known.remove(leg) else { return };
        for name in known.names {
            self.names.remove(&name);
        }
        for sip in known.legs {
            self.same.remove(&sip);
        }
    }

    fn release(&mut self, key: &LegKey) -> Vec<(Now, PbxEvent)> {
        let Some(held) = self.held.remove(key) else { return Vec::new() };
        self.due.remove(&(held.until, key.clone()));
        held.events
    }
}

/// How long a SIP leg waits for its name. The connector has the call long before that and shows it; only what it does not
/// know at all comes so late.
const HOLD_MS: u64 = 1_000;
const HELD_MAX: usize = 4_096;
/// Events of one leg within that time; a real leg has three.
const EVENTS_MAX: usize = 16;
const NAMES_MAX: usize = 8;
