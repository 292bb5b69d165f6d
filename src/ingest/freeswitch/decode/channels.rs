//! Channels: which leg is which, what happened on it, and which call it belongs to.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

use super::super::event::{Event, short};
use super::super::question::{self, Question};
use super::{Output, cause, leg};
use crate::model::{FeedKind, LegEnd, LegEvent, LegKey, Now, PbxEvent, PbxId, Tick};

/// All channels of one PBX that live, and for a while those that have ended.
#[derive(Debug)]
pub(super) struct Channels {
    pbx: PbxId,
    pub(super) live: HashMap<Arc<str>, Channel>,
    ended: HashMap<Arc<str>, Call>,
    /// When the ended ones are forgotten, oldest first.
    ended_at: VecDeque<(Tick, Arc<str>)>,
    /// Legs towards phones that the PBX cancelled, until it shows why.
    pub(super) cancelled: Vec<Cancelled>,
    /// Channels that are being asked about.
    asked: HashSet<String>,
    check: Option<Check>,
}

#[derive(Debug)]
pub(super) struct Channel {
    call: Call,
    outbound: bool,
    /// One half of a loopback, behind which the real legs are.
    hidden: bool,
    named: bool,
    progress: Progress,
    /// The queue its caller waits in.
    pub(super) waits_in: Option<String>,
    pub(super) heard: Tick,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Progress {
    Calling,
    Rings,
    Answered,
}

/// The call a channel belongs to: its first leg, and when that began.
#[derive(Clone, Debug)]
struct Call {
    key: Arc<str>,
    /// Microseconds, by the PBX's clock.
    began: i64,
}

#[derive(Debug)]
pub(super) struct Cancelled {
    pub(super) channel: Arc<str>,
    pub(super) caller: Arc<str>,
    due: Tick,
    pub(super) evidence: String,
}

/// What a list of channels lacked.
#[derive(Debug)]
struct Check {
    asked: Now,
    due: Tick,
    missing: Vec<Arc<str>>,
}

impl Channels {
    pub fn new(pbx: PbxId) -> Self {
        Self {
            pbx,
            live: HashMap::new(),
            ended: HashMap::new(),
            ended_at: VecDeque::new(),
            cancelled: Vec::new(),
            asked: HashSet::new(),
            check: None,
        }
    }

    pub fn on_event(&mut self, event: &Event, now: Now, out: &mut Vec<Output>) {
        let name = event.name();
        match name {
            "CHANNEL_CREATE" => {
                self.find_or_start(event, now, out);
            }
            "CHANNEL_PROGRESS" | "CHANNEL_PROGRESS_MEDIA" => self.on_progress(event, now, out),
            "CHANNEL_ANSWER" => self.on_answer(event, now, out),
            "CHANNEL_BRIDGE" => self.on_bridge(event, now, out),
            "CHANNEL_HANGUP_COMPLETE" => self.on_hangup(event, now, out),
            _ => {}
        }
    }

    /// The list of all channels: each is asked about, those it lacks come under suspicion.
    pub fn on_list(&mut self, answer: &str, asked: Now, now: Now, out: &mut Vec<Output>) {
        let Some(listed) = question::channels(answer) else { return out.push(Output::Dropped("answer")) };
        let listed: HashSet<String> = listed.into_iter().collect();
        for uuid in &listed {
            // Those that are known are asked about as well: what happened to them may have been missed.
            if !self.ended.contains_key(uuid.as_str())
                && uuid.len() <= UUID_MAX
                && self.live.len() + self.asked.len() < CHANNELS_MAX
            {
                self.asked.insert(uuid.clone());
                out.push(Output::Ask(Question::Channel(uuid.clone())));
            }
        }
        let lacks = |(uuid, channel): (&Arc<str>, &Channel)| {
            let settled = asked.tick - channel.heard > SETTLED_MS;
            (settled && !listed.contains(&**uuid)).then(|| uuid.clone())
        };
        let missing = self.live.iter().filter_map(lacks).collect();
        self.check = Some(Check { asked, due: now.tick + GRACE_MS, missing });
    }

