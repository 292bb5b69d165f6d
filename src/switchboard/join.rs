//! Which call does a new leg belong to? By what the legs say of one another, in a fixed order; never by a guess.

use std::collections::HashMap;
use std::sync::Arc;

use foldhash::quality::RandomState;
use smallvec::SmallVec;

use super::call::LiveCall;
use super::party::Reading;
use crate::model::{AccountId, CallId, LegRole, LegStart, Now, PbxId};

/// Names under which live calls can be found again.
#[derive(Default)]
pub(super) struct JoinIndex {
    call_keys: Names,
    bases: Names,
    sessions: Names,
    /// Calls by the numbers at their ends, so that a leg is not held against every live call. A call stands here under
    /// each number it ever had.
    callers: Numbers,
    callees: Numbers,
    /// All names of a call.
    keys: HashMap<CallId, Vec<Key>, RandomState>,
}

type Names = HashMap<Arc<str>, CallId, RandomState>;
type Numbers = HashMap<Arc<str>, SmallVec<[CallId; 1]>, RandomState>;

/// What was found for a leg.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Joined {
    pub call: Option<CallId>,
    /// Two calls fit equally well, so the leg stays a call of its own.
    pub ambiguous: bool,
}

enum Key {
    Name(Naming, Arc<str>),
    /// The caller's number. Several calls may have it.
    Caller(Arc<str>),
    /// The called number. Several calls may have it.
    Callee(Arc<str>),
}

/// What a name is that one call has alone.
#[derive(Clone, Copy)]
enum Naming {
    /// A call key (Call-ID) of a leg, seen or named by another leg.
    CallKey,
    /// What is left of a Call-ID when a PBX's suffix is taken off.
    Base,
    /// One non-zero half of a Session-ID.
    Session,
}

impl JoinIndex {
    /// The call that a leg joins: same call key; Replaces; a header that names the other leg; a Call-ID suffix;
    /// Session-ID; last, the same caller on the same PBX while exactly one such call waits for it.
    pub fn find(
        &self,
        calls: &HashMap<CallId, Box<LiveCall>, RandomState>,
        pbx: PbxId,
        account: AccountId,
        now: Now,
        start: &LegStart,
        reading: &Reading,
    ) -> Joined {
        let named = self.by_name(start);
        if named.is_some() {
            return Joined { call: named, ambiguous: false };
        }
        let (numbers, number) = match reading.role {
            LegRole::TrunkOut => (&self.callees, &reading.callee.number),
            _ => (&self.callers, &reading.caller.number),
        };
        let with_number = number.as_deref().and_then(|number| numbers.get(number)).into_iter().flatten();
        let mut fitting = with_number
            .filter_map(|id| calls.get(id))
            .filter(|call| call.call.pbx == pbx && call.may_belong_to(account) && fits_by_number(call, now, reading));
        match (fitting.next(), fitting.next()) {
            (Some(call), None) => Joined { call: Some(call.call.id), ambiguous: false },
            (found, _) => Joined { call: None, ambiguous: found.is_some() },
        }
    }

    /// The call a connector's leg joins, by what it says itself: there is nothing to guess.
    pub fn find_named(&self, start: &LegStart) -> Joined {
        let sip = || start.sip_call_id.as_deref().and_then(|call_id| self.call(call_id));
        Joined { call: self.by_name(start).or_else(sip), ambiguous: false }
    }

    /// The call with this call key.
    pub fn call(&self, call_key: &str) -> Option<CallId> {
        self.call_keys.get(call_key).copied()
    }

    /// What led to one call leads to another from now on.
    pub fn redirect(&mut self, from: CallId, to: CallId) {
        for key in self.keys.remove(&from).unwrap_or_default() {
            self.remove(&key, from);
            if let Key::Name(naming, text) = key {
                self.insert(naming, text, to);
            }
        }
    }

    /// Makes the call findable by the numbers it now has at its ends.
    pub fn add_numbers(&mut self, id: CallId, caller: Option<&str>, callee: Option<&str>) {
        let caller = caller.map(|number| Key::Caller(number.into()));
        let callee = callee.map(|number| Key::Callee(number.into()));
        for key in [caller, callee].into_iter().flatten() {
            let calls = match &key {
                Key::Caller(number) => self.callers.entry(number.clone()).or_default(),
                Key::Callee(number) => self.callees.entry(number.clone()).or_default(),
                Key::Name(..) => continue,
            };
            if !calls.contains(&id) {
                calls.push(id);
                self.keys.entry(id).or_default().push(key);
            }
        }
    }

    /// Makes the call findable by everything its new leg says about itself and its siblings.
    pub fn add(&mut self, start: &LegStart, id: CallId) {
        self.add_call_key(&start.call_key, id);
        for other in &start.joins.other_leg {
            self.insert(Naming::CallKey, other.as_str().into(), id);
        }
        for half in session_halves(start) {
            self.insert(Naming::Session, half.into(), id);
        }
    }

    /// Makes the call findable by a leg's call key, with and without a PBX's suffix.
    pub fn add_call_key(&mut self, call_key: &Arc<str>, id: CallId) {
        self.insert(Naming::CallKey, call_key.clone(), id);
        if let Some(base) = without_suffix(call_key) {
            self.insert(Naming::Base, base.into(), id);
        }
    }

