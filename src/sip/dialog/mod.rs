//! A passive dialog tracker: follows INVITEs that others exchange and says what happened on each leg.
//!
//! It sees copies that may be lost, doubled or out of order, on any number of hops, and never sends anything. It is
//! sans-IO: messages and time come in, [`PbxEvent`]s go out. Everything a peer can grow is bounded.

mod leg;
mod start;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;

use smallvec::SmallVec;

use self::leg::{InviteResponse, Phase, TrackedLeg, calling_ms, session_ms};
use crate::model::{ContactKey, FeedKind, Hop, Leg, LegEvent, LegKey, LegState, Now, PbxEvent, PbxId, Tick};
use crate::sip::{HeaderError, Message, Method, Name, Uri, scan};

/// One message as a feed saw it.
#[derive(Clone, Copy)]
pub struct Sighting<'a> {
    /// The message.
    pub message: &'a Message<'a>,
    /// The PBX it belongs to.
    pub pbx: PbxId,
    /// The kind of feed that saw it.
    pub feed: FeedKind,
    /// Who sent it, when the feed knows.
    pub source: Option<SocketAddr>,
    /// Who received it, when the feed knows.
    pub destination: Option<SocketAddr>,
    /// Which way it crossed the PBX's edge.
    pub hop: Hop,
}

/// What became of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// It belongs to a leg that is followed.
    Followed,
    /// It came before its INVITE and is kept for a moment.
    Early,
    /// It says nothing about a call, or about one nobody has seen the start of.
    Ignored,
    /// A limit was reached; the word says which.
    Limited(&'static str),
    /// A header the tracker needs is broken.
    Broken(HeaderError),
}

/// All dialogs of one site.
#[derive(Default)]
pub struct Tracker {
    threads: HashMap<Arc<str>, Thread>,
    /// Lazy: an entry is looked up again when it comes up, and put back when its thread's deadline has moved.
    deadlines: BinaryHeap<Reverse<(Tick, Arc<str>)>>,
}

/// All legs with one Call-ID.
#[derive(Default)]
struct Thread {
    legs: SmallVec<[TrackedLeg; 2]>,
    /// Messages that came before their INVITE.
    early: Vec<EarlyMessage>,
    /// When `deadlines` will look at it.
    scheduled: Option<Tick>,
    /// When `early` is thrown away.
    early_until: Tick,
}

struct EarlyMessage {
    bytes: Box<[u8]>,
    pbx: PbxId,
    feed: FeedKind,
    source: Option<SocketAddr>,
    destination: Option<SocketAddr>,
    hop: Hop,
}

impl Tracker {
    /// Takes one message and appends what it means to `out`.
    pub fn observe(&mut self, now: Now, sighting: &Sighting<'_>, out: &mut Vec<PbxEvent>) -> Seen {
        self.try_observe(now, sighting, out).unwrap_or_else(Seen::Broken)
    }

    /// Ends legs whose time is up and forgets those that ended long ago.
    pub fn poll(&mut self, now: Now, out: &mut Vec<PbxEvent>) {
        while let Some(Reverse((at, _))) = self.deadlines.peek() {
            if *at > now.tick {
                return;
            }
            let Some(Reverse((_, call_id))) = self.deadlines.pop() else { return };
            let Some(thread) = self.threads.get_mut(&call_id) else { continue };
            thread.scheduled = None;
            thread.expire(now, &call_id, out);
            if thread.is_empty() {
                self.threads.remove(&call_id);
            } else {
                self.schedule(&call_id);
            }
        }
    }

