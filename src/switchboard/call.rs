//! One live call: its legs, which way it goes, how it ends.

use std::collections::HashSet;
use std::sync::Arc;

use foldhash::quality::RandomState;

use super::effect::{Context, Effect};
use super::identity::Identity;
use super::party::Reading;
use super::route::Trigger;
use super::waiting::Line;
use super::{offers, outcome};
use crate::model::{
    AccountId, Call, CallId, CallState, CallUser, DeviceId, Direction, Leg, LegEnd, LegKey, LegRole, LegStart,
    LegState, Now, PbxEvent, PbxId, Reason, RescindReason, SiteId, Tick, UnixMillis, UserAction, UserId,
};

/// A call and what is known about it only while it lives.
pub(super) struct LiveCall {
    /// Whoever was told of it shares it; it is copied at its next change only while they still hold it.
    pub call: Arc<Call>,
    /// When it is given up: nothing was heard, or its caller is gone and its other legs are overdue.
    pub deadline: Tick,
    /// When it will be looked at.
    pub scheduled: Option<Tick>,
    pub heard_at: Tick,
    /// Since when no caller's leg is left.
    caller_gone_at: Option<Tick>,
    /// Reasons already in the trail, so that a re-ring does not repeat them.
    pub noted: HashSet<(Option<UserId>, Reason, Option<DeviceId>), RandomState>,
    pub trail_length: u32,
    /// Caller's legs whose CANCEL was seen: the caller is going, whatever comes first.
    pub cancelling: HashSet<LegKey, RandomState>,
    /// Legs that sent the call elsewhere (REFER).
    pub referred: HashSet<LegKey, RandomState>,
    /// Who calls and who is called comes from the caller's own leg, which knows best.
    pub parties_known: bool,
    pub changed: bool,
    pub line: Line,
    /// The numbers of caller and called side under which it can be found.
    filed: [Option<String>; 2],
}

impl LiveCall {
    pub fn new(now: Now, id: CallId, account: AccountId, site: SiteId, pbx: PbxId) -> Self {
        let call = Call {
            id,
            account,
            site,
            pbx,
            state: CallState::Calling,
            direction: Direction::Internal,
            caller: Arc::default(),
            callee: Arc::default(),
            queue: None,
            waiting: None,
            began_at: now.unix,
            answered_at: None,
            ended_at: None,
            outcome: None,
            ring_ms: 0,
            talk_ms: 0,
            legs: Vec::new(),
            users: Vec::new(),
            offers: Vec::new(),
        };
        Self::around(now, call, 0)
    }

    pub fn restored(now: Now, call: Call, trail_length: u32) -> Self {
        let mut live = Self::around(now, call, trail_length);
        live.parties_known = live.has_caller_leg();
        live
    }

    fn around(now: Now, call: Call, trail_length: u32) -> Self {
        Self {
            call: call.into(),
            deadline: now.tick + SILENCE_MS,
            scheduled: None,
            heard_at: now.tick,
            caller_gone_at: None,
            noted: HashSet::default(),
            trail_length,
            cancelling: HashSet::default(),
            referred: HashSet::default(),
            parties_known: false,
            changed: false,
            line: Line::default(),
            filed: [None, None],
        }
    }

    /// The call, to change it.
    pub fn edit(&mut self) -> &mut Call {
        Arc::make_mut(&mut self.call)
    }

    pub fn on_started(
        &mut self,
        context: &mut Context<'_>,
        event: &PbxEvent,
        start: &LegStart,
        identity: Identity,
        reading: &Reading,
        ambiguous_join: bool,
    ) {
        self.heard(context.now);
        self.edit().legs.push(Leg {
            key: event.leg.clone(),
            call_key: start.call_key.clone(),
            pbx: event.pbx,
            role: identity.role,
            device: identity.device,
            state: LegState::Calling,
            began_at: context.now.unix,
            rang_at: None,
            answered_at: None,
            ended_at: None,
            end: None,
        });
        if ambiguous_join {
            offers::note(self, context, None, Reason::Ambiguous, identity.device);
        }
        let joins = reading.joins_queue;
        self.line = self.line.after_leg(identity.role, reading.queue.is_some());
        self.take_reading(reading);
        offers::refresh_parties(self, context);
        if joins {
            offers::on_queue_join(self, context);
        }
        if let (LegRole::FromDevice, Some(device)) = (identity.role, identity.device) {
            offers::on_placed(self, context, device, Trigger::Placed);
        }
    }

