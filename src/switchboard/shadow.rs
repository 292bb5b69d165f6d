//! One leg that a subscription tells of and another feed sees: the leg is the other feed's, which knows it exactly, and the
//! dialog is its shadow.
//!
//! Which dialog is whose is told by device, direction and Call-ID (RFC 4235 §4.1.2). Both hops of a call through a proxy
//! have one Call-ID, so that alone says nothing. A notifier that gives none is matched by time, and not where two fit.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use foldhash::quality::RandomState;

use super::effect::Effect;
use super::identity::{Identity, identify};
use super::{Switchboard, View};
use crate::model::{
    CallId, Leg, LegEnd, LegEvent, LegKey, LegRole, LegStart, LegState, Now, PbxEvent, PbxId, Tick, UnixMillis,
};

/// Which dialogs are legs by themselves, and which are the shadows of others.
#[derive(Default)]
pub(super) struct Shadows {
    /// Dialogs that no other feed has shown yet, with the Call-ID where the notifier gives one.
    own: HashMap<LegKey, Option<Arc<str>>, RandomState>,
    cast: HashMap<LegKey, Shadow, RandomState>,
    by_leg: HashMap<LegKey, LegKey, RandomState>,
    /// Ends that the other feed gets a moment to report, for it knows how it ended.
    ends: BTreeMap<(Tick, LegKey), PbxEvent>,
}

struct Shadow {
    leg: LegKey,
    worth: Worth,
}

/// What a shadow's word is worth for its leg.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Worth {
    /// It is that very dialog.
    All,
    /// A notifier without Call-IDs has one name for all dialogs of a device: only that all is over means this one.
    End,
    /// It may be another leg's.
    Nothing,
}

/// Where an event of a subscription belongs.
enum Heard {
    Own,
    Leg(LegKey),
    Nowhere,
}

impl Shadows {
    fn hear(&mut self, now: Now, event: &PbxEvent) -> Heard {
        let Some(shadow) = self.cast.get(&event.leg) else { return Heard::Own };
        match (&event.event, shadow.worth) {
            (LegEvent::Ended(LegEnd::Lost), _) => {
                // The notifier is out of reach, which is not to say that the leg is.
                let leg = shadow.leg.clone();
                self.by_leg.remove(&leg);
                self.cast.remove(&event.leg);
                Heard::Nowhere
            }
            (LegEvent::Ended(_), Worth::All | Worth::End) => {
                self.ends.insert((now.tick + END_MS, event.leg.clone()), event.clone());
                Heard::Nowhere
            }
            (_, Worth::All) => Heard::Leg(shadow.leg.clone()),
            (_, Worth::End | Worth::Nothing) => Heard::Nowhere,
        }
    }

    fn cast(&mut self, dialog: LegKey, leg: LegKey, worth: Worth) {
        self.own.remove(&dialog);
        if let Some(before) = self.by_leg.insert(leg.clone(), dialog.clone()) {
            self.cast.remove(&before);
        }
        self.cast.insert(dialog, Shadow { leg, worth });
    }

    /// Two legs could be the dialog: neither is taken for it.
    fn doubt(&mut self, leg: &LegKey) {
        if let Some(shadow) = self.by_leg.get(leg).and_then(|dialog| self.cast.get_mut(dialog)) {
            shadow.worth = Worth::Nothing;
        }
    }

    /// A leg goes on under another key.
    pub fn rename(&mut self, from: &LegKey, to: &LegKey) {
        let Some(dialog) = self.by_leg.remove(from) else { return };
        if let Some(shadow) = self.cast.get_mut(&dialog) {
            shadow.leg = to.clone();
        }
        self.by_leg.insert(to.clone(), dialog);
    }

    /// Forgets shadows of a notifier that it does not tell of any more.
    pub fn keep(&mut self, goes: impl Fn(&LegKey) -> bool) {
        self.cast.retain(|dialog, _| !goes(dialog));
        self.by_leg.retain(|_, dialog| self.cast.contains_key(dialog));
    }

    /// A leg's call is over.
    pub fn forget(&mut self, leg: &LegKey) {
        self.own.remove(leg);
        if let Some(dialog) = self.by_leg.remove(leg) {
            self.cast.remove(&dialog);
        }
    }

    /// When an end has waited long enough, at the earliest.
    pub fn next_deadline(&self) -> Option<Tick> {
        self.ends.first_key_value().map(|((at, _), _)| *at)
    }

    fn overdue(&mut self, now: Now) -> Option<(LegKey, PbxEvent)> {
        while let Some(first) = self.ends.first_entry().filter(|first| first.key().0 <= now.tick) {
            let event = first.remove();
            if let Some(shadow) = self.cast.get(&event.leg).filter(|shadow| shadow.worth != Worth::Nothing) {
                return Some((shadow.leg.clone(), event));
            }
        }
        None
    }
}

impl Switchboard {
    /// Takes in what a subscription tells. False = it is about no leg of another feed.
    pub(super) fn on_dialog(&mut self, now: Now, event: &PbxEvent, view: &dyn View, effects: &mut Vec<Effect>) -> bool {
        match self.shadows.hear(now, event) {
            Heard::Own => {}
            Heard::Nowhere => return true,
            Heard::Leg(leg) => {
                self.on_leg(now, &leg, event, view, effects);
                return true;
            }
        }
        let LegEvent::Started(start) = &event.event else { return false };
        if self.by_leg.contains_key(&event.leg) {
            return false;
        }
        let identity = identify(view, event.pbx, event.feed, start);
        if let Some((leg, worth)) = self.seen_as(now.unix, event.pbx, identity, start) {
            if let Some(id) = self.by_leg.get(&leg).copied() {
                self.joins.add_call_key(&start.call_key, id);
            }
            self.shadows.cast(event.leg.clone(), leg, worth);
            return true;
        }
        self.on_own(now, event, view, effects);
        if self.by_leg.contains_key(&event.leg) {
            let call_id = start.sip_call_id.as_deref().map(Into::into);
            self.shadows.own.insert(event.leg.clone(), call_id);
        }
        true
    }

