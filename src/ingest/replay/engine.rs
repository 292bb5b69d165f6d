//! What SIP and connectors say, through tracker and switchboard on the capture's clock.

use std::collections::{BTreeMap, HashSet};

use super::calls::Calls;
use super::copies::{Copies, Copy};
use super::links::{Links, LinksError};
use super::news::{News, Origin, QueueEvent, Registration, RegistrationOutcome, Totals};
use super::office::{EXPIRES_MAX_S, Office};
use super::registrations::{Registrations, unasked};
use super::sockets::Sockets;
use super::tally::Tally;
use super::timeline::Timeline;
use crate::ingest::capture::{Heard, Skipped};
use crate::model::{
    BindingSource, FeedKind, Hop, LegEvent, LegKey, LegStart, Now, PbxEvent, PbxId, Transition, UnixMillis,
};
use crate::registry::{ReportedContact, ReportedMember, ReportedQueue, merged};
use crate::sip::dialog::{Seen, Sighting, Tracker};
use crate::sip::registrar::{Decision, Policy, Snapshot, bindings_from_response};
use crate::sip::{HeaderError, Message, Method, ScanError, scan};
use crate::switchboard::{CompiledPlan, Effect, Input, NumberClass, Switchboard, View as _};

/// Everything but the taking apart of packets and logs.
pub(super) struct Engine {
    office: Office,
    plan: CompiledPlan,
    tracker: Tracker,
    switchboard: Switchboard,
    timeline: Timeline,
    copies: Copies,
    registrations: Registrations,
    sockets: Sockets,
    calls: Calls,
    tally: Tally,
    by_outcome: BTreeMap<RegistrationOutcome, u64>,
    captured_twice: u64,
    on_other_ways: u64,
    malformed: BTreeMap<&'static str, u64>,
    dropped: BTreeMap<&'static str, u64>,
    from: Option<UnixMillis>,
    news: Vec<News>,
    /// What the tracker said last; kept for its allocation.
    events: Vec<PbxEvent>,
    transitions: Vec<Transition>,
}

impl Engine {
    /// An office as the links file says; [`Links::default`] is an empty one.
    ///
    /// # Errors
    /// When the file contradicts itself.
    pub(super) fn new(links: &Links) -> Result<Self, LinksError> {
        let office = Office::new(links)?;
        let news = if office.has_users() { vec![News::Names(office.names())] } else { Vec::new() };
        Ok(Self {
            plan: CompiledPlan::new(&links.account.number_plan),
            tracker: Tracker::default(),
            switchboard: Switchboard::new(office.site()),
            timeline: Timeline::new(),
            copies: Copies::new(),
            registrations: Registrations::new(),
            sockets: Sockets::default(),
            calls: Calls::default(),
            tally: Tally::new(),
            by_outcome: BTreeMap::new(),
            captured_twice: 0,
            on_other_ways: 0,
            malformed: BTreeMap::new(),
            dropped: BTreeMap::new(),
            from: None,
            news,
            events: Vec::new(),
            transitions: Vec::new(),
            office,
        })
    }

    /// Takes one message.
    pub(super) fn hear(&mut self, heard: &Heard<'_>) {
        let now = self.pass(heard.at_us);
        let message = match scan(heard.bytes) {
            Ok(message) => message,
            Err(ScanError::Keepalive) => return,
            Err(error) => return count(&mut self.malformed, error.label()),
        };
        match self.copies.take(heard) {
            Copy::New => {}
            Copy::SamePacket => {
                self.captured_twice += 1;
                return;
            }
            Copy::OtherWay => {
                self.on_other_ways += 1;
                self.tally.count(&message);
                return;
            }
        }
        self.tally.count(&message);
        if let Err(label) = self.follow(&message, heard, now) {
            count(&mut self.dropped, label);
        }
    }