    pub fn on_rang(&mut self, context: &mut Context<'_>, key: &LegKey) {
        let now = context.now.unix;
        self.heard(context.now);
        let Some(leg) = self.leg_mut(key).filter(|leg| leg.state == LegState::Calling) else { return };
        leg.state = LegState::Ringing;
        leg.rang_at.get_or_insert(now);
        let (role, device) = (leg.role, leg.device);
        match (role, device) {
            (LegRole::ToDevice, Some(device)) => {
                self.attribute(context, device, UserAction::Rang);
                self.device_called(context, device);
                offers::on_ring(self, context, device);
            }
            (LegRole::Ambiguous, _) => offers::note(self, context, None, Reason::Ambiguous, None),
            (LegRole::FromDevice, Some(device)) => self.device_called(context, device),
            _ => {}
        }
    }

    pub fn on_answered(&mut self, context: &mut Context<'_>, key: &LegKey) {
        let now = context.now.unix;
        self.heard(context.now);
        let Some(leg) = self.leg_mut(key).filter(|leg| matches!(leg.state, LegState::Calling | LegState::Ringing))
        else {
            return;
        };
        leg.state = LegState::Answered;
        leg.answered_at = Some(now);
        self.cancelling.remove(key);
        let Some(leg) = self.leg(key) else { return };
        // A device that takes a call over (Replaces, pick-up) calls the PBX, yet it is the one that answers.
        let takes_over = leg.role == LegRole::FromDevice && leg.device != self.call.caller.device;
        match (leg.role, leg.device) {
            (role, Some(device)) if role == LegRole::ToDevice || takes_over => {
                self.edit().answered_at.get_or_insert(now);
                if !self.call.callee.external {
                    // Of all that rang, the one that answered is who was reached.
                    self.reached(Some(device));
                }
                self.attribute(context, device, UserAction::Answered);
                self.device_called(context, device);
                offers::on_answer(self, context, device);
                if self.call.direction == Direction::Internal {
                    self.placer_answered(context);
                }
            }
            (LegRole::TrunkOut, _) if self.call.direction == Direction::Outbound => {
                self.edit().answered_at.get_or_insert(now);
                self.placer_answered(context);
            }
            (LegRole::FromDevice, Some(device)) => {
                self.device_called(context, device);
                let other_side = |leg: &Leg| matches!(leg.role, LegRole::TrunkOut | LegRole::ToDevice);
                if self.call.direction == Direction::Outbound && !self.call.legs.iter().any(other_side) {
                    self.edit().answered_at.get_or_insert(now);
                    self.placer_answered(context);
                }
            }
            _ => {}
        }
    }

    pub fn on_cancelling(&mut self, key: &LegKey) {
        self.cancelling.insert(key.clone());
    }

    pub fn on_referred(&mut self, key: &LegKey) {
        self.referred.insert(key.clone());
    }

    pub fn on_ended(&mut self, context: &mut Context<'_>, key: &LegKey, end: LegEnd) {
        let now = context.now.unix;
        self.heard(context.now);
        let Some(leg) = self.leg_mut(key) else { return };
        if leg.state == LegState::Ended {
            // Two feeds saw it end, and only the second may have known that somebody else had answered.
            if (leg.end, end) == (Some(LegEnd::Cancelled), LegEnd::CancelledElsewhere) {
                leg.end = Some(end);
            }
            return;
        }
        leg.state = LegState::Ended;
        leg.ended_at = Some(now);
        leg.end = Some(end);
        let (role, device) = (leg.role, leg.device);
        let referred = self.referred.contains(key);
        if let (LegRole::ToDevice | LegRole::FromDevice, Some(device)) = (role, device) {
            let reason = self.rescind_reason(role, end, referred);
            offers::on_leg_ended(self, context, device, reason, referred);
        }
        if matches!(role, LegRole::TrunkIn | LegRole::FromDevice) && !referred {
            self.caller_gone_at = Some(context.now.tick);
        }
    }