    /// Ends that no other feed has reported meanwhile.
    pub(super) fn on_shadows_gone(&mut self, now: Now, view: &dyn View, effects: &mut Vec<Effect>) {
        while let Some((leg, event)) = self.shadows.overdue(now) {
            self.on_leg(now, &leg, &event, view, effects);
        }
    }

    /// The dialog that has told of a leg before another feed shows it.
    pub(super) fn foretold(
        &self,
        began: UnixMillis,
        pbx: PbxId,
        identity: Identity,
        start: &LegStart,
    ) -> Option<LegKey> {
        identity.device?;
        let fits = |(dialog, call_id): &(&LegKey, &Option<Arc<str>>)| {
            let call = self.by_leg.get(*dialog).and_then(|id| self.calls.get(id));
            call.and_then(|call| call.live_leg(dialog)).is_some_and(|leg| {
                is_of(leg, pbx, identity)
                    && leg.role == identity.role
                    && match call_id {
                        Some(call_id) => *call_id == start.call_key,
                        None => (leg.began_at - began).abs() < TOGETHER_MS,
                    }
            })
        };
        let mut found = self.shadows.own.iter().filter(fits);
        match (found.next(), found.next()) {
            (Some((dialog, _)), None) => Some(dialog.clone()),
            _ => None,
        }
    }

    /// A leg that was just shown takes over what a dialog has told of it, and is the leg from now on.
    pub(super) fn overshadow(
        &mut self,
        now: Now,
        leg: &LegKey,
        dialog: &LegKey,
        view: &dyn View,
        effects: &mut Vec<Effect>,
    ) {
        let (Some(&here), Some(&there)) = (self.by_leg.get(leg), self.by_leg.get(dialog)) else { return };
        if here != there {
            self.merge(now, there, here, view, effects);
        }
        let Some(&id) = self.by_leg.get(leg).filter(|id| self.by_leg.get(dialog) == Some(id)) else { return };
        let names_it = self.shadows.own.get(dialog).is_some_and(Option::is_some);
        self.by_leg.remove(dialog);
        self.shadows.cast(dialog.clone(), leg.clone(), if names_it { Worth::All } else { Worth::End });
        self.on_each(now, view, &[id], "seen by two feeds", effects, |call, _| call.absorb(leg, dialog));
    }

    /// One INVITE that went to two phones of a device: a dialog that tells of it may mean either.
    pub(super) fn doubt_siblings(&mut self, id: CallId, leg: &LegKey) {
        let Some(call) = self.calls.get(&id) else { return };
        let Some(own) = call.call.legs.iter().find(|known| known.key == *leg) else { return };
        let alike = |other: &&Leg| {
            other.key != *leg && (other.device, other.role, &other.call_key) == (own.device, own.role, &own.call_key)
        };
        for sibling in call.call.legs.iter().filter(alike) {
            self.shadows.doubt(&sibling.key);
        }
    }

    /// The leg of another feed that a new dialog is, and what its word is worth there.
    fn seen_as(&self, now: UnixMillis, pbx: PbxId, identity: Identity, start: &LegStart) -> Option<(LegKey, Worth)> {
        identity.device?;
        let is_seen = |leg: &&Leg| is_of(leg, pbx, identity) && !self.shadows.own.contains_key(&leg.key);
        if let Some(call_id) = &start.sip_call_id {
            let call = self.joins.call(call_id).and_then(|id| self.calls.get(&id))?;
            let fits = |leg: &&Leg| is_seen(leg) && leg.role == identity.role && *leg.call_key == **call_id;
            return the_one(call.call.legs.iter().filter(fits), Worth::All);
        }
        let is_free = |leg: &&Leg| is_seen(leg) && !self.shadows.by_leg.contains_key(&leg.key);
        let legs = || self.calls.values().flat_map(|call| &call.call.legs).filter(is_free);
        let together = |leg: &&Leg| leg.role == identity.role && (leg.began_at - now).abs() < TOGETHER_MS;
        let live = |leg: &&Leg| leg.state != LegState::Ended;
        let found = the_one(legs().filter(together), Worth::End);
        found.or_else(|| the_one(legs().filter(live).filter(|_| start.under_way), Worth::End))
    }
}

/// The first that began; where there are several, the dialog's word is worth nothing.
fn the_one<'l>(legs: impl Iterator<Item = &'l Leg>, worth: Worth) -> Option<(LegKey, Worth)> {
    let mut legs: Vec<&Leg> = legs.collect();
    legs.sort_by_key(|leg| (leg.began_at, &leg.key));
    let worth = if legs.len() > 1 { Worth::Nothing } else { worth };
    legs.first().map(|leg| (leg.key.clone(), worth))
}

/// Whether it is a leg of this device.
fn is_of(leg: &Leg, pbx: PbxId, identity: Identity) -> bool {
    leg.pbx == pbx && leg.device == identity.device && matches!(leg.role, LegRole::ToDevice | LegRole::FromDevice)
}

/// How far apart two feeds may see one leg begin.
const TOGETHER_MS: i64 = 1_000;
/// How long the feed that sees a leg may take to say how it ended.
const END_MS: u64 = 1_000;
