//! Findings for people: calls as they end, then who registered, and the counts.

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::fmt::Write as _;
use std::io::{self, Write};

use hookswitch::ingest::replay::{
    CallRecord, DeviceRecord, News, QueueEvent, QueueHappening, Registration, RegistrationOutcome, Totals,
};
use hookswitch::model::{
    Call, CallState, DeviceId, DeviceState, Direction, Offer, OfferState, Outcome, Party, TrailEntry, UnixMillis,
};

/// Writes a finding after the other. Sections have their head when they have a first line.
pub struct Table<W: Write> {
    out: W,
    with_offers: bool,
    section: Section,
    users: HashMap<String, String>,
    queues: HashMap<String, String>,
    /// Extensions of devices that calls name; known when they register or are listed.
    devices: HashMap<DeviceId, String>,
    /// REGISTERs that were refused or not answered, by whom.
    failed: BTreeMap<(String, &'static str, Option<u16>), u64>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Section {
    None,
    Calls,
    Devices,
    Other,
}

impl<W: Write> Table<W> {
    pub fn new(out: W, with_offers: bool) -> Self {
        Self {
            out,
            with_offers,
            section: Section::None,
            users: HashMap::new(),
            queues: HashMap::new(),
            devices: HashMap::new(),
            failed: BTreeMap::new(),
        }
    }

    pub fn write(&mut self, news: &News) -> io::Result<()> {
        match news {
            News::Names(names) => {
                self.users = names.users.iter().map(|(id, name)| (id.to_string(), name.clone())).collect();
                self.queues = names.queues.iter().map(|(id, name)| (id.to_string(), name.clone())).collect();
                Ok(())
            }
            News::Registration(registration) => {
                self.registration(registration);
                Ok(())
            }
            News::Transition(_) => Ok(()),
            News::Queue(event) => self.queue(event),
            News::Call(record) => self.call(record),
            News::Device(device) => self.device(device),
            News::Totals(totals) => self.totals(totals),
        }
    }

    pub fn finish(&mut self) -> io::Result<()> {
        self.out.flush()
    }

    fn registration(&mut self, registration: &Registration) {
        if let Some(device) = registration.device {
            self.devices.entry(device).or_insert_with(|| registration.user.to_string());
        }
        if matches!(registration.outcome, RegistrationOutcome::Refused | RegistrationOutcome::Unanswered) {
            // A scanner tries many names.
            let user = if self.failed.len() < FAILED_MAX { registration.user.to_string() } else { "others".to_owned() };
            *self.failed.entry((user, registration.outcome.as_str(), registration.status)).or_default() += 1;
        }
    }

    fn queue(&mut self, event: &QueueEvent) -> io::Result<()> {
        let word = match event.event {
            QueueHappening::Joined => "call joined",
            QueueHappening::Answered => "answered",
            QueueHappening::Abandoned => "abandoned",
            QueueHappening::Left => "left",
            QueueHappening::MemberAdded => "member added",
            QueueHappening::MemberRemoved => "member removed",
            QueueHappening::MemberPaused => "member paused",
            QueueHappening::MemberUnpaused => "member back",
        };
        self.head(Section::Calls)?;
        let member = event.user.as_ref().map(|user| format!(" {user}")).unwrap_or_default();
        writeln!(self.out, "{}  queue {}: {word}{member}", time(event.at), event.name)
    }

    fn call(&mut self, record: &CallRecord) -> io::Result<()> {
        let call = &record.call;
        for (device, user) in &record.devices {
            self.devices.entry(*device).or_insert_with(|| user.clone());
        }
        self.head(Section::Calls)?;
        let (ring, talk) = (seconds(call.ring_ms), seconds(call.talk_ms));
        let queue = call.queue.and_then(|queue| self.queues.get(&queue.to_string()));
        let queue = queue.map(|queue| format!("  queue {queue}")).unwrap_or_default();
        let (caller, callee) = (self.party(&call.caller), self.party(&call.callee));
        writeln!(
            self.out,
            "{:<23}  {:<8}  {}  {caller:<24}  {callee:<24}  {:<9}  {ring:>7}  {talk:>7}{queue}",
            call.ended_at.map_or_else(|| "goes on".to_owned(), time),
            direction(call.direction),
            time_of_day(call.began_at),
            outcome(call),
        )?;
        if self.with_offers {
            for offer in &call.offers {
                writeln!(self.out, "    offer  {:<16}  {}", self.user(&offer.user.to_string()), offer_story(offer))?;
            }
            for entry in &record.trail {
                let line = self.reason(entry);
                writeln!(self.out, "    trail  {line}")?;
            }
        }
        Ok(())
    }