    /// The answer about one channel; none = it is gone.
    pub fn on_dump(&mut self, uuid: &str, dump: Option<&Event>, now: Now, out: &mut Vec<Output>) {
        self.asked.remove(uuid);
        let Some(event) = dump.filter(|event| event.get("Unique-ID") == uuid) else { return };
        if matches!(event.get("Channel-Call-State"), "HANGUP") {
            return;
        }
        let Some(uuid) = self.find_or_start(event, now, out) else { return };
        let since = |name: &str| event.get(name).parse::<u64>().is_ok_and(|at| at > 0);
        let answered = event.get("Answer-State") == "answered" || since("Caller-Channel-Answered-Time");
        if answered || since("Caller-Channel-Progress-Time") || since("Caller-Channel-Progress-Media-Time") {
            self.rang(&uuid, "uuid_dump", out);
        }
        if answered {
            self.answered(&uuid, "uuid_dump", out);
            self.bridged(&uuid, event.variable("bridge_uuid").unwrap_or_default(), "uuid_dump", now, out);
        }
    }

    /// What was told may have been lost on its way: all channels are to be told of again, after the next list.
    pub fn tell_again(&mut self) {
        self.live.clear();
        self.cancelled.clear();
        self.forget_questions();
    }

    pub fn forget_questions(&mut self) {
        self.asked.clear();
        self.check = None;
    }

    pub fn poll(&mut self, now: Now, out: &mut Vec<Output>) {
        while let Some(at) = self.cancelled.iter().position(|cancelled| cancelled.due <= now.tick) {
            let cancelled = self.cancelled.swap_remove(at);
            self.end(&cancelled.channel, LegEnd::Cancelled, &cancelled.evidence, now, out);
        }
        while self.ended_at.front().is_some_and(|(at, _)| *at <= now.tick) {
            if let Some((_, uuid)) = self.ended_at.pop_front() {
                self.ended.remove(&uuid);
            }
        }
        if self.check.as_ref().is_some_and(|check| check.due <= now.tick && self.asked.is_empty()) {
            self.finish_check(now, out);
        }
    }

    pub fn next_deadline(&self) -> Option<Tick> {
        let cancelled = self.cancelled.iter().map(|cancelled| cancelled.due).min();
        let check = self.check.as_ref().filter(|_| self.asked.is_empty()).map(|check| check.due);
        [cancelled, check].into_iter().flatten().min()
    }

    fn on_progress(&mut self, event: &Event, now: Now, out: &mut Vec<Output>) {
        if let Some(uuid) = self.find_or_start(event, now, out) {
            self.rang(&uuid, event.name(), out);
        }
    }

    fn on_answer(&mut self, event: &Event, now: Now, out: &mut Vec<Output>) {
        if let Some(uuid) = self.find_or_start(event, now, out) {
            self.answered(&uuid, event.name(), out);
        }
    }

    /// Two legs talk. They are one call from now on: the one that began first, since a consultation, a pick-up or the far
    /// end of a click-to-dial came later. Which of the two called the other does not matter.
    fn on_bridge(&mut self, event: &Event, now: Now, out: &mut Vec<Output>) {
        let Some(own) = self.find_or_start(event, now, out) else { return };
        let end = |bridge: &str, plain: &str| event.find(bridge).or_else(|| event.find(plain)).map(str::to_owned);
        let a = end("Bridge-A-Unique-ID", "Unique-ID").unwrap_or_default();
        let b = end("Bridge-B-Unique-ID", "Other-Leg-Unique-ID").unwrap_or_default();
        self.bridged(&own, if *own == *a { &b } else { &a }, event.name(), now, out);
    }

    fn bridged(&mut self, own: &Arc<str>, other: &str, evidence: &str, now: Now, out: &mut Vec<Output>) {
        let Some((other, theirs)) = self.live.get_key_value(other) else { return };
        let Some(ours) = self.live.get(own) else { return };
        let (other, theirs, ours) = (other.clone(), theirs.call.clone(), ours.call.clone());
        if theirs.key == ours.key {
            return;
        }
        let (winner, loser) = if theirs.began < ours.began { (theirs, own) } else { (ours, &other) };
        self.join(loser, &winner, evidence, now, out);
    }

    /// Puts a leg into another call. What hides behind a loopback comes with it.
    fn join(&mut self, uuid: &Arc<str>, call: &Call, evidence: &str, now: Now, out: &mut Vec<Output>) {
        let Some(channel) = self.live.get(uuid) else { return };
        let before = channel.call.key.clone();
        let moved: Vec<Arc<str>> = if channel.hidden {
            self.live.iter().filter(|(_, one)| one.call.key == before).map(|(uuid, _)| uuid.clone()).collect()
        } else {
            vec![uuid.clone()]
        };
        for uuid in moved {
            let Some(channel) = self.live.get_mut(&uuid) else { continue };
            channel.call = call.clone();
            channel.heard = now.tick;
            let key = key_of(self.pbx, &call.key).0;
            self.say(&uuid, LegEvent::Moved(key), evidence, out);
        }
    }

