//! The life of the offers of one call: made, moved, answered, closed, each step with its reason in the trail.

use super::call::LiveCall;
use super::effect::{Context, Effect};
use super::route::{Question, Trigger, route};
use crate::model::{
    CallState, DeviceId, LegState, Offer, OfferId, OfferState, QueueNotice, Reason, RescindReason, TrailEntry,
    UserAction, UserId,
};

/// Whether it is on a screen.
pub(super) fn is_open(offer: &Offer) -> bool {
    matches!(offer.state, OfferState::Offered | OfferState::Answered)
}

/// The call rings `device`.
pub(super) fn on_ring(live: &mut LiveCall, context: &mut Context<'_>, device: DeviceId) {
    let users = context.view.linked_users(device);
    if users.is_empty() {
        note(live, context, None, Reason::NotLinked, Some(device));
    }
    let queue_unknown = live.call.queue.is_none()
        && !live.is_told()
        && live.caller_has_answer()
        && context.view.is_queue_member(device);
    for user in users {
        if queue_unknown {
            note(live, context, Some(user), Reason::QueueUnknown, Some(device));
        }
        consider(live, context, user, Some(device), Trigger::Ring);
    }
}

/// The call joined its queue and rings nobody yet.
pub(super) fn on_queue_join(live: &mut LiveCall, context: &mut Context<'_>) {
    if context.account.settings.queue_notice != QueueNotice::Join {
        return;
    }
    let Some(queue) = live.queue() else { return };
    for user in context.view.users_of_queue(queue) {
        consider(live, context, user, None, Trigger::Join);
    }
}

/// `device` answered: its users have the call, everybody else's offer goes.
pub(super) fn on_answer(live: &mut LiveCall, context: &mut Context<'_>, device: DeviceId) {
    let users = context.view.linked_users(device);
    if users.is_empty() {
        note(live, context, None, Reason::NotLinked, Some(device));
    }
    for user in &users {
        consider(live, context, *user, Some(device), Trigger::Answer);
        answer(live, context, *user, device);
    }
    for at in open_offers(live, |offer| offer.state == OfferState::Offered && !users.contains(&offer.user)) {
        close(live, context, at, RescindReason::AnsweredElsewhere);
    }
}

/// `device` placed the call, or what it placed was answered.
pub(super) fn on_placed(live: &mut LiveCall, context: &mut Context<'_>, device: DeviceId, trigger: Trigger) {
    if live.call.caller.device != Some(device) {
        return;
    }
    for user in context.view.linked_users(device) {
        live.attribute_user(context, user, device, UserAction::Placed);
        consider(live, context, user, Some(device), trigger);
        if trigger == Trigger::PlacedAnswered {
            answer(live, context, user, device);
        }
    }
}

/// A leg of `device` is over. A user whose other device still rings or talks keeps the offer.
pub(super) fn on_leg_ended(
    live: &mut LiveCall,
    context: &mut Context<'_>,
    device: DeviceId,
    reason: RescindReason,
    referred: bool,
) {
    let linked = context.view.linked_users(device);
    for at in open_offers(live, |offer| offer.device == Some(device) || linked.contains(&offer.user)) {
        let Some(offer) = live.call.offers.get(at) else { continue };
        let (user, state) = (offer.user, offer.state);
        if let Some(other) = other_device(live, context, user, state) {
            move_to(live, context, at, Some(other));
        } else if state == OfferState::Offered && waits_in_queue(live, context, user, reason) {
            move_to(live, context, at, None);
        } else if state == OfferState::Answered && referred {
            close(live, context, at, RescindReason::Transferred);
        } else {
            close(live, context, at, reason);
        }
    }
}

/// The call is over: nothing stays on a screen, and everybody in the audience has a reason.
pub(super) fn on_call_ended(live: &mut LiveCall, context: &mut Context<'_>) {
    for at in open_offers(live, |_| true) {
        close(live, context, at, live.last_reason());
    }
    let queue = live.call.queue;
    for user in queue.map(|queue| context.view.users_of_queue(queue)).unwrap_or_default() {
        let ours = context.view.user(user).is_some_and(|facts| facts.account == live.call.account);
        if ours && !live.noted.iter().any(|(noted, ..)| *noted == Some(user)) {
            let reason = if context.view.linked_devices(user).is_empty() { Reason::NotLinked } else { Reason::NotRung };
            note(live, context, Some(user), reason, None);
        }
    }
    if live.trail_length == 0 {
        note(live, context, None, Reason::NoDevice, None);
    }
}

/// The call is another one's and goes on there: nothing of this one stays on a screen.
pub(super) fn withdraw_all(live: &mut LiveCall, context: &mut Context<'_>) {
    for at in open_offers(live, |_| true) {
        close(live, context, at, RescindReason::Transferred);
    }
}

/// The user was edited or unlinked: an offer they may no longer have is closed.
pub(super) fn recheck_user(live: &mut LiveCall, context: &mut Context<'_>, user: UserId) {
    for at in open_offers(live, |offer| offer.user == user) {
        recheck(live, context, at);
    }
}