    /// When [`Tracker::poll`] has something to do, at the earliest.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Tick> {
        self.deadlines.peek().map(|Reverse((at, _))| *at)
    }

    /// Call-IDs followed now.
    #[must_use]
    pub fn len(&self) -> usize {
        self.threads.len()
    }

    /// Whether nothing is followed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.threads.is_empty()
    }

    /// Follows a leg again that was live when the process stopped.
    pub fn restore(&mut self, now: Now, leg: &Leg, feed: FeedKind) {
        let Some((call_id, hop, target)) = parse_key(&leg.key) else { return };
        let (phase, deadline) = match leg.state {
            LegState::Calling => (Phase::Calling, now.tick + calling_ms(feed)),
            LegState::Ringing => (Phase::Ringing, now.tick + calling_ms(feed)),
            LegState::Answered => (Phase::Answered, now.tick + session_ms(None)),
            LegState::Ended => return,
        };
        let call_id: Arc<str> = call_id.into();
        let thread = self.threads.entry(Arc::clone(&call_id)).or_default();
        thread.legs.push(TrackedLeg {
            key: leg.key.clone(),
            pbx: leg.pbx,
            feed,
            hop,
            target,
            from_tag: Box::default(),
            branch: Box::default(),
            cseq: 0,
            to_tag: None,
            phase,
            deadline,
        });
        self.schedule(&call_id);
    }

    fn try_observe(&mut self, now: Now, sighting: &Sighting<'_>, out: &mut Vec<PbxEvent>) -> Result<Seen, HeaderError> {
        let message = sighting.message;
        let call_id = message.try_call_id()?;
        if call_id.len() > CALL_ID_BYTES_MAX {
            return Ok(Seen::Limited("call_id_length"));
        }
        let seen = match message.method() {
            Some(Method::Invite) if message.to()?.tag().is_none() => {
                return self.on_invite(now, sighting, call_id, out);
            }
            Some(Method::Invite | Method::Update) => self.on_refresh(now, sighting, call_id),
            Some(Method::Cancel | Method::Ack | Method::Bye) => self.on_request(now, sighting, call_id, out)?,
            Some(_) => return Ok(Seen::Ignored),
            None => self.on_response(now, sighting, call_id, out)?,
        };
        if seen == Seen::Followed {
            self.schedule(call_id);
        }
        Ok(seen)
    }

    fn on_invite(
        &mut self,
        now: Now,
        sighting: &Sighting<'_>,
        call_id: &str,
        out: &mut Vec<PbxEvent>,
    ) -> Result<Seen, HeaderError> {
        let message = sighting.message;
        let invite = Invite::read(message)?;
        let full = self.threads.len() >= THREADS_MAX;
        let (call_key, thread) = match self.threads.get_key_value(call_id).map(|(key, _)| Arc::clone(key)) {
            Some(key) => (Arc::clone(&key), self.threads.entry(key).or_default()),
            None if full => return Ok(Seen::Limited("dialogs")),
            None => {
                let key: Arc<str> = call_id.into();
                (Arc::clone(&key), self.threads.entry(key).or_default())
            }
        };
        let known = thread.known(now.tick, &invite);
        if known == Known::Full {
            return Ok(Seen::Limited("legs"));
        }
        if let Known::New { again } = known {
            let downstream = thread.legs.iter().any(|leg| leg.hop < invite.vias);
            let start = start::leg_start(sighting, Arc::clone(&call_key), downstream)?;
            let key = compose_key(&call_key, invite.vias, &invite.target, again);
            thread.legs.push(invite.into_leg(now.tick, key.clone(), sighting));
            let evidence = format!("INVITE, Call-ID {call_id}");
            let (pbx, feed) = (sighting.pbx, sighting.feed);
            let started = LegEvent::Started(Box::new(start));
            out.push(PbxEvent { pbx, feed, leg: key.clone(), event: started, evidence: evidence.clone() });
            if feed == FeedKind::Replica && thread.legs.last_mut().is_some_and(TrackedLeg::rings_unseen) {
                out.push(PbxEvent { pbx, feed, leg: key, event: LegEvent::Rang, evidence });
            }
        }
        let early = std::mem::take(&mut thread.early);
        self.schedule(&call_key);
        for kept in early {
            self.replay(now, &kept, out);
        }
        Ok(Seen::Followed)
    }

    /// A message that came before its INVITE gets its turn; if it fits no leg even now it waits no longer.
    fn replay(&mut self, now: Now, kept: &EarlyMessage, out: &mut Vec<PbxEvent>) {
        let Ok(message) = scan(&kept.bytes) else { return };
        let EarlyMessage { pbx, feed, source, destination, hop, .. } = *kept;
        self.observe(now, &Sighting { message: &message, pbx, feed, source, destination, hop }, out);
    }

    fn on_refresh(&mut self, now: Now, sighting: &Sighting<'_>, call_id: &str) -> Seen {
        let Some(thread) = self.threads.get_mut(call_id) else { return Seen::Ignored };
        let session_expires_s = session_expires(sighting.message);
        thread.legs.iter_mut().for_each(|leg| leg.refresh(now.tick, session_expires_s));
        Seen::Followed
    }

    fn on_request(
        &mut self,
        now: Now,
        sighting: &Sighting<'_>,
        call_id: &str,
        out: &mut Vec<PbxEvent>,
    ) -> Result<Seen, HeaderError> {
        let message = sighting.message;
        let via = message.top_via()?;
        let (branch, vias) = (via.branch.unwrap_or_default(), message.via_count());
        let (from, to) = (message.from()?, message.to()?);
        let (from_tag, to_tag) = (from.tag().unwrap_or_default(), to.tag().unwrap_or_default());
        let Some(thread) = self.threads.get_mut(call_id) else { return Ok(self.keep_early(now, sighting, call_id)) };
        let tick = now.tick;
        let mut emit = |leg: &TrackedLeg, event: LegEvent, word: &str| {
            let evidence = format!("{word}, Call-ID {call_id}");
            out.push(PbxEvent { pbx: leg.pbx, feed: leg.feed, leg: leg.key.clone(), event, evidence });
        };
        let mut followed = false;
        match message.method() {
            Some(Method::Cancel) => {
                if let Some(leg) = thread.leg_of_cancel(branch, message.request_uri()) {
                    followed = true;
                    if let Some(event) = leg.on_cancel(tick, completed_elsewhere(message)) {
                        emit(leg, event, "CANCEL");
                    }
                }
            }
            Some(Method::Ack) if !to_tag.is_empty() => {
                let cseq = message.cseq()?.number;
                if let Some(leg) = thread.leg_of_ack(branch, vias, cseq, message.request_uri()) {
                    followed = true;
                    if let Some(event) = leg.on_ack(tick, to_tag) {
                        emit(leg, event, "ACK of a 200");
                    }
                }
            }
            Some(Method::Bye) => {
                for leg in &mut thread.legs {
                    followed = true;
                    for event in leg.on_bye(tick, from_tag, to_tag).into_iter().flatten() {
                        emit(leg, event, "BYE");
                    }
                }
            }
            _ => return Ok(Seen::Ignored),
        }
        Ok(if followed { Seen::Followed } else { self.keep_early(now, sighting, call_id) })
    }

    fn on_response(
        &mut self,
        now: Now,
        sighting: &Sighting<'_>,
        call_id: &str,
        out: &mut Vec<PbxEvent>,
    ) -> Result<Seen, HeaderError> {
        let message = sighting.message;
        let Some(status) = message.status() else { return Ok(Seen::Ignored) };
        let cseq = message.cseq()?;
        let refer = cseq.method == Method::Refer && (200..300).contains(&status);
        if !refer && cseq.method != Method::Invite {
            return Ok(Seen::Ignored);
        }
        let Some(thread) = self.threads.get_mut(call_id) else { return Ok(self.keep_early(now, sighting, call_id)) };
        if refer {
            for leg in thread.legs.iter().filter(|leg| leg.phase == Phase::Answered) {
                let evidence = format!("REFER accepted, Call-ID {call_id}");
                let (pbx, feed, key) = (leg.pbx, leg.feed, leg.key.clone());
                out.push(PbxEvent { pbx, feed, leg: key, event: LegEvent::Referred, evidence });
            }
            return Ok(Seen::Followed);
        }
        let via = message.top_via()?;
        let Some(leg) = thread.leg_of(via.branch.unwrap_or_default(), message.via_count()) else {
            return Ok(self.keep_early(now, sighting, call_id));
        };
        if leg.cseq != 0 && leg.cseq != cseq.number {
            return Ok(Seen::Ignored);
        }
        let to = message.to()?;
        let response = InviteResponse { status, to_tag: to.tag(), session_expires_s: session_expires(message) };
        if let Some(event) = leg.on_response(now.tick, response) {
            let reason = message.reason_phrase().unwrap_or_default();
            let evidence = format!("{status} {reason}, Call-ID {call_id}");
            out.push(PbxEvent { pbx: leg.pbx, feed: leg.feed, leg: leg.key.clone(), event, evidence });
        }
        Ok(Seen::Followed)
    }

    /// Copies overtake one another by milliseconds: what fits no leg yet is kept for a second.
    fn keep_early(&mut self, now: Now, sighting: &Sighting<'_>, call_id: &str) -> Seen {
        if sighting.message.raw().len() > EARLY_BYTES_MAX {
            return Seen::Limited("early_bytes");
        }
        let full = self.threads.len() >= THREADS_MAX;
        let thread = match self.threads.get_mut(call_id) {
            Some(thread) => thread,
            None if full => return Seen::Limited("dialogs"),
            None => self.threads.entry(call_id.into()).or_default(),
        };
        if thread.early.len() >= EARLY_MESSAGES_MAX {
            return Seen::Limited("early_messages");
        }
        let Sighting { message, pbx, feed, source, destination, hop } = *sighting;
        thread.early.push(EarlyMessage { bytes: message.raw().into(), pbx, feed, source, destination, hop });
        thread.early_until = now.tick + EARLY_MS;
        self.schedule(call_id);
        Seen::Early
    }

    fn schedule(&mut self, call_id: &str) {
        let Some((key, _)) = self.threads.get_key_value(call_id) else { return };
        let key = Arc::clone(key);
        let Some(thread) = self.threads.get_mut(call_id) else { return };
        let Some(deadline) = thread.next_deadline() else { return };
        if thread.scheduled.is_none_or(|at| deadline < at) {
            thread.scheduled = Some(deadline);
            self.deadlines.push(Reverse((deadline, key)));
        }
    }
}

