//! Which way a call goes and how it ended.

use crate::model::{Call, Direction, Leg, LegEnd, LegRole, Outcome, Party};

/// How a call ended, by what its legs said (see [`Outcome`] for what counts as an answer).
pub(super) fn outcome(call: &Call) -> Outcome {
    if call.answered_at.is_some() {
        return Outcome::Answered;
    }
    let ours = call.caller.device.is_some();
    let caller_cancelled = call.legs.iter().any(|leg| {
        matches!(leg.role, LegRole::TrunkIn | LegRole::FromDevice)
            && matches!(leg.end, Some(LegEnd::Cancelled | LegEnd::CancelledElsewhere | LegEnd::Lost))
    });
    if caller_cancelled {
        return if ours { Outcome::Cancelled } else { Outcome::Missed };
    }
    // What the called side said counts; the caller's own leg only where nothing else was seen.
    let called: Vec<Option<LegEnd>> =
        call.legs.iter().filter(|leg| is_called_side(call, leg)).map(|leg| leg.end).collect();
    let rang = call.legs.iter().any(|leg| is_called_side(call, leg) && leg.rang_at.is_some());
    let ends = if called.is_empty() { call.legs.iter().map(|leg| leg.end).collect() } else { called };
    let all = |wanted: fn(u16) -> bool| {
        ends.iter().all(|end| matches!(end, Some(LegEnd::Rejected(status)) if wanted(*status)))
    };
    if all(|status| matches!(status, 486 | 600)) {
        Outcome::Busy
    } else if all(|status| matches!(status, 603 | 486 | 600) || (status == 480)) && rang {
        Outcome::Declined
    } else if all(|status| !matches!(status, 408 | 480 | 487)) {
        Outcome::Failed
    } else {
        Outcome::Missed
    }
}

/// The side that is being called: devices, and for an outbound call the outside.
pub(super) fn is_called_side(call: &Call, leg: &Leg) -> bool {
    match leg.role {
        LegRole::ToDevice | LegRole::Ambiguous => true,
        LegRole::TrunkOut => call.direction == Direction::Outbound,
        LegRole::FromDevice => {
            call.direction == Direction::Outbound && !call.legs.iter().any(|leg| leg.role == LegRole::TrunkOut)
        }
        LegRole::TrunkIn => false,
    }
}

/// Which way a call goes, by its ends.
pub(super) fn direction(caller: &Party, callee: &Party) -> Direction {
    match (caller.device.is_some(), caller.external, callee.external) {
        (true, _, true) | (false, false, true) => Direction::Outbound,
        (false, true, _) => Direction::Inbound,
        (true, _, false) | (false, false, false) => Direction::Internal,
    }
}