    fn device(&mut self, device: &DeviceRecord) -> io::Result<()> {
        self.head(Section::Devices)?;
        let state = match device.state {
            DeviceState::Connected => "connected",
            DeviceState::Stale => "stale",
            DeviceState::Disconnected => "disconnected",
            DeviceState::Disabled => "disabled",
        };
        let contact = device.contacts.first();
        let at = contact.and_then(|contact| contact.received).map(|at| at.to_string()).unwrap_or_default();
        let agent = contact.and_then(|contact| contact.user_agent.clone()).unwrap_or_default();
        let mut registrations = String::new();
        for (outcome, count) in &device.registrations {
            let _ = write!(
                registrations,
                "{}{} {count}",
                if registrations.is_empty() { "" } else { ", " },
                outcome.as_str()
            );
        }
        let name =
            if device.host.is_empty() { device.user.clone() } else { format!("{}@{}", device.user, device.host) };
        writeln!(self.out, "{name:<28}  {state:<12}  {:>5}  {at:<22}  {agent:<24.24}  {registrations}", device.in_calls)
    }

    fn totals(&mut self, totals: &Totals) -> io::Result<()> {
        self.head(Section::Other)?;
        let failed = std::mem::take(&mut self.failed);
        if !failed.is_empty() {
            writeln!(self.out, "REGISTERs that failed")?;
            for ((user, outcome, status), count) in failed {
                let status = status.map(|status| format!(" {status}")).unwrap_or_default();
                writeln!(self.out, "{count:>9}  {user}: {outcome}{status}")?;
            }
            writeln!(self.out)?;
        }
        let span = match (totals.from, totals.to) {
            (Some(from), Some(to)) => format!("{} to {}", time(from), time(to)),
            _ => "no SIP".to_owned(),
        };
        writeln!(self.out, "{} SIP messages in {} records, {span}", totals.messages, totals.records)?;
        self.counts("requests", totals.requests.iter())?;
        self.counts("responses", totals.responses.iter())?;
        self.counts("REGISTERs", totals.registrations.iter().map(|(outcome, count)| (outcome.as_str(), count)))?;
        self.counts("calls", totals.calls.iter())?;
        if self.with_offers {
            writeln!(self.out, "offers      {}", totals.offers)?;
        }
        let seen_again = [("captured_twice", totals.captured_twice), ("on_other_ways", totals.on_other_ways)];
        self.counts(
            "seen again",
            seen_again.iter().filter(|(_, count)| *count > 0).map(|(name, count)| (name, count)),
        )?;
        self.counts("malformed", totals.malformed.iter())?;
        self.counts("dropped", totals.dropped.iter())?;
        let odd = [("out_of_order", totals.stamps_out_of_order), ("clock_set_back", totals.clock_set_back)];
        self.counts("stamps", odd.iter().filter(|(_, count)| *count > 0).map(|(name, count)| (name, count)))?;
        let skipped = serde_json::to_value(&totals.skipped).map_err(io::Error::from)?;
        let skipped: BTreeMap<&String, u64> = skipped
            .as_object()
            .into_iter()
            .flatten()
            .filter_map(|(name, count)| Some((name, count.as_u64().filter(|count| *count > 0)?)))
            .collect();
        self.counts("skipped", skipped.iter())
    }

    /// One line of counts; none when there is nothing to count.
    fn counts<N: std::fmt::Display, C: std::fmt::Display>(
        &mut self,
        title: &str,
        counts: impl Iterator<Item = (N, C)>,
    ) -> io::Result<()> {
        let line: Vec<String> = counts.map(|(name, count)| format!("{name} {count}")).collect();
        if line.is_empty() { Ok(()) } else { writeln!(self.out, "{title:<10}  {}", line.join(", ")) }
    }

