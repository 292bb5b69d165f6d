//! Queues: who is in them, who waits in them, and whom they call.

use std::collections::{BTreeMap, HashMap};

use super::super::message::Message;
use super::channel::{Channel, Told};
use super::legs::Side;
use super::name::interface_user;
use super::{Decoder, Output};
use crate::model::{LegEvent, MemberKind, MemberState, Now, Queued, Tick};
use crate::registry::{ReportedMember, ReportedQueue};

/// Members and waiting callers of all queues, and the list that is coming in.
#[derive(Debug, Default)]
pub(super) struct Queues {
    /// Members by queue and interface.
    members: BTreeMap<(String, String), ReportedMember>,
    /// Callers by the channel that waits.
    pub waiting: HashMap<Box<str>, Waiting>,
    listed: Vec<String>,
    listed_members: BTreeMap<(String, String), ReportedMember>,
    listed_waiting: HashMap<Box<str>, Waiting>,
}

/// A caller in a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Waiting {
    pub queue: String,
    pub position: Option<u32>,
    pub since: Tick,
    /// What it had waited before `since`.
    pub before_ms: u64,
    /// The leg it was told of.
    pub leg: Option<Box<str>>,
}

impl Queues {
    pub fn forget_lists(&mut self) {
        self.listed.clear();
        self.listed_members.clear();
        self.listed_waiting.clear();
    }
}

impl Decoder {
    /// What a queue calls a user's phone: as it is a member there, else as the others are members there (`FreePBX` calls
    /// everybody by a Local channel), else the phone itself.
    #[must_use]
    pub fn interface(&self, queue: Option<&str>, user: &str) -> String {
        let members = &self.queues.members;
        let in_queue = |name: &String| queue.is_none_or(|queue| queue == name);
        let own = members.iter().find(|((name, _), known)| in_queue(name) && known.user == user);
        let others = || members.iter().find(|((name, interface), _)| in_queue(name) && interface.starts_with("Local/"));
        match own.map(|(key, _)| key.1.clone()).or_else(|| others().and_then(|(key, known)| swap(&key.1, known, user)))
        {
            Some(interface) => interface,
            None => self.phones.interface(user),
        }
    }

    /// Whose state says whether that phone can be called.
    #[must_use]
    pub fn state_interface(&self, user: &str) -> String {
        self.phones.interface(user)
    }

    pub(super) fn on_agent_event(&mut self, event: &str, message: &Message, out: &mut Vec<Output>) {
        self.refresh(message, Side::MAIN, out);
        let Some(dest) = self.refresh(message, Side::DEST, out) else { return };
        let Some(queue) = message.text("Queue").map(str::to_owned) else { return };
        match event {
            "AgentCalled" => {
                let Some(channel) = self.channels.get_mut(&dest) else { return };
                channel.queue = Some(queue);
                if channel.is_leg {
                    self.went_out(&dest, event, out);
                }
            }
            "AgentConnect" => {
                self.went_out(&dest, event, out);
                self.told(&dest, Told::Answered, &format!("AgentConnect in queue {queue}"), out);
            }
            // How it ended shows in its hang-up.
            _ => {}
        }
    }

    pub(super) fn on_caller_joined(&mut self, message: &Message, now: Now, out: &mut Vec<Output>) {
        self.refresh(message, Side::MAIN, out);
        let (Some(uniqueid), Some(queue)) = (message.text("Uniqueid"), message.text("Queue")) else { return };
        let position = message.number("Position");
        if self.queues.waiting.len() >= WAITING_MAX {
            self.dropped.list_entries += 1;
            return;
        }
        let known = self.queues.waiting.get(uniqueid).is_some_and(|known| known.queue == queue);
        if known {
            // A list told of it first.
            return;
        }
        if let Some(position) = position {
            self.shift(queue, position, 1, now, out);
        }
        let waiting = Waiting { queue: queue.to_owned(), position, since: now.tick, before_ms: 0, leg: None };
        self.queues.waiting.insert(uniqueid.into(), waiting);
        self.tell_queued(uniqueid, "QueueCallerJoin", now, out);
    }

    pub(super) fn on_caller_left(&mut self, event: &str, message: &Message, now: Now, out: &mut Vec<Output>) {
        self.refresh(message, Side::MAIN, out);
        let Some(uniqueid) = message.text("Uniqueid").map(str::to_owned) else { return };
        self.caller_left(&uniqueid, event, Some(now), out);
    }

    /// Its channel ended, so it waits no more.
    pub(super) fn caller_hung_up(&mut self, uniqueid: &str, _channel: &Channel, out: &mut Vec<Output>) {
        self.caller_left(uniqueid, "Hangup", None, out);
    }