/// What an initial INVITE is to the legs already known.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Known {
    /// A retransmission, a copy, or the same leg sent again with credentials.
    Same,
    /// A new leg; `again` counts earlier ended legs of the same hop and target.
    New { again: usize },
    /// One Call-ID has more legs than any real call.
    Full,
}

struct Invite<'a> {
    branch: &'a str,
    vias: usize,
    cseq: u32,
    from_tag: Box<str>,
    target: ContactKey,
    session_expires_s: Option<u32>,
}

impl<'a> Invite<'a> {
    fn read(message: &Message<'a>) -> Result<Self, HeaderError> {
        let via = message.top_via()?;
        let from = message.from()?;
        let target = message.request_uri().and_then(|uri| Uri::parse(uri).ok());
        Ok(Self {
            branch: via.branch.unwrap_or_default(),
            vias: message.via_count(),
            cseq: message.cseq()?.number,
            from_tag: from.tag().unwrap_or_default().into(),
            target: target.map_or_else(ContactKey::default, |uri| uri.key()),
            session_expires_s: session_expires(message),
        })
    }

    fn into_leg(self, now: Tick, key: LegKey, sighting: &Sighting<'_>) -> TrackedLeg {
        let Self { branch, vias, cseq, from_tag, target, session_expires_s: _ } = self;
        TrackedLeg {
            key,
            pbx: sighting.pbx,
            feed: sighting.feed,
            hop: vias,
            target,
            from_tag,
            branch: branch.into(),
            cseq,
            to_tag: None,
            phase: Phase::Calling,
            deadline: now + calling_ms(sighting.feed),
        }
    }
}

