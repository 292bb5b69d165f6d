//! Calls and offers of one site: `apply(now, input, view) → effects`, pure.
//!
//! A feed's [`PbxEvent`]s come in; calls are joined from legs, directions and outcomes worked out, offers made, moved
//! and closed, and every decision noted in the call's trail. Nothing here reads a clock or waits: the same events
//! replayed give the same effects.

mod call;
mod effect;
mod handover;
mod identity;
mod join;
mod legs;
mod number;
mod offers;
mod outcome;
mod pairing;
mod party;
mod preview;
mod queue;
mod route;
mod shadow;
mod view;
mod waiting;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use foldhash::quality::RandomState;

pub use effect::Effect;
pub use number::{CompiledPlan, Number, NumberClass};
pub use preview::{PreviewQuestion, PreviewRow, preview};
pub use route::{Question, Trigger, route};
pub use view::{DeviceFacts, UserFacts, View};

use self::call::LiveCall;
use self::effect::Context;
use self::join::JoinIndex;
use self::pairing::Pairing;
use self::shadow::Shadows;
use crate::model::{
    Account, AccountId, Call, CallId, DeviceId, FeedKind, LegKey, LegState, Now, PbxEvent, PbxId, SiteId, Tick, UserId,
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
    /// Boxed, so that looking one up among many stays within a small table.
    calls: HashMap<CallId, Box<LiveCall>, RandomState>,
    by_leg: HashMap<LegKey, CallId, RandomState>,
    joins: JoinIndex,
    pairing: Pairing,
    shadows: Shadows,
    /// One entry a live call, its `scheduled`, for calls whose end nobody saw; and when an ended call is forgotten.
    deadlines: BTreeSet<(Tick, CallId)>,
    /// Calls that ended a moment ago: a copy that comes late must not start them anew.
    ended: HashSet<CallId, RandomState>,
    plans: HashMap<AccountId, Arc<CompiledPlan>, RandomState>,
}

impl Switchboard {
    /// An idle switchboard for `site`.
    #[must_use]
    pub fn new(site: SiteId) -> Self {
        Self {
            site,
            calls: HashMap::default(),
            by_leg: HashMap::default(),
            joins: JoinIndex::default(),
            pairing: Pairing::default(),
            shadows: Shadows::default(),
            deadlines: BTreeSet::new(),
            ended: HashSet::default(),
            plans: HashMap::default(),
        }
    }

    /// Takes a call over that was live when the process stopped: its offers keep their ids and are not made again.
    /// One that had ended shortly before is only remembered, so that a late copy does not start it anew.
    pub fn restore(&mut self, now: Now, call: Call, trail_length: u32) {
        let mut live = LiveCall::restored(now, call, trail_length);
        if live.is_over() {
            for leg in &live.call.legs {
                self.joins.add_call_key(&leg.call_key, live.call.id);
            }
            self.remember_ended(now, live.call.id);
            return;
        }
        for leg in &live.call.legs {
            // A leg that went on to another call stands here as well, ended.
            if leg.state != LegState::Ended {
                self.by_leg.insert(leg.key.clone(), live.call.id);
            }
            self.joins.add_call_key(&leg.call_key, live.call.id);
        }
        schedule(&mut self.deadlines, &mut live);
        let (caller, callee) = (live.call.caller.number.as_deref(), live.call.callee.number.as_deref());
        self.joins.add_numbers(live.call.id, caller, callee);
        self.calls.insert(live.call.id, live.into());
    }

    /// Applies one input and says what follows from it, in order.
    pub fn apply(&mut self, now: Now, input: &Input<'_>, view: &dyn View) -> Vec<Effect> {
        let mut effects = Vec::new();
        match input {
            Input::Event(event) => self.on_event(now, event, view, &mut effects),
            Input::Snapshot { pbx, feed, legs } => {
                self.on_snapshot(now, (*pbx, *feed), legs, view, &mut effects);
            }
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
        let own = self.deadlines.first().map(|(at, _)| *at);
        own.into_iter().chain(self.pairing.next_deadline()).chain(self.shadows.next_deadline()).min()
    }

    /// Live calls, in no order.
    pub fn calls(&self) -> impl Iterator<Item = &Call> {
        self.calls.values().map(|live| &*live.call)
    }

    fn on_time(&mut self, now: Now, view: &dyn View, effects: &mut Vec<Effect>) {
        for events in self.pairing.overdue(now) {
            self.on_unnamed(now, &events, view, effects);
        }
        self.on_shadows_gone(now, view, effects);
        let mut due = Vec::new();
        while let Some(&(at, id)) = self.deadlines.first().filter(|(at, _)| *at <= now.tick) {
            self.deadlines.remove(&(at, id));
            if self.ended.remove(&id) {
                self.joins.forget(id);
            } else if let Some(live) = self.calls.get_mut(&id) {
                live.scheduled = None;
                if live.deadline <= now.tick {
                    due.push(id);
                } else {
                    schedule(&mut self.deadlines, live);
                }
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
            let mut context = Context { now, view, site: self.site, account: &account, evidence, effects };
            change(call, &mut context);
            call.settle(&mut context);
            if let Some([caller, callee]) = call.take_numbers() {
                self.joins.add_numbers(*id, caller, callee);
            }
            if call.take_changed() {
                effects.push(Effect::Call(call.call.clone()));
            }
            if call.is_over() {
                self.forget(now, *id);
            } else {
                schedule(&mut self.deadlines, call);
            }
        }
    }

    fn forget(&mut self, now: Now, id: CallId) {
        let Some(call) = self.calls.remove(&id) else { return };
        self.unschedule(&call);
        self.joins.forget_numbers(id);
        for leg in &call.call.legs {
            if self.by_leg.get(&leg.key) == Some(&id) {
                self.by_leg.remove(&leg.key);
                self.pairing.forget(&leg.key);
                self.shadows.forget(&leg.key);
            }
        }
        self.remember_ended(now, id);
    }

    fn unschedule(&mut self, call: &LiveCall) {
        if let Some(at) = call.scheduled {
            self.deadlines.remove(&(at, call.call.id));
        }
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

/// Sees to it that a call is looked at by its deadline. Each event moves that on; a call is put back when it comes up.
fn schedule(deadlines: &mut BTreeSet<(Tick, CallId)>, live: &mut LiveCall) {
    let id = live.call.id;
    if live.scheduled.is_some_and(|at| at <= live.deadline) {
        return;
    }
    if let Some(later) = live.scheduled.replace(live.deadline) {
        deadlines.remove(&(later, id));
    }
    deadlines.insert((live.deadline, id));
}

/// More live calls than this in one site are not followed; counted as dropped.
const CALLS_MAX: usize = 20_000;
/// How late a copy of an ended call's message may come: 64·T1, after which nobody retransmits.
const ENDED_MS: u64 = 32_000;