    /// What was found since the last time.
    pub(super) fn news(&mut self) -> std::vec::Drain<'_, News> {
        self.news.drain(..)
    }

    /// Messages so far.
    pub(super) fn messages(&self) -> u64 {
        self.tally.messages
    }

    /// Ends the capture: what is only a matter of moments is waited for, then everything that goes on is told as it is,
    /// and the counts.
    pub(super) fn finish(mut self, records: u64, skipped: Skipped) -> Vec<News> {
        let end = self.timeline.now();
        if self.from.is_some() {
            self.run_until(end, end.after(SETTLE_MS));
        }
        let mut live: Vec<_> = self.switchboard.calls().collect();
        live.sort_by_key(|call| (call.began_at, call.id));
        for call in live {
            self.calls.left_over(call, &self.office, &mut self.news);
        }
        let phones = self.office.phones();
        let devices = u64::try_from(phones.len()).unwrap_or(u64::MAX);
        self.news.extend(phones.into_iter().map(|phone| News::Device(phone.record(end))));
        let mut dropped = self.dropped;
        for (reason, times) in [("devices_max", self.office.turned_away), ("copies_max", self.copies.crowded)] {
            if times > 0 {
                dropped.insert(reason, times);
            }
        }
        self.news.push(News::Totals(Box::new(Totals {
            records,
            from: self.from,
            to: self.from.map(|_| end.unix),
            messages: self.tally.messages,
            requests: self.tally.requests(),
            responses: self.tally.responses(),
            captured_twice: self.captured_twice,
            on_other_ways: self.on_other_ways,
            malformed: self.malformed,
            registrations: self.by_outcome,
            calls: self.calls.outcomes(),
            offers: self.calls.offers(),
            queue_events: self.calls.queue_events_by_kind(),
            devices,
            stamps_out_of_order: self.timeline.out_of_order,
            clock_set_back: self.timeline.set_back,
            dropped,
            skipped,
        })));
        self.news
    }

    /// Takes what a connector says happened on a leg.
    pub(super) fn leg(&mut self, event: &PbxEvent, now: Now) {
        match &event.event {
            LegEvent::Started(start) => {
                if let Some(queue) = &start.queue {
                    self.office.ensure_queue(queue);
                }
                let endpoint = start.endpoint.as_ref().map(|endpoint| endpoint.user.as_str()).unwrap_or_default();
                if self.office.by_user(endpoint).is_none() && self.plan.read(endpoint).class == NumberClass::Internal {
                    self.office.appear(endpoint, Origin::Connector, Some(now.unix));
                }
            }
            LegEvent::Queued(queued) => self.office.ensure_queue(&queued.queue),
            _ => {}
        }
        self.apply(now, &Input::Event(event));
    }

    /// Takes a connector's list of all live legs.
    pub(super) fn legs(&mut self, feed: FeedKind, legs: &HashSet<LegKey>, now: Now) {
        let pbx = self.office.pbx_id();
        self.apply(now, &Input::Snapshot { pbx, feed, legs });
    }

    /// Takes what a connector says the contacts of a user are.
    pub(super) fn contacts(&mut self, user: &str, contacts: &[ReportedContact], complete: bool, now: Now) {
        let known = self.office.by_user(user);
        let device = match known {
            None if !contacts.is_empty() => self.office.appear(user, Origin::Connector, Some(now.unix)),
            known => known,
        };
        let Some(id) = device else { return };
        let before = self.office.phone(id).map(|phone| phone.bindings.as_slice()).unwrap_or_default();
        let max_ms = u64::from(EXPIRES_MAX_S) * 1000;
        let (after, _) = merged(before, contacts, complete, max_ms, now);
        let news = self.office.bind(id, after, now, "unregistered");
        self.news.extend(news.into_iter().map(News::Transition));
    }

    /// Takes a connector's word that a contact is gone.
    pub(super) fn contact_gone(&mut self, user: &str, uri: &str, now: Now) {
        let Some(id) = self.office.by_user(user) else { return };
        let bindings = self.office.phone(id).map(|phone| phone.bindings.clone()).unwrap_or_default();
        let left = bindings.into_iter().filter(|binding| *binding.contact != *uri).collect();
        let news = self.office.bind(id, left, now, "unregistered");
        self.news.extend(news.into_iter().map(News::Transition));
    }

    /// Takes what a connector says of queues: all members of these.
    pub(super) fn queues(&mut self, queues: &[ReportedQueue], now: Now) {
        for queue in queues {
            let events = self.office.queue_reported(queue, now);
            self.queue_events(events);
        }
    }

    /// Takes what a connector says of one member.
    pub(super) fn member(&mut self, queue: &str, member: &ReportedMember, now: Now) {
        let events = self.office.member_reported(queue, member, now);
        self.queue_events(events);
    }

    /// Takes a connector's word that a member left.
    pub(super) fn member_gone(&mut self, queue: &str, user: &str, now: Now) {
        let events = self.office.member_gone(queue, user, now);
        self.queue_events(events);
    }

    /// The PBX everything belongs to.
    pub(super) fn pbx(&self) -> PbxId {
        self.office.pbx_id()
    }

    /// A connector's log is part of the capture: SIP legs wait a moment for their name there.
    pub(super) fn is_led(&mut self) {
        self.office.led = true;
    }

    fn queue_events(&mut self, events: Vec<QueueEvent>) {
        for event in events {
            self.calls.count_queue_event(event.event);
            self.news.push(News::Queue(event));
        }
    }

    /// Lets capture time go on to a stamp: what falls due on the way happens at its own time.
    pub(super) fn pass(&mut self, at_us: i64) -> Now {
        let before = self.timeline.now();
        let now = self.timeline.at(at_us);
        if self.from.is_none() {
            self.from = Some(now.unix);
        } else if now.tick > before.tick {
            self.run_until(before, now);
        }
        now
    }

    fn run_until(&mut self, before: Now, until: Now) {
        while let Some(next) = self.next_deadline().filter(|next| *next <= until.tick) {
            let at = before.after(next - before.tick);
            let mut events = std::mem::take(&mut self.events);
            self.tracker.poll(at, &mut events);
            self.apply_events(at, &mut events);
            self.events = events;
            self.apply(at, &Input::Time);
            self.expire(at);
        }
        while let Some(asked) = self.registrations.overdue(until) {
            if let Some(registration) = asked.given_up() {
                self.registered(registration);
            }
        }
    }

    fn next_deadline(&self) -> Option<crate::model::Tick> {
        let deadlines = [self.tracker.next_deadline(), self.switchboard.next_deadline(), self.office.next_deadline()];
        deadlines.into_iter().flatten().min()
    }

    fn expire(&mut self, now: Now) {
        let mut transitions = std::mem::take(&mut self.transitions);
        self.office.expire(now, &mut transitions);
        self.news.extend(transitions.drain(..).map(News::Transition));
        self.transitions = transitions;
    }

    fn follow(&mut self, message: &Message<'_>, heard: &Heard<'_>, now: Now) -> Result<(), &'static str> {
        let cseq = message.cseq().map_err(HeaderError::label)?;
        let call_id = message.try_call_id().map_err(HeaderError::label)?;
        if let (Some(Method::Invite | Method::Register), Some(source), Some(destination)) =
            (message.method(), heard.source, heard.destination)
        {
            self.sockets.talk(source, destination);
        }
        match (cseq.method, message.status()) {
            (Method::Register, None) => {
                let key = self.registrations.key(call_id, cseq.number);
                if self.registrations.ask(key, message, heard, now) { Ok(()) } else { Err("register_malformed") }
            }
            (Method::Register, Some(status)) => {
                let key = self.registrations.key(call_id, cseq.number);
                self.answered(key, message, status, heard, now)
            }
            (Method::Options | Method::Publish | Method::Subscribe, _) => Ok(()),
            _ => {
                self.observe(message, heard, now);
                Ok(())
            }
        }
    }

    /// An answer to a REGISTER.
    fn answered(
        &mut self,
        key: u64,
        message: &Message<'_>,
        status: u16,
        heard: &Heard<'_>,
        now: Now,
    ) -> Result<(), &'static str> {
        if status < 200 {
            return Ok(());
        }
        let asked = self.registrations.answer(key);
        let is_first = asked.as_ref().is_none_or(|(_, is_first)| *is_first);
        let asked = asked.map(|(asked, _)| asked.clone());
        let facts = asked.as_ref().map(|asked| &asked.facts);
        let (mut outcome, mut device, mut expires_s) = (RegistrationOutcome::Refused, None, None);
        if status < 300 {
            let snapshot = bindings_from_response(message, facts, &POLICY, now).map_err(HeaderError::label)?;
            let Some(snapshot) = snapshot else { return Err("register_malformed") };
            if let Some(source) = heard.source {
                self.sockets.accepts_registrations(source);
            }
            expires_s = snapshot.bindings().map(|binding| binding.expires_at - now.tick).max();
            let is_query = asked.as_ref().is_some_and(|asked| asked.is_query);
            (outcome, device) = self.bind(&snapshot, is_query, now);
        } else if matches!(status, 401 | 407) {
            outcome = RegistrationOutcome::Challenged;
        }
        if !is_first {
            return Ok(());
        }
        let mut registration = if let Some(asked) = &asked {
            asked.outcome(outcome, now.unix)
        } else {
            let to = message.to().map_err(HeaderError::label)?.uri.key();
            unasked(&to.user, &to.host, outcome, now.unix)
        };
        registration.status = Some(status);
        registration.device = device.or_else(|| self.office.by_user(&registration.user));
        registration.expires_s = expires_s.and_then(|ms| u32::try_from(ms.div_ceil(1000)).ok());
        self.registered(registration);
        Ok(())
    }

    /// What a 2xx lists replaces what was known.
    fn bind(
        &mut self,
        snapshot: &Snapshot,
        is_query: bool,
        now: Now,
    ) -> (RegistrationOutcome, Option<crate::model::DeviceId>) {
        let lists_any = snapshot.bindings().next().is_some();
        let known = self.office.by_user(&snapshot.user);
        let device = match known {
            None if lists_any => self.office.appear(&snapshot.user, Origin::Registration, Some(now.unix)),
            known => known,
        };
        let Some(id) = device else {
            let outcome = if is_query { RegistrationOutcome::Queried } else { RegistrationOutcome::Unregistered };
            return (outcome, None);
        };
        let before = self.office.phone_mut(id).map(|phone| phone.bindings.as_slice()).unwrap_or_default();
        let was_bound = !before.is_empty();
        if let Decision::Accept { bindings, .. } = snapshot.over(before, &POLICY, now) {
            let news = self.office.bind(id, bindings, now, "unregistered");
            self.news.extend(news.into_iter().map(News::Transition));
        }
        let outcome = match (is_query, lists_any, was_bound) {
            (true, ..) => RegistrationOutcome::Queried,
            (_, false, _) => RegistrationOutcome::Unregistered,
            (_, true, false) => RegistrationOutcome::Registered,
            (_, true, true) => RegistrationOutcome::Refreshed,
        };
        (outcome, Some(id))
    }

    fn registered(&mut self, registration: Registration) {
        *self.by_outcome.entry(registration.outcome).or_default() += 1;
        let device = registration.device.or_else(|| self.office.by_user(&registration.user));
        if let Some(phone) = device.and_then(|device| self.office.phone_mut(device)) {
            phone.registered(registration.outcome, &registration.host, registration.at);
        }
        self.news.push(News::Registration(registration));
    }

    fn observe(&mut self, message: &Message<'_>, heard: &Heard<'_>, now: Now) {
        let sighting = Sighting {
            message,
            pbx: self.office.pbx_id(),
            feed: heard.feed,
            source: heard.source,
            destination: heard.destination,
            hop: self.sockets.hop(heard.source, heard.destination),
        };
        let mut events = std::mem::take(&mut self.events);
        match self.tracker.observe(now, &sighting, &mut events) {
            Seen::Followed | Seen::Early | Seen::Ignored => {}
            Seen::Limited(limit) => count(&mut self.dropped, limit),
            Seen::Broken(error) => count(&mut self.dropped, error.label()),
        }
        self.apply_events(now, &mut events);
        self.events = events;
    }

    fn apply_events(&mut self, at: Now, events: &mut Vec<PbxEvent>) {
        for event in events.drain(..) {
            if let LegEvent::Started(start) = &event.event {
                self.appear(start, at);
            }
            self.apply(at, &Input::Event(&event));
        }
    }

    /// A capture seldom has the registration of every phone in it. Whoever calls the PBX, or is called by it, by an
    /// internal number is one of its phones; so is who is called by a name, as contacts of phones often are.
    fn appear(&mut self, start: &LegStart, at: Now) {
        let (user, bound, may_be_name) = match start.hop {
            Hop::ToPbx => (&start.from.user, start.contact.as_ref(), false),
            Hop::FromPbx => (&start.to.user, Some(&start.target), true),
            Hop::Unknown => return,
        };
        let pbx = self.office.pbx_id();
        let is_known = bound.is_some_and(|contact| {
            !self.office.devices_by_contact(pbx, contact).is_empty() || self.office.by_user(&contact.user).is_some()
        });
        if is_known || self.office.by_user(user).is_some() || !self.office.devices_by_extension(pbx, user).is_empty() {
            return;
        }
        match self.plan.read(user).class {
            NumberClass::Internal => self.office.appear(user, Origin::Call, Some(at.unix)),
            NumberClass::Name if may_be_name => self.office.appear(&start.target.user, Origin::Call, Some(at.unix)),
            _ => None,
        };
    }

    fn apply(&mut self, now: Now, input: &Input<'_>) {
        for effect in self.switchboard.apply(now, input, &self.office) {
            match effect {
                Effect::Call(call) => self.calls.change(&call, now.unix, &self.office, &mut self.news),
                // The call carries its offers.
                Effect::Offer(_) => {}
                Effect::Trail(entry) => {
                    if self.office.has_users() {
                        self.calls.note(*entry);
                    }
                }
                Effect::DeviceCalled { device, external, at, .. } => {
                    if let Some(phone) = self.office.phone_mut(device) {
                        phone.called(external, at);
                    }
                }
                Effect::Merged { from, into } => self.calls.merge(from, into),
                Effect::Dropped(what) => count(&mut self.dropped, what),
            }
        }
    }
}

fn count(counts: &mut BTreeMap<&'static str, u64>, reason: &'static str) {
    *counts.entry(reason).or_default() += 1;
}

/// As for passive feeds of the daemon.
const POLICY: Policy = Policy {
    expires_min_s: 60,
    expires_default_s: 3_600,
    expires_max_s: EXPIRES_MAX_S,
    contacts_max: 32,
    overflow: crate::sip::registrar::Overflow::DropOldest,
    source: BindingSource::Passive,
};
/// A capture is seldom stopped at a good moment: what ends by itself within this time is let end.
const SETTLE_MS: u64 = 3_000;
