//! What feeds say of legs: new ones find their call, known ones go on in it.

use std::collections::HashSet;

use super::call::LiveCall;
use super::effect::Effect;
use super::pairing::{Name, Taken};
use super::{CALLS_MAX, Switchboard, View, identity, party};
use crate::model::{
    AccountId, CallId, FeedKind, Leg, LegEnd, LegEvent, LegKey, LegStart, LegState, Now, PbxEvent, PbxId, UnixMillis,
};

impl Switchboard {
    pub(super) fn on_event(&mut self, now: Now, event: &PbxEvent, view: &dyn View, effects: &mut Vec<Effect>) {
        if event.feed == FeedKind::Subscription && self.on_dialog(now, event, view, effects) {
            return;
        }
        if event.feed.is_connector() {
            return self.on_connector(now, event, view, effects);
        }
        if let LegEvent::TakesOver(call_key) = &event.event {
            return self.on_takes_over(now, event, call_key, view, effects);
        }
        let known = self.by_leg.contains_key(&event.leg);
        match self.pairing.take_in(now, event, || !known && view.is_led(event.pbx)) {
            Taken::Same(leg) => self.on_leg(now, &leg, event, view, effects),
            Taken::Held => {}
            Taken::Own => self.on_own(now, event, view, effects),
            Taken::Full => {
                effects.push(Effect::Dropped("unnamed_legs"));
                self.on_own(now, event, view, effects);
            }
        }
    }

    /// A SIP leg that waited for a connector to name it, and nobody did.
    pub(super) fn on_unnamed(
        &mut self,
        now: Now,
        events: &[(Now, PbxEvent)],
        view: &dyn View,
        effects: &mut Vec<Effect>,
    ) {
        let Some((at, first)) = events.first() else { return };
        let twin = match &first.event {
            LegEvent::Started(start) => self.twin(at.unix, first, start, view),
            _ => None,
        };
        if let Some(leg) = twin {
            self.pairing.pair(first.leg.clone(), leg.clone());
            for (at, event) in events {
                self.on_leg(*at, &leg, event, view, effects);
            }
            return;
        }
        let over = events.iter().any(|(_, event)| matches!(event.event, LegEvent::Ended(_)));
        if over && view.is_led(first.pbx) {
            // It came and went while it waited: the connector told of it, and who rang need not ring again.
            effects.push(Effect::Dropped("unnamed_leg"));
            return;
        }
        for (_, event) in events {
            self.on_own(now, event, view, effects);
        }
    }

    /// Ends the legs a connector does not find any more.
    pub(super) fn on_snapshot(
        &mut self,
        now: Now,
        (pbx, feed): (PbxId, FeedKind),
        present: &HashSet<LegKey>,
        view: &dyn View,
        effects: &mut Vec<Effect>,
    ) {
        let of_feed = format!("{}:{pbx}:", feed.as_str());
        self.shadows.keep(|dialog| is_of(dialog, &of_feed) && !present.contains(dialog));
        let lost = |leg: &Leg| leg.state != LegState::Ended && is_of(&leg.key, &of_feed) && !present.contains(&leg.key);
        let ids = self.calls_with(|call| call.call.legs.iter().any(lost));
        self.on_each(now, view, &ids, "not there any more", effects, |call, context| {
            let gone: Vec<LegKey> = call.call.legs.iter().filter(|leg| lost(leg)).map(|leg| leg.key.clone()).collect();
            for key in gone {
                call.on_ended(context, &key, LegEnd::Lost);
            }
        });
    }

    fn on_connector(&mut self, now: Now, event: &PbxEvent, view: &dyn View, effects: &mut Vec<Effect>) {
        match &event.event {
            LegEvent::Started(start) => {
                self.on_own(now, event, view, effects);
                for name in Name::of_connector(event.pbx, start) {
                    self.on_named(now, &event.leg, name, view, effects);
                }
            }
            LegEvent::Named(call_id) => {
                let name = Name::CallId(event.pbx, call_id.as_str().into());
                self.on_named(now, &event.leg, name, view, effects);
            }
            LegEvent::Moved(call_key) => self.on_moved(now, event, call_key, view, effects),
            _ => self.on_leg(now, &event.leg, event, view, effects),
        }
    }

