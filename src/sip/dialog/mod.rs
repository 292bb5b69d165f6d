//! A passive dialog tracker: follows INVITEs that others exchange and says what happened on each leg.
//!
//! It sees copies that may be lost, doubled or out of order, on any number of hops, and never sends anything. It is
//! sans-IO: messages and time come in, [`PbxEvent`]s go out. Everything a peer can grow is bounded.

mod key;
mod leg;
mod start;
mod thread;

use std::collections::{BTreeSet, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;

use self::key::{Token, compose_key, parse_key};
use self::leg::{InviteResponse, Phase, TrackedLeg, calling_ms, session_ms};
use self::thread::{EarlyMessage, Invite, Known, Thread, session_expires};
use crate::model::{FeedKind, Hop, Leg, LegEvent, LegState, Now, PbxEvent, PbxId, Tick};
use crate::sip::{HeaderError, Message, Method, Name, scan};

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
pub struct Tracker {
    /// Boxed, so that looking one up among many stays within small tables.
    threads: HashMap<Arc<str>, Box<Thread>, foldhash::quality::RandomState>,
    /// One entry a thread, its `scheduled`; when it comes up and its thread's deadline has moved, it is put back there.
    deadlines: BTreeSet<(Tick, Arc<str>)>,
    /// Bytes of all messages that came before their INVITE.
    early_bytes: usize,
    threads_max: usize,
}

impl Default for Tracker {
    fn default() -> Self {
        Self::bounded(THREADS_MAX)
    }
}

impl Tracker {
    /// One that follows at most so many Call-IDs.
    #[must_use]
    pub fn bounded(threads_max: usize) -> Self {
        Self { threads: HashMap::default(), deadlines: BTreeSet::new(), early_bytes: 0, threads_max }
    }

    /// Whether a message can mean anything to a tracker: a request's method, or a response's `CSeq` method and status. What
    /// can't need not be brought before one.
    #[must_use]
    pub fn concerns(method: Method<'_>, status: Option<u16>) -> bool {
        matches!(
            (method, status),
            (Method::Invite, _)
                | (Method::Refer, None | Some(200..300))
                | (Method::Update | Method::Cancel | Method::Ack | Method::Bye, None)
        )
    }

    /// Takes one message and appends what it means to `out`.
    pub fn observe(&mut self, now: Now, sighting: &Sighting<'_>, out: &mut Vec<PbxEvent>) -> Seen {
        self.try_observe(now, sighting, out).unwrap_or_else(Seen::Broken)
    }

    /// Ends legs whose time is up and forgets those that ended long ago.
    pub fn poll(&mut self, now: Now, out: &mut Vec<PbxEvent>) {
        while self.next_deadline().is_some_and(|at| at <= now.tick) {
            let Some((_, call_id)) = self.deadlines.pop_first() else { return };
            let Some(thread) = self.threads.get_mut(&call_id) else { continue };
            thread.scheduled = None;
            self.early_bytes -= thread.early_bytes();
            thread.expire(now, &call_id, out);
            self.early_bytes += thread.early_bytes();
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
        self.deadlines.first().map(|(at, _)| *at)
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
            target: Token::of_target(&target),
            from_tag: Token::NONE,
            branch: Token::NONE,
            cseq: 0,
            to_tag: Token::NONE,
            phase,
            rang: phase == Phase::Ringing,
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
        match message.method() {
            Some(Method::Invite) if message.tag(Name::To)?.is_none() => self.on_invite(now, sighting, call_id, out),
            Some(Method::Invite | Method::Update) => Ok(self.on_refresh(now, sighting, call_id)),
            Some(Method::Cancel | Method::Ack | Method::Bye) => self.on_request(now, sighting, call_id, out),
            Some(Method::Refer) if self.threads.contains_key(call_id) => self.on_request(now, sighting, call_id, out),
            Some(_) => Ok(Seen::Ignored),
            None => self.on_response(now, sighting, call_id, out),
        }
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
        let full = self.threads.len() >= self.threads_max;
        let call_key: Arc<str> = match self.threads.get_key_value(call_id) {
            Some((key, _)) => Arc::clone(key),
            None if full => return Ok(Seen::Limited("dialogs")),
            None => call_id.into(),
        };
        let (known, downstream) = match self.threads.get_mut(call_id) {
            Some(thread) => (thread.known(now.tick, &invite), thread.legs.iter().any(|leg| leg.hop < invite.vias)),
            None => (Known::New { again: 0 }, false),
        };
        // What can't be read is told before anything is kept of it.
        let new = match known {
            Known::Full => return Ok(Seen::Limited("legs")),
            Known::Same => None,
            Known::New { again } => {
                Some((again, start::leg_start(sighting, Arc::clone(&call_key), &invite.target, downstream)?))
            }
        };
        let thread = self.threads.entry(Arc::clone(&call_key)).or_default();
        if let Some((again, start)) = new {
            let key = compose_key(&call_key, invite.vias, &invite.target, again);
            thread.legs.push(invite.into_leg(now.tick, key.clone(), sighting));
            let evidence = evidence("INVITE", call_id);
            let (pbx, feed) = (sighting.pbx, sighting.feed);
            let started = LegEvent::Started(Box::new(start));
            out.push(PbxEvent { pbx, feed, leg: key.clone(), event: started, evidence: evidence.clone() });
            if feed == FeedKind::Replica && thread.legs.last_mut().is_some_and(TrackedLeg::rings_unseen) {
                out.push(PbxEvent { pbx, feed, leg: key, event: LegEvent::Rang, evidence });
            }
        }
        self.early_bytes -= thread.early_bytes();
        let early = std::mem::take(&mut thread.early);
        self.schedule(&call_key);
        for kept in early {
            self.replay(now, &kept, out);
        }
        Ok(Seen::Followed)
    }

    /// A message that came before its INVITE gets its turn. One that fits no leg even now, the answer of another fork, is
    /// kept for another while.
    fn replay(&mut self, now: Now, kept: &EarlyMessage, out: &mut Vec<PbxEvent>) {
        let Ok(message) = scan(&kept.bytes) else { return };
        let EarlyMessage { pbx, feed, source, destination, hop, .. } = *kept;
        self.observe(now, &Sighting { message: &message, pbx, feed, source, destination, hop }, out);
    }

    fn on_refresh(&mut self, now: Now, sighting: &Sighting<'_>, call_id: &str) -> Seen {
        let Some(thread) = self.threads.get_mut(call_id) else { return Seen::Ignored };
        let session_expires_s = session_expires(sighting.message);
        thread.legs.iter_mut().for_each(|leg| leg.refresh(now.tick, session_expires_s));
        if thread.due_sooner().is_some() {
            self.schedule(call_id);
        }
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
        let branch = Token::of(message.top_branch().unwrap_or_default());
        let [from_tag, to_tag] = [message.tag(Name::From)?, message.tag(Name::To)?];
        let [from_tag, to_tag] = [from_tag, to_tag].map(|tag| Token::of(tag.unwrap_or_default()));
        let Some(thread) = self.threads.get_mut(call_id) else { return Ok(self.keep_early(now, sighting, call_id)) };
        let tick = now.tick;
        let mut emit = |leg: &TrackedLeg, event: LegEvent, word: &str| {
            let evidence = evidence(word, call_id);
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
            // The ACK of a refusal is part of the INVITE's transaction (RFC 3261 §17.1.1.3) and says nothing new.
            Some(Method::Ack) if thread.legs.iter().any(|leg| leg.branch == branch) => followed = true,
            Some(Method::Ack) if !to_tag.is_none() => {
                let cseq = message.cseq()?.number;
                if let Some(leg) = thread.leg_of_ack(message.via_count(), cseq, message.request_uri()) {
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
            Some(Method::Refer) if !thread.legs.is_empty() => {
                followed = true;
                thread.replaces = start::replaced_by_refer(message);
            }
            _ => return Ok(Seen::Ignored),
        }
        if !followed {
            return Ok(self.keep_early(now, sighting, call_id));
        }
        if thread.due_sooner().is_some() {
            self.schedule(call_id);
        }
        Ok(Seen::Followed)
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
        if !Self::concerns(cseq.method, Some(status)) {
            return Ok(Seen::Ignored);
        }
        let Some(thread) = self.threads.get_mut(call_id) else { return Ok(self.keep_early(now, sighting, call_id)) };
        if cseq.method == Method::Refer {
            for leg in thread.legs.iter().filter(|leg| leg.phase == Phase::Answered) {
                let evidence = evidence("REFER accepted", call_id);
                let (pbx, feed, key) = (leg.pbx, leg.feed, leg.key.clone());
                let replaces = thread.replaces.take();
                out.push(PbxEvent {
                    pbx,
                    feed,
                    leg: key.clone(),
                    event: LegEvent::Referred,
                    evidence: evidence.clone(),
                });
                if let Some(call_id) = replaces {
                    let event = LegEvent::TakesOver(call_id.into());
                    out.push(PbxEvent { pbx, feed, leg: key, event, evidence });
                }
            }
            return Ok(Seen::Followed);
        }
        let branch = Token::of(message.top_branch().unwrap_or_default());
        let Some(leg) = thread.leg_of(branch, || message.via_count()) else {
            return Ok(self.keep_early(now, sighting, call_id));
        };
        if leg.cseq != 0 && leg.cseq != cseq.number {
            return Ok(Seen::Ignored);
        }
        let response = InviteResponse {
            status,
            to_tag: Token::of(message.tag(Name::To)?.unwrap_or_default()),
            session_expires_s: session_expires(message),
        };
        if let Some(event) = leg.on_response(now.tick, response) {
            // What a peer may say at length is kept in the trail of every user concerned.
            let said = message.status_line().unwrap_or_default();
            let evidence =
                evidence(said.get(..said.floor_char_boundary(STATUS_LINE_BYTES_MAX)).unwrap_or(said), call_id);
            out.push(PbxEvent { pbx: leg.pbx, feed: leg.feed, leg: leg.key.clone(), event, evidence });
        }
        if thread.due_sooner().is_some() {
            self.schedule(call_id);
        }
        Ok(Seen::Followed)
    }

    /// Copies overtake one another by milliseconds: what fits no leg yet is kept for a second.
    fn keep_early(&mut self, now: Now, sighting: &Sighting<'_>, call_id: &str) -> Seen {
        let bytes = sighting.message.raw();
        if self.early_bytes + bytes.len() > EARLY_BYTES_MAX {
            return Seen::Limited("early_bytes");
        }
        let full = self.threads.len() >= self.threads_max;
        let thread = match self.threads.get_mut(call_id) {
            Some(thread) => thread,
            None if full => return Seen::Limited("dialogs"),
            None => self.threads.entry(call_id.into()).or_default(),
        };
        if thread.early.len() >= EARLY_MESSAGES_MAX {
            return Seen::Limited("early_messages");
        }
        let Sighting { message: _, pbx, feed, source, destination, hop } = *sighting;
        thread.early.push(EarlyMessage { bytes: bytes.into(), pbx, feed, source, destination, hop });
        self.early_bytes += bytes.len();
        thread.early_until = now.tick + EARLY_MS;
        self.schedule(call_id);
        Seen::Early
    }

    fn schedule(&mut self, call_id: &str) {
        let Some(thread) = self.threads.get_mut(call_id) else { return };
        let Some(deadline) = thread.due_sooner() else { return };
        let before = thread.scheduled.replace(deadline);
        let Some((key, _)) = self.threads.get_key_value(call_id) else { return };
        let key = Arc::clone(key);
        if let Some(later) = before {
            self.deadlines.remove(&(later, Arc::clone(&key)));
        }
        self.deadlines.insert((deadline, key));
    }
}

/// What was seen, in a few words.
fn evidence(what: &str, call_id: &str) -> String {
    [what, ", Call-ID ", call_id].concat()
}

/// RFC 3326: `Reason: SIP;cause=200;text="Call completed elsewhere"` or Q.850 cause 26.
fn completed_elsewhere(message: &Message<'_>) -> bool {
    message.headers(Name::Reason).any(|value| {
        let lower = value.to_ascii_lowercase();
        let cause = |wanted: &str| lower.split([';', ',']).any(|p| p.trim() == wanted);
        (lower.starts_with("sip") && cause("cause=200")) || (lower.contains("q.850") && cause("cause=26"))
    })
}

/// Threads of a site: two thousand calls a second, each on two legs that are remembered for 32 s.
const THREADS_MAX: usize = 200_000;
const CALL_ID_BYTES_MAX: usize = 256;
const STATUS_LINE_BYTES_MAX: usize = 68;
const EARLY_MESSAGES_MAX: usize = 8;
/// All early messages of a site together: a second of a busy mirror in the wrong order.
const EARLY_BYTES_MAX: usize = 16 * 1024 * 1024;
/// How much later than what follows it an INVITE may arrive.
const EARLY_MS: u64 = 1_000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::UnixMillis;

    fn observe(tracker: &mut Tracker, now: Now, start: &str, branch: usize) -> Vec<PbxEvent> {
        let cseq = "Call-ID: a\r\nCSeq: 1 INVITE\r\n";
        let text = format!(
            "{start}\r\nVia: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK{branch}\r\nFrom: <sip:a@b.example>;tag=1\r\n\
             To: <sip:101@b.example>\r\n{cseq}\r\n"
        );
        let message = scan(text.as_bytes()).unwrap();
        let (feed, hop) = (FeedKind::Mirror, Hop::Unknown);
        let pbx = PbxId(uuid::Uuid::nil());
        let mut events = Vec::new();
        tracker.poll(now, &mut events);
        tracker.observe(
            now,
            &Sighting { message: &message, pbx, feed, source: None, destination: None, hop },
            &mut events,
        );
        events
    }

    #[test]
    fn strays_during_a_long_call_leave_no_deadlines_behind() {
        let mut tracker = Tracker::default();
        let mut now = Now { tick: Tick(0), unix: UnixMillis(0) };
        observe(&mut tracker, now, "INVITE sip:101@b.example SIP/2.0", 0);
        observe(&mut tracker, now, "SIP/2.0 200 OK", 0);
        for stray in 1..100 {
            now = now.after(2 * EARLY_MS);
            observe(&mut tracker, now, "SIP/2.0 180 Ringing", stray);
        }
        assert_eq!((tracker.len(), tracker.deadlines.len()), (1, 1));
    }

    #[test]
    fn an_invite_that_can_not_be_read_leaves_nothing_behind() {
        let mut tracker = Tracker::default();
        let now = Now { tick: Tick(0), unix: UnixMillis(0) };
        assert!(observe(&mut tracker, now, "INVITE sip:101@b.example SIP/2.0\r\nFrom: <sip:a@b.example", 0).is_empty());
        assert!(tracker.is_empty() && tracker.next_deadline().is_none());
    }

    #[test]
    fn a_long_reason_phrase_is_cut_before_it_becomes_evidence() {
        let mut tracker = Tracker::default();
        let now = Now { tick: Tick(0), unix: UnixMillis(0) };
        observe(&mut tracker, now, "INVITE sip:101@b.example SIP/2.0", 0);
        let events = observe(&mut tracker, now, &format!("SIP/2.0 486 {}", "\u{fc}".repeat(4_000)), 0);
        assert!(events[0].evidence.len() < 200, "{}", events[0].evidence.len());
    }
}