    /// Forgets every name of a call.
    pub fn forget(&mut self, id: CallId) {
        for key in self.keys.remove(&id).unwrap_or_default() {
            self.remove(&key, id);
        }
    }

    /// The call is over: its numbers lead to it no more, its other names still do for late copies.
    pub fn forget_numbers(&mut self, id: CallId) {
        let Some(mut keys) = self.keys.remove(&id) else { return };
        keys.retain(|key| {
            let is_name = matches!(key, Key::Name(..));
            if !is_name {
                self.remove(key, id);
            }
            is_name
        });
        self.keys.insert(id, keys);
    }

    /// Takes a call out from under one of its names or numbers.
    fn remove(&mut self, key: &Key, id: CallId) {
        let (numbers, number) = match key {
            Key::Caller(number) => (&mut self.callers, number),
            Key::Callee(number) => (&mut self.callees, number),
            Key::Name(naming, name) => {
                self.names(*naming).remove(name);
                return;
            }
        };
        if let Some(calls) = numbers.get_mut(number) {
            calls.retain(|call| *call != id);
            if calls.is_empty() {
                numbers.remove(number);
            }
        }
    }

    fn by_name(&self, start: &LegStart) -> Option<CallId> {
        let call = |key: &str| self.call(key);
        call(&start.call_key)
            .or_else(|| start.joins.replaces.as_deref().and_then(call))
            .or_else(|| start.joins.other_leg.iter().find_map(|other| call(other)))
            .or_else(|| without_suffix(&start.call_key).and_then(call))
            .or_else(|| self.bases.get(&start.call_key).copied())
            .or_else(|| session_halves(start).find_map(|half| self.sessions.get(half).copied()))
    }

    fn insert(&mut self, naming: Naming, name: Arc<str>, id: CallId) {
        let known = self.keys.get(&id).map_or(0, Vec::len);
        // The first call to claim a name keeps it: a peer can't pull a call away by naming its legs.
        if known < KEYS_MAX && !self.names(naming).contains_key(&name) {
            self.names(naming).insert(name.clone(), id);
            self.keys.entry(id).or_default().push(Key::Name(naming, name));
        }
    }

    fn names(&mut self, naming: Naming) -> &mut Names {
        match naming {
            Naming::CallKey => &mut self.call_keys,
            Naming::Base => &mut self.bases,
            Naming::Session => &mut self.sessions,
        }
    }
}

/// Whether the only thing the leg and the call share, the number, is enough.
fn fits_by_number(live: &LiveCall, now: Now, reading: &Reading) -> bool {
    let call = &live.call;
    let same = |a: &Option<String>, b: &Option<String>| a.is_some() && a == b;
    let same_caller = same(&call.caller.number, &reading.caller.number);
    match reading.role {
        LegRole::ToDevice | LegRole::Ambiguous => {
            let open = live.waits_for_device_legs() || live.is_being_sent_on(now.unix);
            open && same_caller && call.caller.device == reading.caller.device
        }
        LegRole::TrunkOut => live.waits_for_trunk_leg() && same(&call.callee.number, &reading.callee.number),
        LegRole::TrunkIn | LegRole::FromDevice => {
            !live.has_caller_leg() && same_caller && now.unix - call.began_at < CALLER_LATE_MS
        }
    }
}

/// The other leg's Call-ID, for PBXs that make a new one by adding to it.
fn without_suffix(call_id: &str) -> Option<&str> {
    let digits = call_id.len() - call_id.bytes().rev().take_while(u8::is_ascii_digit).count();
    let (head, number) = call_id.split_at_checked(digits)?;
    if number.is_empty() || number.len() > 2 {
        return None;
    }
    let base = SUFFIXES.iter().find_map(|suffix| head.strip_suffix(suffix))?;
    (!base.is_empty()).then_some(base)
}

fn session_halves(start: &LegStart) -> impl Iterator<Item = &str> {
    let pair = start.joins.session_id.as_ref();
    pair.into_iter().flat_map(|(local, remote)| [local.as_str(), remote.as_str()]).filter(|half| {
        // RFC 7989 §5: an all-zero half says nothing.
        half.bytes().any(|b| b != b'0')
    })
}

/// Longest first, so that `x_b2b-1` does not leave `x_b2b`.
const SUFFIXES: [&str; 3] = ["_b2b-", "_pbx-", "-"];
const KEYS_MAX: usize = 128;
/// How much later than the device's leg the caller's own leg may be seen.
const CALLER_LATE_MS: i64 = 2_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pbx_suffix_is_taken_off_a_call_id() {
        assert_eq!(without_suffix("abc@pbx_b2b-1"), Some("abc@pbx"));
        assert_eq!(without_suffix("abc_pbx-1"), Some("abc"));
        assert_eq!(without_suffix("abc-0"), Some("abc"));
        assert_eq!(without_suffix("abc-12345"), None);
        assert_eq!(without_suffix("-1"), None);
        assert_eq!(without_suffix("abc"), None);
        assert_eq!(without_suffix("ä"), None);
    }
}
