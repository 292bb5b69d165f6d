//! One hop of one INVITE, and what may happen to it.

use super::key::Token;
use crate::model::{FeedKind, LegEnd, LegEvent, LegKey, PbxId, Tick};

/// One INVITE as it crossed one hop: same Call-ID, same number of Via values, same Request-URI.
///
/// An INVITE answered 401 and sent again with credentials is the same leg (the branch and CSeq move on); a proxy that
/// forks makes a leg a target; a proxy that tries the same target again after a final answer makes a new one.
#[derive(Clone, Debug)]
pub(super) struct TrackedLeg {
    pub key: LegKey,
    pub pbx: PbxId,
    pub feed: FeedKind,
    /// Via values of its INVITE: how far from the caller this hop is.
    pub hop: usize,
    /// Its Request-URI.
    pub target: Token,
    pub from_tag: Token,
    /// Top Via branch of the latest INVITE; none after a restart.
    pub branch: Token,
    /// CSeq number of the latest INVITE; 0 after a restart.
    pub cseq: u32,
    /// To tag of the answer, or of the latest provisional response.
    pub to_tag: Token,
    pub phase: Phase,
    /// Its ringing was told, which is done once: a challenge and another try may come after it.
    pub rang: bool,
    /// When it ends by itself, or is forgotten once it has ended.
    pub deadline: Tick,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Calling,
    Ringing,
    /// Refused with a status that the caller answers with a better INVITE (401, 407, 422).
    Challenged(u16),
    Cancelling {
        elsewhere: bool,
    },
    Answered,
    Ended,
}

/// What a response to an INVITE says, as far as a leg cares.
#[derive(Clone, Copy, Debug)]
pub(super) struct InviteResponse {
    pub status: u16,
    pub to_tag: Token,
    /// Session-Expires (RFC 4028 §4) in seconds.
    pub session_expires_s: Option<u32>,
}

impl TrackedLeg {
    /// Applies a response to its INVITE. Monotone: a response that comes late or twice changes nothing.
    pub fn on_response(&mut self, now: Tick, response: InviteResponse) -> Option<LegEvent> {
        if matches!(self.phase, Phase::Answered | Phase::Ended) {
            return None;
        }
        match response.status {
            100..=199 => self.on_provisional(now, response),
            200..=299 => {
                self.remember_to_tag(response.to_tag);
                Some(self.answer(now, response.session_expires_s))
            }
            401 | 407 | 422 | 494 => {
                self.phase = Phase::Challenged(response.status);
                self.deadline = now + RETRY_MS;
                None
            }
            status => {
                let end = match self.phase {
                    Phase::Cancelling { elsewhere: true } => LegEnd::CancelledElsewhere,
                    Phase::Cancelling { elsewhere: false } => LegEnd::Cancelled,
                    _ if status == 487 => LegEnd::Cancelled,
                    _ => LegEnd::Rejected(status),
                };
                Some(self.end(now, end))
            }
        }
    }

    fn on_provisional(&mut self, now: Tick, response: InviteResponse) -> Option<LegEvent> {
        if matches!(self.phase, Phase::Cancelling { .. }) {
            return None;
        }
        self.deadline = now + RING_MS;
        if !matches!(response.status, 180 | 183) {
            return None;
        }
        self.remember_to_tag(response.to_tag);
        self.phase = Phase::Ringing;
        let first = !std::mem::replace(&mut self.rang, true);
        first.then_some(LegEvent::Rang)
    }

    /// A relayed INVITE is all that will be seen of its ringing: the 180 goes to the PBX alone.
    pub fn rings_unseen(&mut self) -> bool {
        let first = self.phase == Phase::Calling;
        if first {
            self.phase = Phase::Ringing;
            self.rang = true;
        }
        first
    }

    /// CANCEL was seen. Only a 200 that crossed it can still make it an answered leg.
    pub fn on_cancel(&mut self, now: Tick, elsewhere: bool) -> Option<LegEvent> {
        match self.phase {
            Phase::Calling | Phase::Ringing | Phase::Challenged(_) if self.feed == FeedKind::Replica => {
                // Our own 480 ended that transaction for the PBX: no 487 will ever be seen.
                let end = if elsewhere { LegEnd::CancelledElsewhere } else { LegEnd::Cancelled };
                Some(self.end(now, end))
            }
            Phase::Calling | Phase::Ringing | Phase::Challenged(_) => {
                self.phase = Phase::Cancelling { elsewhere };
                self.deadline = now + CANCEL_MS;
                Some(LegEvent::Cancelling)
            }
            Phase::Cancelling { .. } | Phase::Answered | Phase::Ended => None,
        }
    }

