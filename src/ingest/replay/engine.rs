//! What SIP and connectors say, through tracker and switchboard on the capture's clock.

use std::collections::BTreeMap;

use super::calls::Calls;
use super::copies::{Copies, Copy};
use super::links::{Links, LinksError};
use super::news::{News, Origin, RegistrationOutcome, Totals};
use super::office::Office;
use super::registrations::Registrations;
use super::sockets::Sockets;
use super::tally::Tally;
use super::timeline::Timeline;
use crate::ingest::capture::{Heard, Skipped};
use crate::model::{Hop, LegEvent, LegStart, Now, PbxEvent, Transition, UnixMillis};
use crate::sip::dialog::{Seen, Sighting, Tracker};
use crate::sip::{HeaderError, Message, Method, ScanError, scan};
use crate::switchboard::{CompiledPlan, Effect, Input, NumberClass, Switchboard, View as _};

/// Everything but the taking apart of packets and logs.
pub(super) struct Engine {
    pub(super) office: Office,
    pub(super) plan: CompiledPlan,
    pub(super) tracker: Tracker,
    pub(super) switchboard: Switchboard,
    pub(super) timeline: Timeline,
    pub(super) copies: Copies,
    pub(super) registrations: Registrations,
    pub(super) sockets: Sockets,
    pub(super) calls: Calls,
    pub(super) tally: Tally,
    pub(super) by_outcome: BTreeMap<RegistrationOutcome, u64>,
    pub(super) captured_twice: u64,
    pub(super) on_other_ways: u64,
    pub(super) malformed: BTreeMap<&'static str, u64>,
    pub(super) dropped: BTreeMap<&'static str, u64>,
    pub(super) from: Option<UnixMillis>,
    pub(super) news: Vec<News>,
    /// What the tracker said last; kept for its allocation.
    pub(super) events: Vec<PbxEvent>,
    pub(super) transitions: Vec<Transition>,
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
        let scanned = scan(heard.bytes);
        let message = match &scanned {
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
                self.tally.count(message);
                return;
            }
        }
        self.tally.count(message);
        if let Err(label) = self.follow(message, heard, now) {
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
            self.give_up_registrations(at);
            let mut events = std::mem::take(&mut self.events);
            self.tracker.poll(at, &mut events);
            self.apply_events(at, &mut events);
            self.events = events;
            self.apply(at, &Input::Time);
            self.expire(at);
        }
        self.give_up_registrations(until);
    }

    fn give_up_registrations(&mut self, now: Now) {
        while let Some(registration) = self.registrations.given_up(now) {
            self.registered(registration);
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
        if let (Some(Method::Invite | Method::Register), Some(source), Some(destination)) =
            (message.method(), heard.source, heard.destination)
        {
            self.sockets.talk(source, destination);
        }
        match (cseq.method, message.status()) {
            (Method::Register, status) => {
                let call_id = message.try_call_id().map_err(HeaderError::label)?;
                let key = self.registrations.key(call_id, cseq.number);
                match status {
                    Some(status) => self.answered(key, message, status, heard, now),
                    None if self.registrations.ask(key, message, heard, now) => Ok(()),
                    None => Err("register_malformed"),
                }
            }
            (method, status) if !Tracker::concerns(method, status) => Ok(()),
            _ => {
                self.observe(message, heard, now);
                Ok(())
            }
        }
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
        match self.plan.read_inside(user) {
            Some(NumberClass::Internal) => self.office.appear(user, Origin::Call, Some(at.unix)),
            Some(NumberClass::Name) if may_be_name => {
                self.office.appear(&start.target.user, Origin::Call, Some(at.unix))
            }
            _ => None,
        };
    }

    pub(super) fn apply(&mut self, now: Now, input: &Input<'_>) {
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

/// A capture is seldom stopped at a good moment: what ends by itself within this time is let end.
const SETTLE_MS: u64 = 3_000;
