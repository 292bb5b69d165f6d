//! From dialog states to leg events. Pure.
//!
//! A notifier says where each dialog of a resource stands; what the switchboard needs is what happened. So what was said last
//! is kept, and the difference told. Some notifiers (Asterisk) have one name for all dialogs of a resource: then each time it
//! goes from nothing to something is a dialog of its own.

mod telling;

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use self::telling::{how_it_ended, plain, start, user_of, word};
use super::dialog_info::{Dialog, DialogInfo, Direction, State};
use super::halves::{self, Half};
use crate::model::{FeedKind, Leg, LegEnd, LegEvent, LegKey, LegStart, LegState, Now, PbxEvent, PbxId};

/// All dialogs that one feed knows of.
pub struct Dialogs {
    pbx: PbxId,
    /// What its legs' keys begin with.
    prefix: String,
    /// By what tells of them: a subscription or a publication.
    sources: BTreeMap<String, BTreeMap<String, Known>>,
    /// Legs that were live when the process started, or the feed lost sight of them, until they are found again.
    restored: Vec<Leg>,
}

/// Whose dialogs are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resource<'r> {
    /// Its user part, canonical.
    pub user: &'r str,
    /// Its domain; none = the PBX's own.
    pub domain: Option<&'r str>,
}

/// What is known of a dialog.
struct Known {
    leg: LegKey,
    call_key: Arc<str>,
    state: State,
    half: Half,
    /// It was there when its source first told anything.
    under_way: bool,
    /// Whether the switchboard has heard of it. What is not told yet is not known well enough.
    told: bool,
}

impl Dialogs {
    /// Nothing known yet. `prefix` and the PBX begin the keys of all its legs; `live` are legs of calls that go on.
    pub fn new(pbx: PbxId, prefix: &str, live: impl Iterator<Item = Leg>) -> Self {
        let prefix = format!("{prefix}:{pbx}:");
        let is_ours = |leg: &Leg| leg.state != LegState::Ended && leg.key.0.starts_with(&prefix);
        let restored = live.filter(is_ours).collect();
        Self { pbx, prefix, sources: BTreeMap::new(), restored }
    }

    /// Takes in what `source` says of a resource; the events that follow, in order. False when it has more dialogs than can
    /// be kept.
    pub fn take_in(
        &mut self,
        source: &str,
        resource: Resource<'_>,
        info: &DialogInfo,
        now: Now,
        events: &mut Vec<PbxEvent>,
    ) -> bool {
        let mut fits = true;
        let first = !self.sources.contains_key(source);
        self.sources.entry(source.to_owned()).or_default();
        if info.full {
            let named: HashSet<&str> = info.dialogs.iter().map(|dialog| dialog.id.as_str()).collect();
            let known = self.sources.get(source).into_iter().flat_map(BTreeMap::keys);
            let gone: Vec<String> = known.filter(|id| !named.contains(id.as_str())).cloned().collect();
            for id in gone {
                self.end(source, &id, |_| LegEnd::Lost, "dialog-info without it", events);
            }
        }
        for dialog in &info.dialogs {
            if dialog.state == State::Terminated {
                let evidence = format!("dialog-info: {} terminated", resource.user);
                self.end(source, &dialog.id, |known| how_it_ended(known.state, dialog), &evidence, events);
            } else {
                fits &= self.advance((source, first), resource, dialog, now, events);
            }
        }
        fits
    }

    /// A source tells nothing any more: what it told last can't be taken for true.
    pub fn lose(&mut self, source: &str, why: &str, events: &mut Vec<PbxEvent>) {
        let ids: Vec<String> = self.sources.get(source).into_iter().flat_map(BTreeMap::keys).cloned().collect();
        for id in ids {
            self.end(source, &id, |_| LegEnd::Lost, why, events);
        }
        self.sources.remove(source);
    }

    /// The legs of all dialogs that go on.
    pub fn live(&self) -> HashSet<LegKey> {
        let known = self.sources.values().flat_map(BTreeMap::values);
        known.filter(|known| known.told).map(|known| known.leg.clone()).collect()
    }