    /// An event of a leg that no other feed stands for.
    pub(super) fn on_own(&mut self, now: Now, event: &PbxEvent, view: &dyn View, effects: &mut Vec<Effect>) {
        match &event.event {
            LegEvent::Started(start) if !self.by_leg.contains_key(&event.leg) => {
                self.on_started(now, event, start, view, effects);
            }
            _ => self.on_leg(now, &event.leg, event, view, effects),
        }
    }

    /// Something happened on `leg`, whoever saw it.
    pub(super) fn on_leg(
        &mut self,
        now: Now,
        leg: &LegKey,
        event: &PbxEvent,
        view: &dyn View,
        effects: &mut Vec<Effect>,
    ) {
        let Some(&id) = self.by_leg.get(leg) else { return };
        let pbx = event.pbx;
        self.on_each(now, view, &[id], &event.evidence, effects, |call, context| match &event.event {
            LegEvent::Started(_) | LegEvent::Named(_) | LegEvent::Moved(_) | LegEvent::TakesOver(_) => {}
            LegEvent::Rang => call.on_rang(context, leg),
            LegEvent::Answered => call.on_answered(context, leg),
            LegEvent::Cancelling => call.on_cancelling(leg),
            LegEvent::Referred => call.on_referred(leg),
            LegEvent::Queued(queued) => call.on_queued(context, pbx, queued),
            LegEvent::Unqueued => call.on_unqueued(),
            LegEvent::Ended(end) => call.on_ended(context, leg, *end),
        });
    }

    fn on_started(&mut self, now: Now, event: &PbxEvent, start: &LegStart, view: &dyn View, effects: &mut Vec<Effect>) {
        let Some(pbx) = view.pbx(event.pbx) else {
            effects.push(Effect::Dropped("unknown_pbx"));
            return;
        };
        let identity = identity::identify(view, event.pbx, event.feed, start);
        let account = identity.device.and_then(|device| view.device(device)).map_or(pbx.account, |facts| facts.account);
        let Some(account) = view.account(account) else {
            effects.push(Effect::Dropped("unknown_account"));
            return;
        };
        let plan = self.plan(&account);
        let tenant = identity.device.map(|_| account.id);
        let reading = party::read(view, &plan, event.pbx, identity, tenant, start);
        let joined = if event.feed.is_connector() {
            self.joins.find_named(start)
        } else {
            self.joins.find(&self.calls, event.pbx, account.id, now, start, &reading)
        };
        let foretold = (event.feed != FeedKind::Subscription)
            .then(|| self.foretold(now.unix, event.pbx, identity, start))
            .flatten();
        let there = || foretold.as_ref().and_then(|dialog| self.by_leg.get(dialog).copied());
        let id = self.call_for(start, joined.call.or_else(there), tenant);
        if self.ended.contains(&id) {
            effects.push(Effect::Dropped("leg_of_ended_call"));
            return;
        }
        if self.calls.len() >= CALLS_MAX && !self.calls.contains_key(&id) {
            effects.push(Effect::Dropped("calls"));
            return;
        }
        if self.calls.get(&id).is_some_and(|call| call.is_full()) {
            effects.push(Effect::Dropped("legs"));
            return;
        }
        let site = self.site;
        let live = self.calls.entry(id).or_insert_with(|| LiveCall::new(now, id, account.id, site, event.pbx).into());
        if live.may_belong_to(account.id) {
            // The PBX's own account was only a stand-in until a device of a tenant showed up.
            live.edit().account = account.id;
        }
        self.by_leg.insert(event.leg.clone(), id);
        self.joins.add(start, id);
        let ambiguous_join = joined.ambiguous;
        self.on_each(now, view, &[id], &event.evidence, effects, |call, context| {
            call.on_started(context, event, start, identity, &reading, ambiguous_join);
        });
        self.doubt_siblings(id, &event.leg);
        if let Some(dialog) = foretold {
            self.overshadow(now, &event.leg, &dialog, view, effects);
        }
    }

