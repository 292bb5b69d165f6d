//! All legs with one Call-ID, and which of them a message is about.

use std::net::SocketAddr;

use smallvec::SmallVec;

use super::key::Token;
use super::leg::{Phase, TrackedLeg, calling_ms};
use super::{Sighting, evidence};
use crate::model::{ContactKey, FeedKind, Hop, LegKey, Now, PbxEvent, PbxId, Tick};
use crate::sip::{HeaderError, Message, Name, Uri};

/// All legs with one Call-ID.
#[derive(Default)]
pub(super) struct Thread {
    pub legs: SmallVec<[TrackedLeg; 2]>,
    /// Messages that came before their INVITE.
    pub early: Vec<EarlyMessage>,
    /// Call-ID that the last REFER wants replaced.
    pub replaces: Option<Box<str>>,
    /// When `deadlines` will look at it.
    pub scheduled: Option<Tick>,
    /// When `early` is thrown away.
    pub early_until: Tick,
}

pub(super) struct EarlyMessage {
    pub bytes: Box<[u8]>,
    pub pbx: PbxId,
    pub feed: FeedKind,
    pub source: Option<SocketAddr>,
    pub destination: Option<SocketAddr>,
    pub hop: Hop,
}

/// What an initial INVITE is to the legs already known.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Known {
    /// A retransmission, a copy, or the same leg sent again with credentials.
    Same,
    /// A new leg; `again` counts earlier ended legs of the same hop and target.
    New { again: usize },
    /// One Call-ID has more legs than any real call.
    Full,
}

pub(super) struct Invite {
    pub branch: Token,
    pub vias: usize,
    pub cseq: u32,
    pub from_tag: Token,
    pub target: ContactKey,
    pub session_expires_s: Option<u32>,
}

impl Invite {
    pub fn read(message: &Message<'_>) -> Result<Self, HeaderError> {
        let target = message.request_uri().and_then(|uri| Uri::parse(uri).ok());
        Ok(Self {
            branch: Token::of(message.top_branch().unwrap_or_default()),
            vias: message.via_count(),
            cseq: message.cseq()?.number,
            from_tag: Token::of(message.tag(Name::From)?.unwrap_or_default()),
            target: target.map_or_else(ContactKey::default, |uri| uri.key()),
            session_expires_s: session_expires(message),
        })
    }

    pub fn into_leg(self, now: Tick, key: LegKey, sighting: &Sighting<'_>) -> TrackedLeg {
        let Self { branch, vias, cseq, from_tag, target, session_expires_s: _ } = self;
        TrackedLeg {
            key,
            pbx: sighting.pbx,
            feed: sighting.feed,
            hop: vias,
            target: Token::of_target(&target),
            from_tag,
            branch,
            cseq,
            to_tag: Token::NONE,
            phase: Phase::Calling,
            rang: false,
            deadline: now + calling_ms(sighting.feed),
        }
    }
}

impl Thread {
    pub fn known(&mut self, now: Tick, invite: &Invite) -> Known {
        let target = Token::of_target(&invite.target);
        let same_branch = |leg: &TrackedLeg| !leg.branch.is_none() && leg.branch == invite.branch;
        if self.legs.iter().any(same_branch) {
            return Known::Same;
        }
        let mut again = 0;
        for leg in self.legs.iter_mut().filter(|leg| leg.hop == invite.vias && leg.target == target) {
            if invite.cseq < leg.cseq {
                return Known::Same;
            }
            let restored = leg.cseq == 0;
            if leg.phase != Phase::Ended && (restored || leg.from_tag == invite.from_tag) {
                leg.retried(now, invite.branch, invite.cseq);
                leg.refresh(now, invite.session_expires_s);
                return Known::Same;
            }
            again += 1;
        }
        if self.legs.len() >= LEGS_MAX { Known::Full } else { Known::New { again } }
    }