impl Thread {
    fn known(&mut self, now: Tick, invite: &Invite<'_>) -> Known {
        let same_branch = |leg: &TrackedLeg| !leg.branch.is_empty() && *leg.branch == *invite.branch;
        if self.legs.iter().any(same_branch) {
            return Known::Same;
        }
        let mut again = 0;
        for leg in self.legs.iter_mut().filter(|leg| leg.hop == invite.vias && leg.target == invite.target) {
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
    fn leg_of(&mut self, branch: &str, vias: usize) -> Option<&mut TrackedLeg> {
        if let Some(at) = self.legs.iter().position(|leg| !leg.branch.is_empty() && *leg.branch == *branch) {
            return self.legs.get_mut(at);
        }
        let mut restored = self.legs.iter_mut().filter(|leg| {
            leg.branch.is_empty() && leg.hop == vias && !matches!(leg.phase, Phase::Ended | Phase::Answered)
        });
        let leg = restored.next()?;
        restored.next().is_none().then_some(leg)
    }

    /// The leg that a CANCEL stops: by its branch, else (after a restart) by its Request-URI, which is the INVITE's
    /// (RFC 3261 §9.1). It has one Via on every hop, so the count of those says nothing.
    fn leg_of_cancel(&mut self, branch: &str, target: Option<&str>) -> Option<&mut TrackedLeg> {
        if let Some(at) = self.legs.iter().position(|leg| !leg.branch.is_empty() && *leg.branch == *branch) {
            return self.legs.get_mut(at);
        }
        let target = target.and_then(|uri| Uri::parse(uri).ok())?.key();
        self.legs.iter_mut().find(|leg| leg.branch.is_empty() && leg.phase != Phase::Ended && leg.target == target)
    }

    /// The leg that an ACK outside any INVITE transaction is about.
    fn leg_of_ack(&mut self, branch: &str, vias: usize, cseq: u32, target: Option<&str>) -> Option<&mut TrackedLeg> {
        if self.legs.iter().any(|leg| *leg.branch == *branch) {
            return None;
        }
        let fits = |leg: &TrackedLeg| leg.hop == vias && (leg.cseq == 0 || leg.cseq == cseq);
        let target = target.and_then(|uri| Uri::parse(uri).ok()).map(|uri| uri.key());
        let exact = self.legs.iter().position(|leg| fits(leg) && Some(&leg.target) == target.as_ref());
        let mut on_hop = self.legs.iter().enumerate().filter(|(_, leg)| fits(leg)).map(|(at, _)| at);
        let only = on_hop.next().filter(|_| on_hop.next().is_none());
        self.legs.get_mut(exact.or(only)?)
    }

    fn expire(&mut self, now: Now, call_id: &str, out: &mut Vec<PbxEvent>) {
        if self.early_until <= now.tick {
            self.early.clear();
        }
        for leg in self.legs.iter_mut().filter(|leg| leg.deadline <= now.tick) {
            if let Some(event) = leg.on_deadline(now.tick) {
                let evidence = format!("nothing more was heard, Call-ID {call_id}");
                out.push(PbxEvent { pbx: leg.pbx, feed: leg.feed, leg: leg.key.clone(), event, evidence });
            }
        }
        // While one leg of the Call-ID lives its ended siblings are kept: their retransmissions must not start them anew.
        let forget = self.legs.iter().all(|leg| leg.phase == Phase::Ended && leg.deadline <= now.tick);
        if forget {
            self.legs.clear();
        }
    }

    fn is_empty(&self) -> bool {
        self.legs.is_empty() && self.early.is_empty()
    }

    fn next_deadline(&self) -> Option<Tick> {
        let live = self.legs.iter().filter(|leg| leg.phase != Phase::Ended).map(|leg| leg.deadline).min();
        let last = || self.legs.iter().map(|leg| leg.deadline).max();
        let early = (!self.early.is_empty()).then_some(self.early_until);
        live.or_else(last).into_iter().chain(early).min()
    }
}

/// `Call-ID;hop=2;to=101@192.0.2.50:5060`, and `;again=1` for a target tried once more.
fn compose_key(call_id: &str, hop: usize, target: &ContactKey, again: usize) -> LegKey {
    let ContactKey { user, host, port } = target;
    let port = port.map_or_else(String::new, |port| format!(":{port}"));
    let again = if again == 0 { String::new() } else { format!(";again={again}") };
    LegKey(format!("{call_id};hop={hop};to={user}@{host}{port}{again}").into())
}

fn parse_key(key: &LegKey) -> Option<(&str, usize, ContactKey)> {
    let (call_id, rest) = key.0.rsplit_once(";hop=")?;
    let (hop, target) = rest.split_once(";to=")?;
    let target = target.split_once(";again=").map_or(target, |(target, _)| target);
    let (user, address) = target.rsplit_once('@')?;
    let (host, port) = match address.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, port.parse().ok()),
        _ => (address, None),
    };
    Some((call_id, hop.parse().ok()?, ContactKey { user: user.into(), host: host.into(), port }))
}

/// Session-Expires in seconds, when there is a plausible one (RFC 4028 §5: not under 90).
fn session_expires(message: &Message<'_>) -> Option<u32> {
    let value = message.header(Name::SessionExpires)?;
    let seconds: u32 = value.split(';').next()?.trim().parse().ok()?;
    (seconds >= 90).then_some(seconds)
}

/// RFC 3326: `Reason: SIP;cause=200;text="Call completed elsewhere"` or Q.850 cause 26.
fn completed_elsewhere(message: &Message<'_>) -> bool {
    message.headers(Name::Reason).any(|value| {
        let lower = value.to_ascii_lowercase();
        let cause = |wanted: &str| lower.split([';', ',']).any(|p| p.trim() == wanted);
        (lower.starts_with("sip") && cause("cause=200")) || (lower.contains("q.850") && cause("cause=26"))
    })
}

const THREADS_MAX: usize = 50_000;
const LEGS_MAX: usize = 32;
const CALL_ID_BYTES_MAX: usize = 256;
const EARLY_MESSAGES_MAX: usize = 8;
const EARLY_BYTES_MAX: usize = 8 * 1024;
/// How much later than what follows it an INVITE may arrive.
const EARLY_MS: u64 = 1_000;