    fn head(&mut self, section: Section) -> io::Result<()> {
        if self.section == section {
            return Ok(());
        }
        if self.section != Section::None {
            writeln!(self.out)?;
        }
        self.section = section;
        match section {
            Section::Calls => writeln!(
                self.out,
                "{:<23}  {:<8}  {:<12}  {:<24}  {:<24}  {:<9}  {:>7}  {:>7}",
                "CALLS, ended (UTC)", "", "began", "from", "to", "outcome", "ring s", "talk s"
            ),
            Section::Devices => writeln!(
                self.out,
                "{:<28}  {:<12}  {:>5}  {:<22}  {:<24}  REGISTERs",
                "DEVICES", "state", "calls", "at", "user agent"
            ),
            Section::None | Section::Other => Ok(()),
        }
    }

    fn party(&self, party: &Party) -> String {
        let device = party.device.map(|device| self.device_name(device));
        match (&party.number, &party.name) {
            _ if party.withheld => "withheld".to_owned(),
            (Some(number), Some(name)) if name != number => format!("{number} ({name})"),
            (Some(number), _) => match device {
                Some(device) if device != *number && !device.is_empty() => format!("{number} [{device}]"),
                _ => number.clone(),
            },
            (None, Some(name)) => name.clone(),
            (None, None) => device.unwrap_or_default(),
        }
    }

    fn device_name(&self, device: DeviceId) -> String {
        self.devices.get(&device).cloned().unwrap_or_default()
    }

    fn user(&self, id: &str) -> String {
        self.users.get(id).cloned().unwrap_or_else(|| id.to_owned())
    }

    fn reason(&self, entry: &TrailEntry) -> String {
        let who = entry.user.map_or_else(|| "-".to_owned(), |user| self.user(&user.to_string()));
        let reason = serde_json::to_value(entry.reason).ok();
        let reason = reason.as_ref().and_then(|reason| reason.as_str()).unwrap_or_default();
        format!("{who:<16}  {}  {reason}: {}", time(entry.at), entry.event)
    }
}

fn offer_story(offer: &Offer) -> String {
    let state = match offer.state {
        OfferState::Offered => "offered",
        OfferState::Answered => "answered",
        OfferState::Rescinded => "rescinded",
        OfferState::Ended => "ended",
    };
    let reason = serde_json::to_value(offer.reason).ok();
    let reason = reason.as_ref().and_then(|reason| reason.as_str()).map(|reason| format!(" ({reason})"));
    let after = |at: Option<UnixMillis>| {
        at.and_then(|at| u64::try_from(at - offer.offered_at).ok()).map(|ms| format!(" after {} s", seconds(ms)))
    };
    let answered = after(offer.answered_at).map(|after| format!(", answered{after}")).unwrap_or_default();
    let closed = after(offer.closed_at).unwrap_or_default();
    format!("{}{answered}, {state}{}{closed}", time(offer.offered_at), reason.unwrap_or_default())
}

fn direction(direction: Direction) -> &'static str {
    match direction {
        Direction::Inbound => "inbound",
        Direction::Outbound => "outbound",
        Direction::Internal => "internal",
    }
}

fn outcome(call: &Call) -> &'static str {
    match (call.state, call.outcome) {
        (_, Some(Outcome::Answered)) => "answered",
        (_, Some(Outcome::Missed)) => "missed",
        (_, Some(Outcome::Busy)) => "busy",
        (_, Some(Outcome::Declined)) => "declined",
        (_, Some(Outcome::Cancelled)) => "cancelled",
        (CallState::Ended, _) | (_, Some(Outcome::Failed)) => "failed",
        (CallState::Calling, None) => "calling",
        (CallState::Ringing, None) => "ringing",
        (CallState::Answered, None) => "talking",
    }
}

fn seconds(ms: u64) -> String {
    format!("{}.{}", ms / 1000, ms % 1000 / 100)
}

/// `2026-11-21 18:04:10.080`, UTC.
fn time(at: UnixMillis) -> String {
    formatted(at, "%Y-%m-%d %H:%M:%S%.3f")
}

/// `18:04:10.080`, UTC.
fn time_of_day(at: UnixMillis) -> String {
    formatted(at, "%H:%M:%S%.3f")
}

fn formatted(at: UnixMillis, format: &str) -> String {
    match jiff::Timestamp::from_millisecond(at.0) {
        Ok(at) => at.strftime(format).to_string(),
        Err(_) => format!("{} ms", at.0),
    }
}

/// Names shown of those whose REGISTERs failed.
const FAILED_MAX: usize = 50;
