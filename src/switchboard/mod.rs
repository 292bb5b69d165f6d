//! Calls and offers of one site: `apply(now, input, view) → effects`, pure.
//!
//! A feed's [`PbxEvent`]s come in; calls are joined from legs, directions and outcomes worked out, offers made, moved
//! and closed, and every decision noted in the call's trail. Nothing here reads a clock or waits: the same events
//! replayed give the same effects.

mod call;
mod effect;
mod identity;
mod join;
mod number;
mod offers;
mod outcome;
mod party;
mod preview;
mod queue;
mod route;
mod view;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

pub use effect::Effect;
pub use number::{CompiledPlan, Number, NumberClass};
pub use preview::{PreviewQuestion, PreviewRow, preview};
pub use route::{Question, Trigger, route};
pub use view::{DeviceFacts, UserFacts, View};

use self::call::LiveCall;
use self::effect::Context;
use self::join::JoinIndex;
use crate::model::{
    Account, AccountId, Call, CallId, DeviceId, FeedKind, LegEnd, LegEvent, LegKey, LegStart, LegState, Now, PbxEvent,
    PbxId, SiteId, Tick, UserId,
};

/// What the switchboard is told.
#[derive(Clone, Debug)]
pub enum Input<'a> {
    /// A feed saw something on a leg.
    Event(&'a PbxEvent),
    /// A connector looked at its PBX again: these are its live legs, and no others.
    Snapshot {
        /// The PBX.
        pbx: PbxId,
        /// Whose legs.
        feed: FeedKind,
        /// Their keys.
        legs: &'a HashSet<LegKey>,
    },
    /// A user was edited, enabled, disabled, linked or unlinked.
    UserChanged(UserId),
    /// A device was edited, enabled, disabled, linked or unlinked.
    DeviceChanged(DeviceId),
    /// Time passed: something may be due (see [`Switchboard::next_deadline`]).
    Time,
}

/// All live calls of one site.
pub struct Switchboard {
    site: SiteId,
    calls: HashMap<CallId, LiveCall>,
    by_leg: HashMap<LegKey, CallId>,
    joins: JoinIndex,
    /// Each live call's own deadline, for calls whose end nobody saw, and when an ended call is forgotten.
    deadlines: BTreeSet<(Tick, CallId)>,
    /// Calls that ended a moment ago: a copy that comes late must not start them anew.
    ended: HashSet<CallId>,
    plans: HashMap<AccountId, Arc<CompiledPlan>>,
}

impl Switchboard {
    /// An idle switchboard for `site`.
    #[must_use]
    pub fn new(site: SiteId) -> Self {
        Self {
            site,
            calls: HashMap::new(),
            by_leg: HashMap::new(),
            joins: JoinIndex::default(),
            deadlines: BTreeSet::new(),
            ended: HashSet::new(),
            plans: HashMap::new(),
        }
    }

    /// Takes a call over that was live when the process stopped: its offers keep their ids and are not made again.
    /// One that had ended shortly before is only remembered, so that a late copy does not start it anew.
    pub fn restore(&mut self, now: Now, call: Call, trail_length: u32) {
        let live = LiveCall::restored(now, call, trail_length);
        if live.is_over() {
            for leg in &live.call.legs {
                self.joins.add_call_key(&leg.call_key, live.call.id);
            }
            self.remember_ended(now, live.call.id);
            return;
        }
        for leg in &live.call.legs {
            self.by_leg.insert(leg.key.clone(), live.call.id);
            self.joins.add_call_key(&leg.call_key, live.call.id);
        }
        self.deadlines.insert((live.deadline, live.call.id));
        self.calls.insert(live.call.id, live);
    }