/// The device was edited or unlinked: offers that hang on it are closed.
pub(super) fn recheck_device(live: &mut LiveCall, context: &mut Context<'_>, device: DeviceId) {
    for at in open_offers(live, |offer| offer.device == Some(device)) {
        recheck(live, context, at);
    }
}

/// Who calls became known, or better known, after offers were made.
pub(super) fn refresh_parties(live: &mut LiveCall, context: &mut Context<'_>) {
    let (call, queue) = (&live.call, live.queue());
    let stale = |offer: &Offer| {
        offer.caller != call.caller
            || offer.callee != call.callee
            || offer.direction != call.direction
            || queue.is_some_and(|queue| offer.queue != Some(queue))
    };
    for at in open_offers(live, stale) {
        emit(live, context, at);
    }
}

/// Adds a reason to the trail. A refusal that is there already is not repeated.
pub(super) fn note(
    live: &mut LiveCall,
    context: &mut Context<'_>,
    user: Option<UserId>,
    reason: Reason,
    device: Option<DeviceId>,
) {
    let first = live.noted.insert((user, reason, device));
    if (!first && !is_step(reason)) || live.trail_length >= TRAIL_MAX {
        return;
    }
    live.trail_length += 1;
    context.effects.push(Effect::Trail(Box::new(TrailEntry {
        call: live.call.id,
        position: live.trail_length,
        at: context.now.unix,
        user,
        reason,
        device,
        queue: live.queue(),
        sessions: user.map_or(0, |user| context.view.sessions(user)),
        event: context.evidence.to_owned(),
    })));
}

/// Asks the rules whether `user` gets an offer now, and makes it or notes why not.
fn consider(live: &mut LiveCall, context: &mut Context<'_>, user: UserId, device: Option<DeviceId>, trigger: Trigger) {
    let Some(facts) = context.view.user(user).filter(|facts| facts.account == live.call.account) else { return };
    let device_enabled = device.and_then(|d| context.view.device(d)).is_none_or(|facts| facts.enabled);
    let decision = route(&Question {
        trigger,
        direction: live.call.direction,
        queue: live.queue(),
        device_enabled,
        user: &facts,
        settings: &context.account.settings,
    });
    match decision {
        Ok(()) => offer(live, context, user, device),
        Err(reason) => note(live, context, Some(user), reason, device),
    }
}

/// Puts the call on the user's screen: a new offer, or the same one again after it had been closed.
fn offer(live: &mut LiveCall, context: &mut Context<'_>, user: UserId, device: Option<DeviceId>) {
    let (now, queue) = (context.now.unix, live.queue());
    let at = if let Some(at) = live.call.offers.iter().position(|offer| offer.user == user) {
        let Some(offer) = live.edit().offers.get_mut(at) else { return };
        if is_open(offer) {
            if offer.device.is_none() && device.is_some() {
                move_to(live, context, at, device);
            }
            return;
        }
        offer.state = OfferState::Offered;
        offer.queue = queue;
        offer.reason = None;
        offer.answered_at = None;
        offer.closed_at = None;
        offer.device = device;
        offer.expires_at.0 = now.0 + OFFERED_MS;
        at
    } else {
        let call = &live.call;
        let offer = Offer {
            id: OfferId::derive(context.site, call.id, user),
            account: call.account,
            call: call.id,
            user,
            state: OfferState::Offered,
            reason: None,
            device,
            queue,
            direction: call.direction,
            caller: call.caller.clone(),
            callee: call.callee.clone(),
            offered_at: now,
            answered_at: None,
            closed_at: None,
            expires_at: crate::model::UnixMillis(now.0 + OFFERED_MS),
            version: 0,
        };
        live.edit().offers.push(offer);
        live.call.offers.len() - 1
    };
    note(live, context, Some(user), Reason::Offered, device);
    if context.view.sessions(user) == 0 {
        note(live, context, Some(user), Reason::NoSession, device);
    }
    emit(live, context, at);
}

/// The user talks: only an offer that is on the screen can be answered.
fn answer(live: &mut LiveCall, context: &mut Context<'_>, user: UserId, device: DeviceId) {
    let now = context.now.unix;
    let waiting = |offer: &Offer| offer.user == user && offer.state == OfferState::Offered;
    let Some(at) = live.call.offers.iter().position(waiting) else { return };
    let Some(offer) = live.edit().offers.get_mut(at) else { return };
    offer.state = OfferState::Answered;
    offer.device = Some(device);
    offer.answered_at = Some(now);
    offer.expires_at.0 = now.0 + ANSWERED_MS;
    note(live, context, Some(user), Reason::Answered, Some(device));
    emit(live, context, at);
}