    /// The leg of a transaction: by its branch, else (after a restart) the only one on that hop.
    pub fn leg_of(&mut self, branch: Token, vias: impl FnOnce() -> usize) -> Option<&mut TrackedLeg> {
        if let Some(at) = self.legs.iter().position(|leg| !leg.branch.is_none() && leg.branch == branch) {
            return self.legs.get_mut(at);
        }
        let vias = vias();
        let mut restored = self.legs.iter_mut().filter(|leg| {
            leg.branch.is_none() && leg.hop == vias && !matches!(leg.phase, Phase::Ended | Phase::Answered)
        });
        let leg = restored.next()?;
        restored.next().is_none().then_some(leg)
    }

    /// The leg that a CANCEL stops: by its branch, else (after a restart) by its Request-URI, which is the INVITE's
    /// (RFC 3261 §9.1). It has one Via on every hop, so the count of those says nothing.
    pub fn leg_of_cancel(&mut self, branch: Token, target: Option<&str>) -> Option<&mut TrackedLeg> {
        if let Some(at) = self.legs.iter().position(|leg| !leg.branch.is_none() && leg.branch == branch) {
            return self.legs.get_mut(at);
        }
        let target = target_of(target)?;
        self.legs.iter_mut().find(|leg| leg.branch.is_none() && leg.phase != Phase::Ended && leg.target == target)
    }

    /// The leg that an ACK outside any INVITE transaction is about.
    pub fn leg_of_ack(&mut self, vias: usize, cseq: u32, target: Option<&str>) -> Option<&mut TrackedLeg> {
        let fits = |leg: &TrackedLeg| leg.hop == vias && (leg.cseq == 0 || leg.cseq == cseq);
        let target = target_of(target);
        let exact = self.legs.iter().position(|leg| fits(leg) && Some(leg.target) == target);
        let mut on_hop = self.legs.iter().enumerate().filter(|(_, leg)| fits(leg)).map(|(at, _)| at);
        let only = on_hop.next().filter(|_| on_hop.next().is_none());
        self.legs.get_mut(exact.or(only)?)
    }

    pub fn expire(&mut self, now: Now, call_id: &str, out: &mut Vec<PbxEvent>) {
        if self.early_until <= now.tick {
            self.early.clear();
        }
        for leg in self.legs.iter_mut().filter(|leg| leg.deadline <= now.tick) {
            if let Some(event) = leg.on_deadline(now.tick) {
                let evidence = evidence("nothing more was heard", call_id);
                out.push(PbxEvent { pbx: leg.pbx, feed: leg.feed, leg: leg.key.clone(), event, evidence });
            }
        }
        // While one leg of the Call-ID lives its ended siblings are kept: their retransmissions must not start them anew.
        let forget = self.legs.iter().all(|leg| leg.phase == Phase::Ended && leg.deadline <= now.tick);
        if forget {
            self.legs.clear();
        }
    }

    pub fn early_bytes(&self) -> usize {
        self.early.iter().map(|message| message.bytes.len()).sum()
    }

    pub fn is_empty(&self) -> bool {
        self.legs.is_empty() && self.early.is_empty()
    }

    /// Its deadline, when that is before it will be looked at anyway, which it seldom is.
    pub fn due_sooner(&self) -> Option<Tick> {
        self.next_deadline().filter(|at| self.scheduled.is_none_or(|then| *at < then))
    }

    fn next_deadline(&self) -> Option<Tick> {
        let live = self.legs.iter().filter(|leg| leg.phase != Phase::Ended).map(|leg| leg.deadline).min();
        let last = || self.legs.iter().map(|leg| leg.deadline).max();
        let early = (!self.early.is_empty()).then_some(self.early_until);
        live.or_else(last).into_iter().chain(early).min()
    }
}

/// What a Request-URI asks for; none when it is no URI.
fn target_of(uri: Option<&str>) -> Option<Token> {
    Some(Token::of_target(&Uri::parse(uri?).ok()?.key()))
}

/// Session-Expires in seconds, when there is a plausible one (RFC 4028 §5: not under 90).
pub(super) fn session_expires(message: &Message<'_>) -> Option<u32> {
    let value = message.header(Name::SessionExpires)?;
    let seconds: u32 = value.split(';').next()?.trim().parse().ok()?;
    (seconds >= 90).then_some(seconds)
}

/// More legs than any real call has under one Call-ID.
const LEGS_MAX: usize = 32;