    fn on_hangup(&mut self, event: &Event, now: Now, out: &mut Vec<Output>) {
        let uuid = event.get("Unique-ID");
        let Some((uuid, channel)) = self.live.get_key_value(uuid) else { return self.remember(uuid, event, now) };
        let (uuid, caller) = (uuid.clone(), channel.call.key.clone());
        let (outbound, waits) = (channel.outbound, channel.waits_in.clone());
        let answered = channel.progress == Progress::Answered
            || event.get("Caller-Channel-Answered-Time").parse().is_ok_and(|at: u64| at > 0);
        self.name(&uuid, event, out);
        let why = event.find("Hangup-Cause").or_else(|| event.variable("hangup_cause")).unwrap_or_default();
        let evidence = format!("CHANNEL_HANGUP_COMPLETE {}", short(why, TEXT_MAX));
        let end = cause::end(event, outbound, answered);
        if cause::is_transfer(event) {
            self.say(&uuid, LegEvent::Referred, &evidence, out);
        }
        if outbound && end == LegEnd::Cancelled && why == "ORIGINATOR_CANCEL" && self.live.contains_key(&caller) {
            // The caller gave up, or the queue did: that shows when the caller's own leg or the queue speaks.
            let due = now.tick + CANCEL_MS;
            self.cancelled.push(Cancelled { channel: uuid, caller, due, evidence });
            return;
        }
        if let Some(queue) = waits {
            self.unqueued(&uuid, &queue, &evidence, now, out);
        }
        if !outbound {
            self.settle_cancelled(&uuid, true, now, out);
        }
        self.end(&uuid, end, &evidence, now, out);
    }

    /// The channel an event is about. One that is not known begins here, with as much as this event says.
    pub(super) fn find_or_start(&mut self, event: &Event, now: Now, out: &mut Vec<Output>) -> Option<Arc<str>> {
        let uuid = event.find("Unique-ID").filter(|uuid| uuid.len() <= UUID_MAX)?;
        if let Some((uuid, _)) = self.live.get_key_value(uuid) {
            let uuid = uuid.clone();
            if let Some(channel) = self.live.get_mut(&uuid) {
                channel.heard = now.tick;
            }
            self.name(&uuid, event, out);
            return Some(uuid);
        }
        if self.ended.contains_key(uuid) {
            return None;
        }
        if self.live.len() >= CHANNELS_MAX {
            out.push(Output::Dropped("channels"));
            return None;
        }
        let (uuid, outbound): (Arc<str>, bool) = (uuid.into(), leg::is_outbound(event));
        let call = self.call_of(&uuid, event, outbound);
        let hidden = event.get("Channel-Name").starts_with("loopback/");
        let start = leg::start(event, key_of(self.pbx, &call.key).0, outbound);
        let named = start.sip_call_id.is_some();
        let (progress, waits_in, heard) = (Progress::Calling, None, now.tick);
        let channel = Channel { call, outbound, hidden, named, progress, waits_in, heard };
        self.live.insert(uuid.clone(), channel);
        let evidence = match event.name() {
            "CHANNEL_DATA" => "found by uuid_dump",
            name => name,
        };
        self.say(&uuid, LegEvent::Started(Box::new(start)), evidence, out);
        Some(uuid)
    }

    /// Which call a new channel belongs to: that of the leg it is called for. An agent's leg names the caller only by a
    /// variable of the queue; Channel-Call-UUID comes last, as it may say the leg's own id.
    fn call_of(&self, uuid: &Arc<str>, event: &Event, outbound: bool) -> Call {
        let agent = event.variable("cc_side") == Some("agent");
        let candidates = [
            event.variable("other_loopback_leg_uuid"),
            agent.then(|| event.variable("cc_member_session_uuid")).flatten(),
            (event.get("Other-Type") == "originator").then(|| event.find("Other-Leg-Unique-ID")).flatten(),
            outbound.then(|| event.variable("originator")).flatten(),
            outbound.then(|| event.variable("originating_leg_uuid")).flatten(),
            event.find("Channel-Call-UUID"),
        ];
        let began = event.get("Caller-Channel-Created-Time").parse().unwrap_or(i64::MAX);
        let parent = candidates.into_iter().flatten().find(|parent| **parent != **uuid && parent.len() <= UUID_MAX);
        match parent {
            None => Call { key: uuid.clone(), began },
            Some(parent) => match self.live.get(parent).map(|channel| &channel.call).or_else(|| self.ended.get(parent))
            {
                Some(call) => call.clone(),
                None => Call { key: parent.into(), began },
            },
        }
    }