/// Takes the offer off the screen: ended when the user had talked, else rescinded for `reason`.
fn close(live: &mut LiveCall, context: &mut Context<'_>, at: usize, reason: RescindReason) {
    let Some(offer) = live.edit().offers.get_mut(at) else { return };
    offer.closed_at = Some(context.now.unix);
    let by_hangup =
        !matches!(reason, RescindReason::Transferred) && !is_withdrawal(reason) && offer.state == OfferState::Answered;
    let noted = if by_hangup { Reason::Ended } else { reason.into() };
    if offer.state == OfferState::Answered {
        offer.state = OfferState::Ended;
    } else {
        offer.state = OfferState::Rescinded;
        offer.reason = Some(reason);
    }
    let (user, device) = (offer.user, offer.device);
    note(live, context, Some(user), noted, device);
    emit(live, context, at);
}

fn move_to(live: &mut LiveCall, context: &mut Context<'_>, at: usize, device: Option<DeviceId>) {
    let Some(offer) = live.edit().offers.get_mut(at) else { return };
    if offer.device != device {
        offer.device = device;
        emit(live, context, at);
    }
}

/// Sends the offer out as it now is, with what is now known of the call.
fn emit(live: &mut LiveCall, context: &mut Context<'_>, at: usize) {
    let queue = live.queue();
    let call = live.edit();
    let Some(offer) = call.offers.get_mut(at) else { return };
    offer.version += 1;
    // A popup keeps the queue it came from; the call may have gone on to somebody else.
    offer.queue = queue.or(offer.queue);
    offer.direction = call.direction;
    offer.caller.clone_from(&call.caller);
    offer.callee.clone_from(&call.callee);
    context.effects.push(Effect::Offer(Box::new(offer.clone())));
    live.changed = true;
}

fn recheck(live: &mut LiveCall, context: &mut Context<'_>, at: usize) {
    let Some(offer) = live.call.offers.get(at) else { return };
    let facts = context.view.user(offer.user);
    let device = offer.device;
    let enabled = device.and_then(|d| context.view.device(d)).is_none_or(|facts| facts.enabled);
    let linked = device.is_none_or(|d| context.view.linked_users(d).contains(&offer.user));
    let reason = match facts {
        Some(facts) if facts.dnd => RescindReason::Dnd,
        Some(facts) if facts.enabled && !linked => RescindReason::NotLinked,
        Some(facts) if facts.enabled && !enabled => RescindReason::DeviceDisabled,
        Some(facts) if facts.enabled => return,
        _ => RescindReason::UserDisabled,
    };
    close(live, context, at, reason);
}

/// Another device of the user on which this call still rings, or, for a talking user, still talks.
fn other_device(live: &LiveCall, context: &Context<'_>, user: UserId, state: OfferState) -> Option<DeviceId> {
    let wanted = |leg_state: LegState| match state {
        OfferState::Answered => leg_state == LegState::Answered,
        _ => matches!(leg_state, LegState::Ringing | LegState::Answered),
    };
    let devices = context.view.linked_devices(user);
    let legs = live.call.legs.iter().filter(|leg| wanted(leg.state));
    legs.filter_map(|leg| leg.device).find(|device| devices.contains(device))
}

/// The call is still in a queue of the user, who is told of calls as soon as they join.
fn waits_in_queue(live: &LiveCall, context: &Context<'_>, user: UserId, reason: RescindReason) -> bool {
    context.account.settings.queue_notice == QueueNotice::Join
        && matches!(reason, RescindReason::Timeout | RescindReason::Declined)
        && live.waits_for_device_legs()
        && live.call.state != CallState::Ended
        && live.call.queue.is_some_and(|queue| context.view.user(user).is_some_and(|u| u.queues.contains(&queue)))
}

/// Positions of the open offers that `wanted` picks.
fn open_offers(live: &LiveCall, wanted: impl Fn(&Offer) -> bool) -> Vec<usize> {
    let open = live.call.offers.iter().enumerate().filter(|(_, offer)| is_open(offer) && wanted(offer));
    open.map(|(at, _)| at).collect()
}

/// Taken away by an admin or the user, not by the call.
fn is_withdrawal(reason: RescindReason) -> bool {
    matches!(
        reason,
        RescindReason::UserDisabled | RescindReason::Dnd | RescindReason::DeviceDisabled | RescindReason::NotLinked
    )
}

/// Steps of an offer's life may recur (a re-ring); refusals are said once.
fn is_step(reason: Reason) -> bool {
    matches!(
        reason,
        Reason::Offered
            | Reason::NoSession
            | Reason::Answered
            | Reason::Ended
            | Reason::AnsweredElsewhere
            | Reason::CallerHangup
            | Reason::Timeout
            | Reason::Declined
            | Reason::Transferred
    )
}

/// A client takes an unanswered offer off the screen by itself after the longest ring the tracker believes in.
const OFFERED_MS: i64 = 210_000;
/// And an answered one after the longest call.
const ANSWERED_MS: i64 = 4 * 3_600_000 + 300_000;
const TRAIL_MAX: u32 = 1_000;