    /// Nothing more will be heard: every leg ends now.
    pub fn on_deadline(&mut self, context: &mut Context<'_>) {
        let live: Vec<LegKey> =
            self.call.legs.iter().filter(|leg| leg.state != LegState::Ended).map(|leg| leg.key.clone()).collect();
        for key in live {
            self.on_ended(context, &key, LegEnd::TimedOut);
        }
    }

    /// Works out state and direction after a change, and ends the call when its last leg has ended.
    pub fn settle(&mut self, context: &mut Context<'_>) {
        let legs = &self.call.legs;
        let ended = !legs.is_empty() && legs.iter().all(|leg| leg.state == LegState::Ended);
        let rings = legs.iter().any(|leg| outcome::is_called_side(&self.call, leg) && leg.state == LegState::Ringing);
        let state = match (ended, self.call.answered_at.is_some(), rings) {
            (true, ..) => CallState::Ended,
            (_, true, _) => CallState::Answered,
            (_, _, true) => CallState::Ringing,
            _ => CallState::Calling,
        };
        if state == CallState::Ended && self.call.state != CallState::Ended {
            self.finish(context);
        }
        if self.call.state != state {
            self.edit().state = state;
            self.changed = true;
        }
        let winding_down = self.caller_gone_at.filter(|_| !self.call.legs.iter().any(is_live_caller));
        self.deadline = winding_down.map_or(self.heard_at + SILENCE_MS, |at| at + WIND_DOWN_MS);
    }

    /// The numbers at its ends, when they are others than those it was filed under.
    pub fn take_numbers(&mut self) -> Option<[Option<&str>; 2]> {
        let ends = [&self.call.caller.number, &self.call.callee.number];
        if self.filed.iter().eq(ends) {
            return None;
        }
        self.filed = ends.map(Clone::clone);
        Some(self.filed.each_ref().map(Option::as_deref))
    }

    /// Whether it has as many legs as it may.
    pub fn is_full(&self) -> bool {
        self.call.legs.len() >= LEGS_MAX
    }

    pub fn is_over(&self) -> bool {
        self.call.state == CallState::Ended
    }