    /// Applies one input and says what follows from it, in order.
    pub fn apply(&mut self, now: Now, input: &Input<'_>, view: &dyn View) -> Vec<Effect> {
        let mut effects = Vec::new();
        match input {
            Input::Event(event) => self.on_event(now, event, view, &mut effects),
            Input::Snapshot { pbx, feed, legs } => self.on_snapshot(now, *pbx, *feed, legs, view, &mut effects),
            Input::UserChanged(user) => {
                let ids = self.calls_with(|call| call.has_open_offer_of(*user));
                self.on_each(now, view, &ids, "user changed", &mut effects, |call, context| {
                    offers::recheck_user(call, context, *user);
                });
            }
            Input::DeviceChanged(device) => {
                let ids = self.calls_with(|call| call.call.legs.iter().any(|leg| leg.device == Some(*device)));
                self.on_each(now, view, &ids, "device changed", &mut effects, |call, context| {
                    offers::recheck_device(call, context, *device);
                });
            }
            Input::Time => self.on_time(now, view, &mut effects),
        }
        effects
    }

    /// When [`Input::Time`] has something to do, at the earliest.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Tick> {
        self.deadlines.first().map(|(at, _)| *at)
    }

    /// Live calls, in no order.
    pub fn calls(&self) -> impl Iterator<Item = &Call> {
        self.calls.values().map(|live| &live.call)
    }

    fn on_event(&mut self, now: Now, event: &PbxEvent, view: &dyn View, effects: &mut Vec<Effect>) {
        if let LegEvent::Started(start) = &event.event {
            if !self.by_leg.contains_key(&event.leg) {
                self.on_started(now, event, start, view, effects);
            }
            return;
        }
        let Some(&id) = self.by_leg.get(&event.leg) else { return };
        let evidence = event.evidence.as_str();
        self.on_each(now, view, &[id], evidence, effects, |call, context| match &event.event {
            LegEvent::Started(_)
            | LegEvent::Named(_)
            | LegEvent::Queued(_)
            | LegEvent::Unqueued
            | LegEvent::Moved(_) => {}
            LegEvent::Rang => call.on_rang(context, &event.leg),
            LegEvent::Answered => call.on_answered(context, &event.leg),
            LegEvent::Cancelling => call.on_cancelling(&event.leg),
            LegEvent::Referred => call.on_referred(&event.leg),
            LegEvent::Ended(end) => call.on_ended(context, &event.leg, *end),
        });
    }

    /// Ends the legs a connector does not find any more.
    fn on_snapshot(
        &mut self,
        now: Now,
        pbx: PbxId,
        feed: FeedKind,
        present: &HashSet<LegKey>,
        view: &dyn View,
        effects: &mut Vec<Effect>,
    ) {
        let of_feed = format!("{}:{pbx}:", feed.as_str());
        let lost = |leg: &crate::model::Leg| {
            leg.state != LegState::Ended && leg.key.0.starts_with(&of_feed) && !present.contains(&leg.key)
        };
        let ids = self.calls_with(|call| call.call.legs.iter().any(lost));
        self.on_each(now, view, &ids, "not there any more", effects, |call, context| {
            let gone: Vec<LegKey> = call.call.legs.iter().filter(|leg| lost(leg)).map(|leg| leg.key.clone()).collect();
            for key in gone {
                call.on_ended(context, &key, LegEnd::Lost);
            }
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
        let joined = self.joins.find(&self.calls, event.pbx, account.id, now, start, &reading);
        let id = self.call_for(start, joined.call, tenant);
        if self.ended.contains(&id) {
            effects.push(Effect::Dropped("leg_of_ended_call"));
            return;
        }
        if self.calls.len() >= CALLS_MAX && !self.calls.contains_key(&id) {
            effects.push(Effect::Dropped("calls"));
            return;
        }
        if self.calls.get(&id).is_some_and(LiveCall::is_full) {
            effects.push(Effect::Dropped("legs"));
            return;
        }
        let site = self.site;
        let live = self.calls.entry(id).or_insert_with(|| LiveCall::new(now, id, account.id, site, event.pbx));
        if live.may_belong_to(account.id) {
            // The PBX's own account was only a stand-in until a device of a tenant showed up.
            live.call.account = account.id;
        }
        self.deadlines.insert((live.deadline, id));
        self.by_leg.insert(event.leg.clone(), id);
        self.joins.add(start, id);
        let ambiguous_join = joined.ambiguous;
        self.on_each(now, view, &[id], &event.evidence, effects, |call, context| {
            call.on_started(context, event, start, identity, &reading, ambiguous_join);
        });
    }

    /// The call of a new leg: the one it joins, else its own. A call between two tenants of one PBX is a call of each,
    /// whatever the legs say of one another: neither may see, nor end, what is on the other's screens.
    fn call_for(&self, start: &LegStart, joined: Option<CallId>, tenant: Option<AccountId>) -> CallId {
        let own = CallId::derive(self.site, &start.call_key);
        let Some(tenant) = tenant else { return joined.unwrap_or(own) };
        let fits = |id: &CallId| self.calls.get(id).is_none_or(|call| call.may_belong_to(tenant));
        let apart = || CallId::derive(self.site, &format!("{};account={tenant}", start.call_key));
        [joined.unwrap_or(own), own].into_iter().find(fits).unwrap_or_else(apart)
    }

    fn on_time(&mut self, now: Now, view: &dyn View, effects: &mut Vec<Effect>) {
        let mut due = Vec::new();
        while let Some(&(at, id)) = self.deadlines.first().filter(|(at, _)| *at <= now.tick) {
            // A call that lives on puts its new deadline back.
            self.deadlines.remove(&(at, id));
            if self.ended.remove(&id) {
                self.joins.forget(id);
            } else {
                due.push(id);
            }
        }
        self.on_each(now, view, &due, "nothing more was heard", effects, LiveCall::on_deadline);
    }

    /// Lets `change` work on each of these calls, then writes the call down if it changed and forgets it if it ended.
    fn on_each(
        &mut self,
        now: Now,
        view: &dyn View,
        ids: &[CallId],
        evidence: &str,
        effects: &mut Vec<Effect>,
        mut change: impl FnMut(&mut LiveCall, &mut Context<'_>),
    ) {
        for id in ids {
            let Some(call) = self.calls.get(id) else { continue };
            let Some(account) = view.account(call.call.account) else { continue };
            let Some(call) = self.calls.get_mut(id) else { continue };
            let before = call.deadline;
            let mut context = Context { now, view, site: self.site, account: &account, evidence, effects };
            change(call, &mut context);
            call.settle(&mut context);
            if call.take_changed() {
                effects.push(Effect::Call(Arc::new(call.call.clone())));
            }
            if call.is_over() {
                self.deadlines.remove(&(before, *id));
                self.forget(now, *id);
            } else {
                self.deadlines.remove(&(before, *id));
                self.deadlines.insert((call.deadline, *id));
            }
        }
    }

    fn forget(&mut self, now: Now, id: CallId) {
        let Some(call) = self.calls.remove(&id) else { return };
        for leg in &call.call.legs {
            self.by_leg.remove(&leg.key);
        }
        self.remember_ended(now, id);
    }

    fn remember_ended(&mut self, now: Now, id: CallId) {
        if self.ended.len() >= CALLS_MAX {
            self.joins.forget(id);
            return;
        }
        if self.ended.insert(id) {
            self.deadlines.insert((now.tick + ENDED_MS, id));
        }
    }

    fn calls_with(&self, wanted: impl Fn(&LiveCall) -> bool) -> Vec<CallId> {
        let mut ids: Vec<CallId> = self.calls.values().filter(|call| wanted(call)).map(|call| call.call.id).collect();
        ids.sort_unstable();
        ids
    }

    /// The account's number plan, compiled again only when it was edited.
    fn plan(&mut self, account: &Account) -> Arc<CompiledPlan> {
        let compile = || Arc::new(CompiledPlan::new(&account.number_plan));
        let plan = self.plans.entry(account.id).or_insert_with(compile);
        if !plan.is_of(&account.number_plan) {
            *plan = compile();
        }
        plan.clone()
    }
}

/// More live calls than this in one site are not followed; counted as dropped.
const CALLS_MAX: usize = 20_000;
/// How late a copy of an ended call's message may come: 64·T1, after which nobody retransmits.
const ENDED_MS: u64 = 32_000;