    fn caller_left(&mut self, uniqueid: &str, event: &str, now: Option<Now>, out: &mut Vec<Output>) {
        let Some(waiting) = self.queues.waiting.remove(uniqueid) else { return };
        if let Some(leg) = &waiting.leg {
            let evidence = format!("AMI {event} {}", waiting.queue);
            self.tell(leg, LegEvent::Unqueued, evidence, out);
        }
        if let (Some(position), Some(now)) = (waiting.position, now) {
            self.shift(&waiting.queue, position.saturating_add(1), -1, now, out);
        }
    }

    /// Whoever stands at this place or behind it moves; Asterisk does not say so itself.
    fn shift(&mut self, queue: &str, from: u32, by: i32, now: Now, out: &mut Vec<Output>) {
        let mut moved = Vec::new();
        for (uniqueid, waiting) in &mut self.queues.waiting {
            let Some(position) = waiting.position.filter(|position| waiting.queue == queue && *position >= from) else {
                continue;
            };
            waiting.position = Some(position.saturating_add_signed(by).max(1));
            moved.push((waiting.position, uniqueid.clone()));
        }
        moved.sort_unstable();
        for (_, uniqueid) in moved {
            self.tell_queued(&uniqueid, "queue position", now, out);
        }
    }

    fn tell_queued(&mut self, uniqueid: &str, event: &str, now: Now, out: &mut Vec<Output>) {
        let leg = match self.channels.get(uniqueid) {
            Some(channel) if channel.is_leg => Some(uniqueid.to_owned()),
            Some(channel) => self.channels.caller_of(&channel.linkedid).map(str::to_owned),
            None => None,
        };
        let Some(leg) = leg.filter(|leg| self.channels.get(leg).is_some_and(Channel::is_told)) else {
            return;
        };
        let Some(waiting) = self.queues.waiting.get_mut(uniqueid) else { return };
        waiting.leg = Some(leg.as_str().into());
        let queued = Queued {
            queue: waiting.queue.clone(),
            position: waiting.position,
            waited_ms: waiting.before_ms.saturating_add(now.tick - waiting.since),
        };
        let evidence = format!("AMI {event} {}", waiting.queue);
        self.tell(&leg, LegEvent::Queued(queued), evidence, out);
    }

    /// A leg that has just been told may have been waiting already.
    pub(super) fn queued_if_waiting(&mut self, uniqueid: &str, out: &mut Vec<Output>) {
        let untold = |waiting: &Waiting| waiting.leg.is_none();
        if let Some(waiting) = self.queues.waiting.get(uniqueid).filter(|waiting| untold(waiting)) {
            let now = Now { tick: waiting.since, ..Now::default() };
            self.tell_queued(uniqueid, "QueueStatus", now, out);
        }
    }

    /// Old versions tell only what changed, so what is known is filled in.
    pub(super) fn on_member(&mut self, message: &Message, out: &mut Vec<Output>) {
        let Some(key) = member_key(message) else { return };
        let known = self.queues.members.get(&key).cloned();
        if known.is_none() && self.queues.members.len() >= MEMBERS_MAX {
            self.dropped.members += 1;
            return;
        }
        let Some(member) = self.read_member(message, &key.1, known.as_ref()) else {
            self.dropped.members_without_phone += 1;
            return;
        };
        if known.as_ref() == Some(&member) {
            return;
        }
        self.queues.members.insert(key.clone(), member.clone());
        out.push(Output::Member { queue: key.0, member });
    }

    pub(super) fn on_member_removed(&mut self, message: &Message, out: &mut Vec<Output>) {
        let Some(key) = member_key(message) else { return };
        let known = self.queues.members.remove(&key);
        let user = match known {
            Some(member) => Some(member.user),
            None => self.member_user(message, &key.1),
        };
        let Some(user) = user else { return };
        let (queue, _) = key;
        // The same phone may be in it under another interface.
        let stays = self.queues.members.iter().any(|((other, _), member)| *other == queue && member.user == user);
        if !stays {
            out.push(Output::MemberGone { queue, user });
        }
    }

    fn member_user(&self, message: &Message, interface: &str) -> Option<String> {
        let state = message.text("StateInterface").and_then(interface_user);
        let user = state.or_else(|| interface_user(interface))?;
        Some(self.phones.user_of(user).to_owned())
    }

    fn read_member(
        &self,
        message: &Message,
        interface: &str,
        known: Option<&ReportedMember>,
    ) -> Option<ReportedMember> {
        let before = known.cloned().unwrap_or_default();
        let paused = message.flag("Paused").unwrap_or(before.paused);
        let reason = match message.either(&["PausedReason", "Reason"]) {
            _ if !paused => None,
            Some(reason) => Some(reason.to_owned()),
            // The key is there and empty: it was paused without a reason.
            None if message.raw("PausedReason").or_else(|| message.raw("Reason")).is_some() => None,
            None => before.pause_reason,
        };
        Some(ReportedMember {
            user: self.member_user(message, interface)?,
            domain: None,
            name: message.either(&["MemberName", "Name"]).map(str::to_owned).or(before.name),
            paused,
            pause_reason: reason,
            penalty: message.number("Penalty").unwrap_or(before.penalty),
            kind: message.text("Membership").map_or(before.kind, kind),
            state: message.number::<u8>("Status").map_or(before.state, state),
        })
    }