    /// A connector's leg turns out to be the one that SIP shows under this name.
    fn on_named(&mut self, now: Now, leg: &LegKey, name: Name, view: &dyn View, effects: &mut Vec<Effect>) {
        let Some(&id) = self.by_leg.get(leg) else { return };
        if let Name::CallId(pbx, call_id) = &name {
            let there = self.joins.call(call_id).filter(|there| *there != id);
            if let Some(there) = there.filter(|there| self.calls.contains_key(there)) {
                self.merge(now, id, there, view, effects);
            }
            let Some(&id) = self.by_leg.get(leg) else { return };
            self.joins.add_call_key(call_id, id);
            let sip = self.calls.get(&id).and_then(|call| call.sip_leg(*pbx, call_id, leg));
            if let Some(sip) = sip {
                self.absorb(now, id, leg, &sip, view, effects);
            }
        }
        for (at, event) in self.pairing.name(leg, name) {
            self.on_leg(at, leg, &event, view, effects);
        }
    }

    /// A SIP leg that was followed by itself goes on as the connector's leg in the same call.
    fn absorb(&mut self, now: Now, id: CallId, leg: &LegKey, sip: &LegKey, view: &dyn View, effects: &mut Vec<Effect>) {
        self.by_leg.remove(sip);
        self.shadows.rename(sip, leg);
        self.pairing.pair(sip.clone(), leg.clone());
        self.on_each(now, view, &[id], "seen by two feeds", effects, |call, _| call.absorb(leg, sip));
    }

    /// Two calls turn out to be one: the one that began first, or the one that is on somebody's screen, goes on.
    pub(super) fn merge(&mut self, now: Now, one: CallId, other: CallId, view: &dyn View, effects: &mut Vec<Effect>) {
        let rank = |id: &CallId| {
            let call = self.calls.get(id);
            call.map(|live| (live.call.offers.is_empty(), live.call.began_at, live.call.id))
        };
        let (stays, goes) = if rank(&one) <= rank(&other) { (one, other) } else { (other, one) };
        let accounts = [stays, goes].map(|id| self.calls.get(&id).map(|live| live.call.account));
        let room =
            [stays, goes].iter().filter_map(|id| self.calls.get(id)).map(|live| live.call.legs.len()).sum::<usize>();
        if accounts[0] != accounts[1] || room > super::call::LEGS_MAX {
            return;
        }
        let Some(gone) = self.calls.remove(&goes) else { return };
        self.unschedule(&gone);
        for leg in &gone.call.legs {
            if self.by_leg.get(&leg.key) == Some(&goes) {
                self.by_leg.insert(leg.key.clone(), stays);
            }
        }
        self.joins.redirect(goes, stays);
        let mut gone = Some(gone);
        self.on_each(now, view, &[stays], "two feeds show one call", effects, |call, context| {
            if let Some(gone) = gone.take() {
                call.take_over(context, *gone);
            }
        });
        effects.push(Effect::Merged { from: goes, into: stays });
    }

    /// A leg goes on in another call (attended transfer, pick-up).
    fn on_moved(&mut self, now: Now, event: &PbxEvent, call_key: &str, view: &dyn View, effects: &mut Vec<Effect>) {
        if let Some(to) = self.joins.call(call_key) {
            self.move_leg(now, &event.leg, to, &event.evidence, view, effects);
        }
    }