    pub fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }

    pub fn has_open_offer_of(&self, user: UserId) -> bool {
        self.call.offers.iter().any(|offer| offer.user == user && offers::is_open(offer))
    }

    /// A call whose account is not settled by a device may turn out to be any tenant's.
    pub fn may_belong_to(&self, account: AccountId) -> bool {
        self.call.account == account || self.call.legs.iter().all(|leg| leg.device.is_none())
    }

    pub fn has_caller_leg(&self) -> bool {
        self.call.legs.iter().any(|leg| matches!(leg.role, LegRole::TrunkIn | LegRole::FromDevice))
    }

    /// A caller is there and no device has answered yet.
    pub fn waits_for_device_legs(&self) -> bool {
        self.call.legs.iter().any(is_live_caller) && self.call.answered_at.is_none()
    }

    /// Somebody who talked sent it elsewhere a moment ago, and its caller waits.
    pub fn is_being_sent_on(&self, now: UnixMillis) -> bool {
        let lately =
            |leg: &Leg| leg.ended_at.is_none_or(|at| now - at < SENT_ON_MS) && self.referred.contains(&leg.key);
        self.call.legs.iter().any(is_live_caller) && self.call.legs.iter().any(lately)
    }

    /// A device is calling out and the leg to the outside has not been seen.
    pub fn waits_for_trunk_leg(&self) -> bool {
        self.call.direction == Direction::Outbound
            && self.call.legs.iter().any(is_live_caller)
            && !self.call.legs.iter().any(|leg| leg.role == LegRole::TrunkOut)
    }

    pub fn caller_has_answer(&self) -> bool {
        let answered = |leg: &Leg| leg.state == LegState::Answered;
        self.call.legs.iter().any(|leg| matches!(leg.role, LegRole::TrunkIn | LegRole::FromDevice) && answered(leg))
    }

    fn take_reading(&mut self, reading: &Reading) {
        let from_caller = matches!(reading.role, LegRole::TrunkIn | LegRole::FromDevice);
        if from_caller && !self.parties_known {
            self.parties_known = true;
            self.edit().callee = reading.callee.clone();
            // The PBX may have put a name to the number; the trunk seldom does.
            let name = self.call.caller.name.clone().filter(|_| !reading.caller.withheld);
            self.edit().caller = reading.caller.clone();
            if self.call.caller.name.is_none() && name.is_some() {
                Arc::make_mut(&mut self.edit().caller).name = name;
            }
        } else if !self.parties_known && self.call.legs.len() == 1 {
            self.edit().caller = reading.caller.clone();
            self.edit().callee = reading.callee.clone();
        } else if self.call.callee.device.is_none() && reading.role == LegRole::ToDevice && !self.call.callee.external {
            self.reached(reading.callee.device);
        }
        let went_outside = reading.role == LegRole::TrunkOut && reading.callee.external;
        if went_outside && self.call.caller.device.is_some() && self.is_nobody_here() {
            // What was dialled is the PBX's own affair; where the PBX went with it tells.
            self.edit().callee = reading.callee.clone();
        }
        if reading.queue.is_some() {
            self.edit().queue = reading.queue;
        }
        self.edit().direction = outcome::direction(&self.call.caller, &self.call.callee);
    }

    /// The device at the called end, as it is now known.
    pub fn reached(&mut self, device: Option<DeviceId>) {
        if self.call.callee.device != device {
            Arc::make_mut(&mut self.edit().callee).device = device;
        }
    }

    /// Who was dialled is neither a device nor known to be outside.
    fn is_nobody_here(&self) -> bool {
        !self.call.callee.external && self.call.callee.device.is_none() && self.call.queue.is_none()
    }

    fn rescind_reason(&self, role: LegRole, end: LegEnd, referred: bool) -> RescindReason {
        if referred {
            return RescindReason::Transferred;
        }
        match end {
            LegEnd::Rejected(486 | 600 | 603 | 480) if role == LegRole::ToDevice => RescindReason::Declined,
            LegEnd::Rejected(486 | 600 | 603) => RescindReason::Declined,
            LegEnd::Rejected(300..=399) => RescindReason::Transferred,
            LegEnd::CancelledElsewhere if !self.caller_gone() => RescindReason::AnsweredElsewhere,
            LegEnd::Cancelled if role == LegRole::FromDevice || self.caller_gone() || !self.has_caller_leg() => {
                RescindReason::CallerHangup
            }
            LegEnd::Bye | LegEnd::CancelledElsewhere => RescindReason::CallerHangup,
            LegEnd::Cancelled | LegEnd::Rejected(_) | LegEnd::TimedOut | LegEnd::Lost => RescindReason::Timeout,
        }
    }

    /// Why popups go that are still there when the call is over.
    pub fn last_reason(&self) -> RescindReason {
        if self.caller_gone() { RescindReason::CallerHangup } else { RescindReason::Timeout }
    }

    /// The caller has hung up, or has begun to.
    fn caller_gone(&self) -> bool {
        // To refuse the caller is the PBX's doing, and comes when nobody answered.
        let refused = |leg: &Leg| matches!(leg.end, Some(LegEnd::Rejected(_)));
        let gone = |leg: &Leg| (leg.state == LegState::Ended && !refused(leg)) || self.cancelling.contains(&leg.key);
        let mut callers =
            self.call.legs.iter().filter(|leg| matches!(leg.role, LegRole::TrunkIn | LegRole::FromDevice)).peekable();
        callers.peek().is_some() && callers.all(gone)
    }

    fn placer_answered(&mut self, context: &mut Context<'_>) {
        let placer = self.call.legs.iter().find(|leg| leg.role == LegRole::FromDevice).and_then(|leg| leg.device);
        if let Some(device) = placer {
            offers::on_placed(self, context, device, Trigger::PlacedAnswered);
        }
    }

    pub fn attribute(&mut self, context: &Context<'_>, device: DeviceId, action: UserAction) {
        for user in context.view.linked_users(device) {
            self.attribute_user(context, user, device, action);
        }
    }

    /// Notes what a user's device did; disabled users are not attributed.
    pub fn attribute_user(&mut self, context: &Context<'_>, user: UserId, device: DeviceId, action: UserAction) {
        if !context.view.user(user).is_some_and(|facts| facts.enabled && facts.account == self.call.account) {
            return;
        }
        self.changed = true;
        let users = &mut self.edit().users;
        match users.iter_mut().find(|known| known.user == user && known.device == device) {
            Some(known) => known.action = known.action.max(action),
            None => users.push(CallUser { user, device, action }),
        }
    }

    /// Tells the registry that the device is alive and, when the other end is external, assignable (T4).
    fn device_called(&self, context: &mut Context<'_>, device: DeviceId) {
        let other = if self.call.direction == Direction::Outbound { &self.call.callee } else { &self.call.caller };
        let external = self.call.direction != Direction::Internal && other.external;
        context.effects.push(Effect::DeviceCalled {
            device,
            external_number: other.number.clone().filter(|_| external),
            external,
            at: context.now.unix,
        });
    }

    fn finish(&mut self, context: &mut Context<'_>) {
        let now = context.now.unix;
        self.changed = true;
        offers::on_call_ended(self, context);
        self.edit().ended_at = Some(now);
        self.edit().waiting = None;
        let internal_service = self.call.direction == Direction::Internal
            && !self.call.legs.iter().any(|leg| matches!(leg.role, LegRole::ToDevice | LegRole::Ambiguous));
        if internal_service {
            // A feature code, voicemail or a conference: the PBX itself is whom the colleague wanted.
            self.edit().answered_at = self.call.legs.iter().find_map(|leg| leg.answered_at);
        }
        let rang = self
            .call
            .legs
            .iter()
            .filter(|leg| outcome::is_called_side(&self.call, leg))
            .filter_map(|leg| leg.rang_at)
            .min();
        let until = self.call.answered_at.unwrap_or(now);
        self.edit().ring_ms = rang.map_or(0, |rang| u64::try_from(until - rang).unwrap_or(0));
        self.edit().talk_ms = self.call.answered_at.map_or(0, |at| u64::try_from(now - at).unwrap_or(0));
        self.edit().outcome = Some(outcome::outcome(&self.call));
    }

    pub fn heard(&mut self, now: Now) {
        self.changed = true;
        self.heard_at = now.tick;
    }

    fn leg(&self, key: &LegKey) -> Option<&Leg> {
        self.call.legs.iter().find(|leg| leg.key == *key)
    }

    fn leg_mut(&mut self, key: &LegKey) -> Option<&mut Leg> {
        self.edit().legs.iter_mut().find(|leg| leg.key == *key)
    }
}

fn is_live_caller(leg: &Leg) -> bool {
    matches!(leg.role, LegRole::TrunkIn | LegRole::FromDevice) && leg.state != LegState::Ended
}

/// No call is believed for longer without an event. The tracker gives up silent legs long before; what it keeps because
/// its session is refreshed makes no events.
const SILENCE_MS: u64 = 24 * 3_600_000;
/// How long after a REFER the leg it leads to may be seen.
const SENT_ON_MS: i64 = 10_000;
/// How long the other legs may outlive the caller's.
const WIND_DOWN_MS: u64 = 2_000;
pub(super) const LEGS_MAX: usize = 64;