    pub(super) fn on_queue_list(&mut self, event: &str, message: &Message, now: Now, out: &mut Vec<Output>) {
        let full = self.queues.listed.len() + self.queues.listed_members.len() + self.queues.listed_waiting.len();
        if event != "QueueStatusComplete" && full >= MEMBERS_MAX {
            self.dropped.list_entries += 1;
            return;
        }
        match event {
            "QueueParams" => self.queues.listed.extend(message.text("Queue").map(str::to_owned)),
            "QueueMember" => {
                let Some(key) = member_key(message) else { return };
                match self.read_member(message, &key.1, None) {
                    Some(member) => drop(self.queues.listed_members.insert(key, member)),
                    None => self.dropped.members_without_phone += 1,
                }
            }
            "QueueEntry" => {
                let (Some(queue), Some(channel)) = (message.text("Queue"), message.text("Channel")) else { return };
                let by_name = || self.channels.by_name(channel).map(str::to_owned);
                let Some(uniqueid) = message.text("Uniqueid").map(str::to_owned).or_else(by_name) else { return };
                let waiting = Waiting {
                    queue: queue.to_owned(),
                    position: message.number("Position"),
                    since: now.tick,
                    before_ms: message.number::<u64>("Wait").unwrap_or(0).saturating_mul(1000),
                    leg: None,
                };
                self.queues.listed_waiting.insert(uniqueid.into(), waiting);
            }
            _ => self.apply_queue_list(now, out),
        }
    }

    fn apply_queue_list(&mut self, now: Now, out: &mut Vec<Output>) {
        let names = std::mem::take(&mut self.queues.listed);
        self.queues.members = std::mem::take(&mut self.queues.listed_members);
        let mut queues: BTreeMap<String, Vec<ReportedMember>> =
            names.into_iter().map(|name| (name, Vec::new())).collect();
        for ((queue, _), member) in &self.queues.members {
            let members = queues.entry(queue.clone()).or_default();
            if !members.iter().any(|known| known.user == member.user) {
                members.push(member.clone());
            }
        }
        let queues = queues.into_iter().map(|(name, members)| ReportedQueue { name, number: None, members });
        out.push(Output::Queues(queues.collect()));
        self.apply_waiting_list(now, out);
    }

    /// Callers the list does not have are gone; those it has keep the time they have waited.
    fn apply_waiting_list(&mut self, now: Now, out: &mut Vec<Output>) {
        let listed = std::mem::take(&mut self.queues.listed_waiting);
        let mut gone: Vec<Box<str>> =
            self.queues.waiting.keys().filter(|uniqueid| !listed.contains_key(*uniqueid)).cloned().collect();
        gone.sort_unstable();
        for uniqueid in gone {
            self.caller_left(&uniqueid, "QueueStatus without", None, out);
        }
        let mut listed: Vec<(Box<str>, Waiting)> = listed.into_iter().collect();
        listed.sort_unstable_by(|a, b| (&a.1.queue, a.1.position, &a.0).cmp(&(&b.1.queue, b.1.position, &b.0)));
        for (uniqueid, fresh) in listed {
            match self.queues.waiting.get_mut(&uniqueid) {
                Some(known) if known.queue == fresh.queue && known.position == fresh.position => {}
                Some(known) if known.queue == fresh.queue => {
                    known.position = fresh.position;
                    self.tell_queued(&uniqueid, "QueueStatus", now, out);
                }
                _ => {
                    self.queues.waiting.insert(uniqueid.clone(), fresh);
                    self.tell_queued(&uniqueid, "QueueStatus", now, out);
                }
            }
        }
    }
}

/// Another member's interface with `user` in its place.
fn swap(interface: &str, member: &ReportedMember, user: &str) -> Option<String> {
    let (before, after) = interface.split_once(&member.user)?;
    Some(format!("{before}{user}{after}"))
}

/// Queue and interface, which live events and lists call by different names.
fn member_key(message: &Message) -> Option<(String, String)> {
    let interface = message.either(&["Interface", "Location"])?;
    Some((message.text("Queue")?.to_owned(), interface.to_owned()))
}

fn kind(membership: &str) -> MemberKind {
    match membership.to_ascii_lowercase().as_str() {
        "dynamic" => MemberKind::Dynamic,
        "realtime" => MemberKind::Realtime,
        _ => MemberKind::Static,
    }
}

/// Asterisk's device states by number.
fn state(number: u8) -> MemberState {
    match number {
        1 => MemberState::Free,
        2 => MemberState::InUse,
        3 => MemberState::Busy,
        4 | 5 => MemberState::Unavailable,
        6 | 7 => MemberState::Ringing,
        8 => MemberState::OnHold,
        _ => MemberState::Unknown,
    }
}

const MEMBERS_MAX: usize = 100_000;
const WAITING_MAX: usize = 10_000;