    /// An ACK outside the INVITE's transaction proves a 2xx that was not seen (RFC 3261 §13.2.2.4).
    pub fn on_ack(&mut self, now: Tick, to_tag: Token) -> Option<LegEvent> {
        if matches!(self.phase, Phase::Answered | Phase::Ended) {
            return None;
        }
        self.remember_to_tag(to_tag);
        Some(self.answer(now, None))
    }

    /// BYE between `from_tag` and `to_tag`. Returns up to two events: a callee's BYE proves an answer not seen.
    pub fn on_bye(&mut self, now: Tick, from_tag: Token, to_tag: Token) -> [Option<LegEvent>; 2] {
        let concerns = self.to_tag.is_none() || self.to_tag == from_tag || self.to_tag == to_tag;
        match self.phase {
            Phase::Ended => [None, None],
            _ if !concerns => [None, None],
            Phase::Answered => [Some(self.end(now, LegEnd::Bye)), None],
            // Only the caller may end an early dialog (RFC 3261 §15).
            _ if from_tag == self.from_tag => [Some(self.end(now, LegEnd::Cancelled)), None],
            _ => [Some(self.answer(now, None)), Some(self.end(now, LegEnd::Bye))],
        }
    }

    /// A re-INVITE or UPDATE was seen: the session lives.
    pub fn refresh(&mut self, now: Tick, session_expires_s: Option<u32>) {
        if self.phase == Phase::Answered {
            self.deadline = self.deadline.max(now + session_ms(session_expires_s));
        }
    }

    /// Its deadline has passed.
    pub fn on_deadline(&mut self, now: Tick) -> Option<LegEvent> {
        let end = match self.phase {
            Phase::Ended => return None,
            Phase::Cancelling { elsewhere: true } => LegEnd::CancelledElsewhere,
            Phase::Cancelling { elsewhere: false } => LegEnd::Cancelled,
            Phase::Challenged(status) => LegEnd::Rejected(status),
            Phase::Calling | Phase::Ringing | Phase::Answered => LegEnd::TimedOut,
        };
        Some(self.end(now, end))
    }

    /// A fresh INVITE of the same leg: the branch and CSeq that responses will carry from now on.
    pub fn retried(&mut self, now: Tick, branch: Token, cseq: u32) {
        self.branch = branch;
        self.cseq = cseq;
        if matches!(self.phase, Phase::Challenged(_)) {
            self.phase = Phase::Calling;
            self.deadline = now + calling_ms(self.feed);
        }
    }

    fn answer(&mut self, now: Tick, session_expires_s: Option<u32>) -> LegEvent {
        self.phase = Phase::Answered;
        self.deadline = now + session_ms(session_expires_s);
        LegEvent::Answered
    }

    fn end(&mut self, now: Tick, end: LegEnd) -> LegEvent {
        self.phase = Phase::Ended;
        self.deadline = now + LINGER_MS;
        LegEvent::Ended(end)
    }

    fn remember_to_tag(&mut self, tag: Token) {
        if !tag.is_none() {
            self.to_tag = tag;
        }
    }
}

/// How long an INVITE may stay without any response before it is given up.
pub(super) fn calling_ms(feed: FeedKind) -> u64 {
    match feed {
        FeedKind::Replica => REPLICA_RING_MS,
        // Connectors say what they see to the switchboard; none of them comes here.
        _ => RING_MS,
    }
}

/// RFC 4028 sessions end when not refreshed in time; without a timer only a bound is left.
pub(super) fn session_ms(session_expires_s: Option<u32>) -> u64 {
    session_expires_s.map_or(ANSWERED_MS, |s| u64::from(s) * 1000 + SESSION_GRACE_MS)
}

/// Timer C is more than 3 minutes since the last provisional response (RFC 3261 §16.6 step 11).
const RING_MS: u64 = 200_000;
/// A relayed INVITE is refused by us, so nothing later is sure to show its end: believe it rings for a minute.
const REPLICA_RING_MS: u64 = 60_000;
/// From CANCEL to the 487 that confirms it, before it is taken as done.
const CANCEL_MS: u64 = 1_000;
/// From a challenge to the INVITE that answers it: 64·T1 (RFC 3261 §17.1.1.2).
const RETRY_MS: u64 = 32_000;
/// The longest call without a session timer whose BYE was never seen.
const ANSWERED_MS: u64 = 4 * 3_600_000;
const SESSION_GRACE_MS: u64 = 32_000;
/// How long an ended leg is remembered so that retransmissions do not start it anew: 64·T1.
const LINGER_MS: u64 = 32_000;
