//! The callers in `mod_callcenter`'s queues, and why an agent's leg was cancelled.

use std::collections::HashSet;
use std::sync::Arc;

use super::super::event::{Event, short};
use super::super::question::Table;
use super::Output;
use super::channels::{Cancelled, Channel, Channels, SETTLED_MS, TEXT_MAX};
use crate::model::{LegEnd, LegEvent, Now, Queued};

impl Channels {
    /// What `mod_callcenter` tells about callers and agents' legs.
    pub fn on_queue_event(&mut self, event: &Event, now: Now, out: &mut Vec<Output>) {
        let caller = event.get("CC-Member-Session-UUID");
        let queue = short(event.get("CC-Queue"), TEXT_MAX);
        match event.get("CC-Action") {
            "member-queue-start" | "member-queue-resume" => {
                if event.variable("uuid").is_some() {
                    self.find_or_start(event, now, out);
                }
                self.queued(caller, queue, 0, now, out);
            }
            "bridge-agent-start" => self.unqueued(caller, queue, "bridge-agent-start", now, out),
            "member-queue-end" => {
                let gave_up = event.get("CC-Cancel-Reason") == "BREAK_OUT";
                self.settle_cancelled(caller, gave_up, now, out);
                let why = event.find("CC-Cancel-Reason").or_else(|| event.find("CC-Cause")).unwrap_or_default();
                self.unqueued(caller, queue, &format!("member-queue-end {why}"), now, out);
            }
            _ => {}
        }
    }

    /// The callers in one queue.
    pub fn on_waiting(&mut self, queue: &str, table: &Table<'_>, asked: Now, now: Now, out: &mut Vec<Output>) {
        if !table.has(&["session_uuid", "joined_epoch", "state"]) {
            return out.push(Output::Dropped("answer"));
        }
        let mut waiting = HashSet::new();
        for [uuid, joined, state] in table.rows(["session_uuid", "joined_epoch", "state"]) {
            if matches!(state, "Waiting" | "Trying") && self.live.contains_key(uuid) {
                let joined = joined.parse::<i64>().unwrap_or(0).saturating_mul(1000);
                let waited = u64::try_from(now.unix.0.saturating_sub(joined)).unwrap_or(0);
                self.queued(uuid, queue, if waited > WAITED_MAX_MS { 0 } else { waited }, now, out);
                waiting.insert(uuid);
            }
        }
        let left = |(uuid, channel): (&Arc<str>, &Channel)| {
            let here = channel.waits_in.as_deref() == Some(queue);
            (here && asked.tick - channel.heard > SETTLED_MS && !waiting.contains(&**uuid)).then(|| uuid.clone())
        };
        let gone: Vec<Arc<str>> = self.live.iter().filter_map(left).collect();
        for uuid in gone {
            self.unqueued(&uuid, queue, "not in the list of callers", now, out);
        }
    }

    fn queued(&mut self, uuid: &str, queue: &str, waited_ms: u64, now: Now, out: &mut Vec<Output>) {
        let Some((uuid, channel)) = self.live.get_key_value(uuid) else { return };
        if queue.is_empty() || channel.waits_in.as_deref() == Some(queue) {
            return;
        }
        let uuid = uuid.clone();
        if let Some(channel) = self.live.get_mut(&uuid) {
            channel.waits_in = Some(queue.to_owned());
            channel.heard = now.tick;
        }
        let queued = Queued { queue: queue.to_owned(), position: None, waited_ms };
        self.say(&uuid, LegEvent::Queued(queued), "member-queue-start", out);
    }

    pub(super) fn unqueued(&mut self, uuid: &str, queue: &str, evidence: &str, now: Now, out: &mut Vec<Output>) {
        let Some((uuid, channel)) = self.live.get_key_value(uuid) else { return };
        if channel.waits_in.as_deref() != Some(queue) {
            return;
        }
        let uuid = uuid.clone();
        if let Some(channel) = self.live.get_mut(&uuid) {
            channel.waits_in = None;
            channel.heard = now.tick;
        }
        self.say(&uuid, LegEvent::Unqueued, evidence, out);
    }

    /// Ends the legs that were cancelled for this caller, now that it shows why.
    pub(super) fn settle_cancelled(&mut self, caller: &str, gave_up: bool, now: Now, out: &mut Vec<Output>) {
        let (of_caller, others) =
            std::mem::take(&mut self.cancelled).into_iter().partition(|cancelled| *cancelled.caller == *caller);
        self.cancelled = others;
        let of_caller: Vec<Cancelled> = of_caller;
        if let Some(first) = of_caller.first().filter(|_| gave_up) {
            let (caller, evidence) = (first.caller.clone(), first.evidence.clone());
            self.say(&caller, LegEvent::Cancelling, &evidence, out);
        }
        for cancelled in of_caller {
            self.end(&cancelled.channel, LegEnd::Cancelled, &cancelled.evidence, now, out);
        }
    }
}

/// A caller who waits for longer is one whose clock is not ours.
const WAITED_MAX_MS: u64 = 24 * 3_600_000;