    fn name(&mut self, uuid: &Arc<str>, event: &Event, out: &mut Vec<Output>) {
        let Some(channel) = self.live.get_mut(uuid).filter(|channel| !channel.named) else { return };
        let Some(id) = leg::call_id(event) else { return };
        channel.named = true;
        self.say(uuid, LegEvent::Named(id.to_owned()), event.name(), out);
    }

    fn rang(&mut self, uuid: &Arc<str>, evidence: &str, out: &mut Vec<Output>) {
        self.progress(uuid, Progress::Rings, LegEvent::Rang, evidence, out);
    }

    fn answered(&mut self, uuid: &Arc<str>, evidence: &str, out: &mut Vec<Output>) {
        self.progress(uuid, Progress::Answered, LegEvent::Answered, evidence, out);
    }

    /// A channel never goes back: a 180 may come after the 200 it was sent before.
    fn progress(&mut self, uuid: &Arc<str>, to: Progress, event: LegEvent, evidence: &str, out: &mut Vec<Output>) {
        let Some(channel) = self.live.get_mut(uuid).filter(|channel| channel.progress < to) else { return };
        channel.progress = to;
        self.say(uuid, event, evidence, out);
    }

    pub(super) fn end(&mut self, uuid: &Arc<str>, end: LegEnd, evidence: &str, now: Now, out: &mut Vec<Output>) {
        self.say(uuid, LegEvent::Ended(end), evidence, out);
        if let Some(channel) = self.live.remove(uuid) {
            self.keep_ended(uuid.clone(), channel.call, now);
        }
    }

    /// A channel ended of which nothing was known: its other events may still come.
    fn remember(&mut self, uuid: &str, event: &Event, now: Now) {
        if uuid.is_empty() || uuid.len() > UUID_MAX || self.ended.contains_key(uuid) {
            return;
        }
        let uuid: Arc<str> = uuid.into();
        let call = self.call_of(&uuid, event, leg::is_outbound(event));
        self.keep_ended(uuid, call, now);
    }

    fn keep_ended(&mut self, uuid: Arc<str>, call: Call, now: Now) {
        if self.ended_at.len() >= CHANNELS_MAX
            && let Some((_, oldest)) = self.ended_at.pop_front()
        {
            self.ended.remove(&oldest);
        }
        self.ended_at.push_back((now.tick + ENDED_MS, uuid.clone()));
        self.ended.insert(uuid, call);
    }

    /// The grace after a list is over: what it lacked and nobody has spoken of since is gone.
    fn finish_check(&mut self, now: Now, out: &mut Vec<Output>) {
        let Some(check) = self.check.take() else { return };
        for uuid in check.missing {
            let silent = |channel: &Channel| check.asked.tick - channel.heard > SETTLED_MS;
            if self.live.get(&uuid).is_some_and(silent)
                && let Some(channel) = self.live.remove(&uuid)
            {
                self.keep_ended(uuid, channel.call, now);
            }
        }
        let shown = self.live.iter().filter(|(_, channel)| !channel.hidden);
        out.push(Output::Live(shown.map(|(uuid, _)| key_of(self.pbx, uuid)).collect()));
    }

    pub(super) fn say(&self, uuid: &Arc<str>, event: LegEvent, evidence: &str, out: &mut Vec<Output>) {
        if self.live.get(uuid).is_some_and(|channel| channel.hidden) {
            return;
        }
        let leg = key_of(self.pbx, uuid);
        let evidence = evidence.to_owned();
        out.push(Output::Leg(PbxEvent { pbx: self.pbx, feed: FeedKind::Freeswitch, leg, event, evidence }));
    }
}

fn key_of(pbx: PbxId, uuid: &str) -> LegKey {
    LegKey(format!("{}:{pbx}:{uuid}", FeedKind::Freeswitch.as_str()).into())
}

/// More channels than this are not followed.
const CHANNELS_MAX: usize = 20_000;
/// A caller may have chosen it (`inbound-use-callid-as-uuid`).
const UUID_MAX: usize = 256;
pub(super) const TEXT_MAX: usize = 128;
/// How long an ended channel is remembered, so that an event that comes late or a list that lags can't revive it.
const ENDED_MS: u64 = 60_000;
/// How long the reason for a cancelled leg may take: the queue speaks in the same moment, or at its next look 60 to
/// 100 ms later.
const CANCEL_MS: u64 = 80;
/// A channel that was heard of more recently may not be in a list yet.
pub(super) const SETTLED_MS: u64 = 2_000;
/// How long events may take that an answer overtook.
const GRACE_MS: u64 = 1_500;