    /// Goes on with a dialog that is there. `first` = its source had told nothing before.
    fn advance(
        &mut self,
        (source, first): (&str, bool),
        resource: Resource<'_>,
        dialog: &Dialog,
        now: Now,
        events: &mut Vec<PbxEvent>,
    ) -> bool {
        let is_known = self.sources.get(source).is_some_and(|known| known.contains_key(&dialog.id));
        if !is_known {
            let size = self.sources.get(source).map_or(0, BTreeMap::len);
            if size >= DIALOGS_MAX {
                return false;
            }
            let known = Known { under_way: first, ..self.meet(resource, dialog, now) };
            self.sources.entry(source.to_owned()).or_default().insert(dialog.id.clone(), known);
        }
        if let Some(known) = self.sources.get_mut(source).and_then(|known| known.get_mut(&dialog.id)) {
            known.half.remote = known.half.remote.take().or_else(|| user_of(&dialog.remote));
        }
        let joined = self.join(source, &dialog.id);
        let pbx = self.pbx;
        let Some(known) = self.sources.get_mut(source).and_then(|known| known.get_mut(&dialog.id)) else { return true };
        if let Some(call_key) = joined.filter(|_| !known.told) {
            known.call_key = call_key;
        }
        let mut tell = |event| {
            let evidence = format!("dialog-info: {} {}", resource.user, word(dialog.state));
            events.push(PbxEvent { pbx, feed: FeedKind::Subscription, leg: known.leg.clone(), event, evidence });
        };
        let has_remote = dialog.remote.uri.is_some();
        if !known.told && (dialog.state >= State::Early || has_remote) {
            known.told = true;
            let started = start(resource, dialog, known.half.caller, known.call_key.clone());
            tell(LegEvent::Started(Box::new(LegStart { under_way: known.under_way, ..started })));
        }
        if !known.told {
            return true;
        }
        if dialog.state >= State::Early && known.state < State::Early && dialog.state != State::Confirmed {
            tell(LegEvent::Rang);
        }
        if dialog.state == State::Confirmed && known.state < State::Confirmed {
            tell(LegEvent::Answered);
        }
        known.state = known.state.max(dialog.state);
        true
    }

    /// A dialog that was not there before, or that a process before this one has told of already.
    fn meet(&mut self, resource: Resource<'_>, dialog: &Dialog, now: Now) -> Known {
        let name = format!("{}{}:{}:", self.prefix, plain(resource.user), plain(&dialog.id));
        let before = self.restored.iter().position(|leg| leg.key.0.starts_with(&name));
        let caller = match dialog.direction {
            Some(direction) => direction == Direction::Initiator,
            // Asterisk says it only of what rings; what is there without having rung was dialled.
            None => dialog.state != State::Early,
        };
        let half = Half {
            user: resource.user.to_owned(),
            remote: user_of(&dialog.remote),
            caller,
            began: now.tick,
            joined: before.is_some(),
        };
        if let Some(leg) = before.map(|at| self.restored.swap_remove(at)) {
            let state = match leg.state {
                LegState::Calling | LegState::Ended => State::Trying,
                LegState::Ringing => State::Early,
                LegState::Answered => State::Confirmed,
            };
            return Known { leg: leg.key, call_key: leg.call_key, state, half, under_way: true, told: true };
        }
        let leg: Arc<str> = format!("{name}{}", now.unix.0).into();
        let call_key = dialog.call_id.as_deref().map_or_else(|| leg.clone(), Into::into);
        Known { leg: LegKey(leg), call_key, state: State::Trying, half, under_way: false, told: false }
    }

    /// The call key of the dialog's other half, when there is exactly one that can be it.
    fn join(&mut self, source: &str, id: &str) -> Option<Arc<str>> {
        let by_source = self.sources.iter();
        let all: Vec<(&str, &str, &Known)> = by_source
            .flat_map(|(of, known)| known.iter().map(|(name, known)| (of.as_str(), name.as_str(), known)))
            .collect();
        let at = all.iter().position(|(of, name, _)| (*of, *name) == (source, id))?;
        let (_, _, own) = all.get(at)?;
        // Both halves of a call through a proxy have its Call-ID.
        let mut others = all.iter().enumerate().filter(|(other, _)| *other != at);
        if own.told || own.half.joined || others.any(|(_, (_, _, known))| known.call_key == own.call_key) {
            return None;
        }
        let halves: Vec<&Half> = all.iter().map(|(_, _, known)| &known.half).collect();
        let (of, name, other) = all.get(halves::other(&halves, at)?)?;
        let call_key = other.call_key.clone();
        let pair = [((*of).to_owned(), (*name).to_owned()), (source.to_owned(), id.to_owned())];
        for (of, name) in pair {
            if let Some(known) = self.sources.get_mut(&of).and_then(|known| known.get_mut(&name)) {
                known.half.joined = true;
            }
        }
        Some(call_key)
    }

    fn end(
        &mut self,
        source: &str,
        id: &str,
        how: impl FnOnce(&Known) -> LegEnd,
        evidence: &str,
        events: &mut Vec<PbxEvent>,
    ) {
        let Some(known) = self.sources.get_mut(source).and_then(|known| known.remove(id)) else { return };
        if known.told {
            let event = LegEvent::Ended(how(&known));
            let evidence = evidence.to_owned();
            events.push(PbxEvent { pbx: self.pbx, feed: FeedKind::Subscription, leg: known.leg, event, evidence });
        }
    }
}

/// Dialogs kept of one source.
const DIALOGS_MAX: usize = 256;
#[cfg(test)]
mod tests;