    /// The far end of a leg connects those it had asked: what remains of that call goes on in the leg's call. Where a
    /// connector tells of the call it says so itself.
    fn on_takes_over(
        &mut self,
        now: Now,
        event: &PbxEvent,
        call_key: &str,
        view: &dyn View,
        effects: &mut Vec<Effect>,
    ) {
        let Some(&to) = self.by_leg.get(&event.leg) else { return };
        let Some(from) = self.joins.call(call_key).filter(|from| *from != to) else { return };
        let Some(asked) = self.calls.get(&from).filter(|call| !call.is_told()) else { return };
        let live = asked.call.legs.iter().filter(|leg| leg.state != LegState::Ended);
        let (own, others): (Vec<_>, Vec<_>) =
            live.map(|leg| (leg.key.clone(), *leg.call_key == *call_key)).partition(|(_, own)| *own);
        self.on_each(now, view, &[from], &event.evidence, effects, |call, _| {
            for (key, _) in &own {
                call.on_referred(key);
            }
        });
        for (key, _) in others {
            self.move_leg(now, &key, to, &event.evidence, view, effects);
        }
    }

    /// A leg goes on in the call `to`; in its own it has ended.
    fn move_leg(
        &mut self,
        now: Now,
        key: &LegKey,
        to: CallId,
        evidence: &str,
        view: &dyn View,
        effects: &mut Vec<Effect>,
    ) {
        let Some(from) = self.by_leg.get(key).copied().filter(|from| *from != to) else { return };
        let leg = self.calls.get(&from).and_then(|call| call.live_leg(key)).cloned();
        let (Some(leg), Some(target)) = (leg, self.calls.get(&to)) else { return };
        let tenant = leg.device.and_then(|device| view.device(device)).map(|facts| facts.account);
        if target.is_full() || tenant.is_some_and(|account| !target.may_belong_to(account)) {
            return;
        }
        self.by_leg.insert(key.clone(), to);
        self.on_each(now, view, &[from], evidence, effects, |call, context| {
            call.on_referred(key);
            call.on_ended(context, key, LegEnd::Bye);
        });
        self.on_each(now, view, &[to], evidence, effects, |call, context| call.adopt(context, leg.clone()));
    }

    /// The only leg of a connector on this PBX that has no SIP under it yet and belongs to the same device, the same way;
    /// one that has ended meanwhile, too, if it began with the SIP leg.
    fn twin(&self, began: UnixMillis, event: &PbxEvent, start: &LegStart, view: &dyn View) -> Option<LegKey> {
        let identity = identity::identify(view, event.pbx, event.feed, start);
        identity.device?;
        let mut twins = self.calls.values().flat_map(|call| &call.call.legs).filter(|leg| {
            leg.pbx == event.pbx
                && (leg.state != LegState::Ended || (leg.began_at - began).abs() < TWIN_MS)
                && leg.device == identity.device
                && leg.role == identity.role
                && is_connectors(&leg.key)
                && !self.pairing.is_paired(&leg.key)
        });
        match (twins.next(), twins.next()) {
            (Some(leg), None) => Some(leg.key.clone()),
            _ => None,
        }
    }

    /// The call of a new leg: the one it joins, else its own. A call between two tenants of one PBX is a call of each,
    /// whatever the legs say of one another: neither may see, nor end, what is on the other's screens.
    fn call_for(&self, start: &LegStart, joined: Option<CallId>, tenant: Option<AccountId>) -> CallId {
        let own = || CallId::derive(self.site, &start.call_key);
        let Some(tenant) = tenant else { return joined.unwrap_or_else(own) };
        let fits = |id: &CallId| self.calls.get(id).is_none_or(|call| call.may_belong_to(tenant));
        let apart = || CallId::derive(self.site, &format!("{};account={tenant}", start.call_key));
        joined.filter(fits).unwrap_or_else(|| Some(own()).filter(fits).unwrap_or_else(apart))
    }
}

/// Whether a leg's key was made by this connector of this PBX. A Call-ID may look like one; the key made of it has a hop.
fn is_of(key: &LegKey, prefix: &str) -> bool {
    key.0.starts_with(prefix) && !key.0.contains(";hop=")
}

/// Whether a leg's key was made by a connector.
pub(super) fn is_connectors(key: &LegKey) -> bool {
    [FeedKind::Asterisk, FeedKind::Freeswitch].iter().any(|kind| is_of(key, &format!("{}:", kind.as_str())))
}

/// How far apart two feeds may see one leg begin.
const TWIN_MS: i64 = 1_000;
