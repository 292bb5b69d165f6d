//! One logged-in connection: snapshot, follow, ask, obey.

use std::collections::{HashMap, HashSet, VecDeque};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use super::action::Action;
use super::codec::Frame;
use super::control;
use super::decode::{Ask, Decoder, Dropped, Output};
use super::message::Message;
use super::report;
use super::wire::{Wire, count};
use crate::ingest::feed::FeedError;
use crate::ingest::feeds::Connector;
use crate::model::{Now, Tick};
use crate::registry::ControlRequest;

/// What goes on over one connection.
pub(super) struct Session<'a> {
    connector: &'a Connector,
    decoder: &'a mut Decoder,
    wire: Wire,
    /// Commands for the PBX; none once another feed of it takes them. They wait until it has been looked at, which tells
    /// what its queues call a phone.
    control: Option<mpsc::Receiver<ControlRequest>>,
    /// What was asked and is not answered yet, in the order in which the answers come.
    asked: VecDeque<Asked>,
    /// Who waits for a command's answer.
    waiting: HashMap<String, oneshot::Sender<Result<(), String>>>,
    /// What will be asked when there is room.
    later: VecDeque<Ask>,
    /// What the PBX does not let us ask.
    refused: HashSet<&'static str>,
    commands: u64,
    heard_at: Tick,
    /// When the last snapshot was asked for, and when it had come.
    snapshot_asked: Now,
    snapshot_at: Option<Tick>,
    /// Something was lost, so everything is looked at again soon.
    stale: bool,
    settling: bool,
    dropped: Dropped,
    /// Messages read in the second that goes on.
    second: (Tick, u32),
    outputs: Vec<Output>,
    /// Since when the decoder holds something back.
    held_at: Option<Tick>,
}

struct Asked {
    id: String,
    at: Tick,
    name: &'static str,
}

impl<'a> Session<'a> {
    pub fn new(connector: &'a Connector, decoder: &'a mut Decoder, wire: Wire) -> Self {
        let now = connector.clock.now();
        let control = Some(connector.registry.feeds.take_control(connector.pbx));
        let dropped = decoder.dropped();
        Self {
            connector,
            decoder,
            wire,
            control,
            asked: VecDeque::new(),
            waiting: HashMap::new(),
            later: VecDeque::new(),
            refused: HashSet::new(),
            commands: 0,
            heard_at: now.tick,
            snapshot_asked: now,
            snapshot_at: None,
            stale: false,
            settling: false,
            dropped,
            second: (now.tick, 0),
            outputs: Vec::new(),
            held_at: None,
        }
    }

    /// Goes on until something breaks.
    pub async fn run(&mut self) -> FeedError {
        loop {
            if let Err(error) = self.step().await {
                self.leave();
                return error;
            }
        }
    }

    async fn step(&mut self) -> Result<(), FeedError> {
        self.on_time()?;
        let mut taken = 0_u32;
        while let Some(frame) = self.wire.take() {
            if let Frame::Message(message) = frame {
                self.on_message(&message)?;
            }
            taken += 1;
            if taken.is_multiple_of(TURN) {
                // A flood must leave the others their turn.
                tokio::task::yield_now().await;
            }
        }
        self.breathe(taken).await;
        let wait = Duration::from_millis(self.until_due());
        tokio::select! {
            turned = self.wire.turn() => turned,
            request = next_command(&mut self.control), if self.snapshot_at.is_some() => self.on_command(request),
            () = tokio::time::sleep(wait) => Ok(()),
        }
    }

    /// What was about to be told is told: the next connection may be long in coming.
    fn leave(&mut self) {
        let now = self.connector.clock.now();
        let mut outputs = Vec::new();
        self.decoder.connected(&mut outputs);
        for output in outputs {
            // The snapshot of the next connection makes up for a loss.
            let _lost = report::apply(self.connector, output, now, now);
        }
    }

    fn on_message(&mut self, message: &Message) -> Result<(), FeedError> {
        let now = self.connector.clock.now();
        self.heard_at = now.tick;
        if message.text("Event").is_some() {
            self.connector.handle.event(now);
        } else if let Some(id) = message.text("ActionID") {
            self.answered(id, message);
        }
        let mut outputs = std::mem::take(&mut self.outputs);
        self.decoder.message(message, now, &mut outputs);
        let applied = outputs.drain(..).try_for_each(|output| self.apply(output, now));
        self.outputs = outputs;
        self.held_at = self.decoder.is_holding().then(|| self.held_at.unwrap_or(now.tick));
        self.count_dropped();
        applied
    }

    fn apply(&mut self, output: Output, now: Now) -> Result<(), FeedError> {
        match output {
            Output::Ask(ask) => self.ask(ask, now),
            Output::Refused { action } => {
                if self.refused.insert(action) {
                    let feed = self.connector.handle.name();
                    tracing::warn!(
                        feed,
                        action,
                        "Asterisk does not let us ask this; see the write line in manager.conf"
                    );
                }
                Ok(())
            }
            Output::Settled => {
                self.settling = false;
                self.snapshot_at = Some(now.tick);
                self.connector.handle.up(now);
                Ok(())
            }
            Output::Booted => {
                // Told at every login too; then the snapshot is under way already.
                self.stale |= !self.settling && self.snapshot_at.is_some();
                Ok(())
            }
            Output::ShuttingDown => Err(FeedError::Gone("Asterisk shuts down".into())),
            output => {
                self.stale |= !report::apply(self.connector, output, self.snapshot_asked, now);
                Ok(())
            }
        }
    }

    /// Asks now what a ringing phone waits for; the rest takes its turn, so that a crowd of questions is no flood.
    fn ask(&mut self, ask: Ask, now: Now) -> Result<(), FeedError> {
        if self.refused.contains(ask.action.name()) {
            return Ok(());
        }
        if ask.is_urgent() && self.asked.len() < URGENT_MAX {
            return self.send(ask.id, &ask.action, now);
        }
        if self.later.len() >= LATER_MAX {
            count("questions", 1);
            self.stale = true;
            return Ok(());
        }
        self.later.push_back(ask);
        self.ask_more(now)
    }

    fn ask_more(&mut self, now: Now) -> Result<(), FeedError> {
        while self.asked.len() < IN_FLIGHT {
            let Some(ask) = self.later.pop_front() else { break };
            if !self.refused.contains(ask.action.name()) {
                self.send(ask.id, &ask.action, now)?;
            }
        }
        Ok(())
    }

    fn send(&mut self, id: String, action: &Action, now: Now) -> Result<(), FeedError> {
        self.wire.send(action, &id)?;
        self.asked.push_back(Asked { id, at: now.tick, name: action.name() });
        Ok(())
    }

    fn answered(&mut self, id: &str, message: &Message) {
        if message.text("Response").is_none() {
            return;
        }
        if let Some(index) = self.asked.iter().position(|asked| asked.id == id) {
            self.asked.remove(index);
        }
        if let Some(done) = self.waiting.remove(id) {
            // Who asked may have gone away.
            let _gone = done.send(control::verdict(message));
        }
    }

    fn on_command(&mut self, request: Option<ControlRequest>) -> Result<(), FeedError> {
        let Some(ControlRequest { command, done }) = request else {
            self.control = None;
            return Ok(());
        };
        if done.is_closed() {
            // Who asked was told that it is not done.
            return Ok(());
        }
        let now = self.connector.clock.now();
        match self.connector.may_control().and_then(|()| control::action(&command, self.decoder)) {
            Err(reason) => {
                let _gone = done.send(Err(reason));
                Ok(())
            }
            Ok(action) => {
                self.commands += 1;
                let id = format!("hookswitch-command-{}", self.commands);
                self.waiting.insert(id.clone(), done);
                self.send(id, &action, now)
            }
        }
    }

    /// Whatever is due: a snapshot, a ping, giving up.
    fn on_time(&mut self) -> Result<(), FeedError> {
        let now = self.connector.clock.now();
        if let Some(asked) = self.asked.front().filter(|asked| now.tick - asked.at >= self.answer_ms()) {
            return Err(FeedError::Broken(format!("Asterisk does not answer {} any more", asked.name)));
        }
        let due = self.snapshot_at.is_none_or(|at| {
            let wait = if self.stale { STALE_MS } else { u64::from(self.connector.config.snapshot_s) * 1000 };
            now.tick - at >= wait
        });
        if due && !self.settling {
            (self.settling, self.stale, self.snapshot_asked) = (true, false, now);
            let mut asks = Vec::new();
            self.decoder.snapshot(&mut asks);
            for output in asks {
                self.apply(output, now)?;
            }
        }
        if now.tick - self.heard_at >= PING_MS && self.asked.is_empty() {
            self.send("hookswitch-ping".into(), &Action::new("Ping"), now)?;
        }
        if self.held_at.is_some_and(|at| now.tick - at >= HOLD_MS) {
            self.held_at = None;
            let mut outputs = Vec::new();
            self.decoder.release(&mut outputs);
            for output in outputs {
                self.apply(output, now)?;
            }
        }
        self.ask_more(now)
    }

    /// Milliseconds until something is due.
    fn until_due(&self) -> u64 {
        let now = self.connector.clock.now().tick;
        let snapshot = self.snapshot_at.map_or(PING_MS, |at| {
            let wait = if self.stale { STALE_MS } else { u64::from(self.connector.config.snapshot_s) * 1000 };
            (at + wait) - now
        });
        let snapshot = if self.settling { PING_MS } else { snapshot };
        let answer = self.asked.front().map_or(PING_MS, |asked| (asked.at + self.answer_ms()) - now);
        let ping = if self.asked.is_empty() { (self.heard_at + PING_MS) - now } else { PING_MS };
        let hold = self.held_at.map_or(PING_MS, |at| (at + HOLD_MS) - now);
        snapshot.min(answer).min(ping).min(hold).max(1)
    }

    /// How long an answer may take.
    fn answer_ms(&self) -> u64 {
        u64::from(self.connector.config.answer_s) * 1000
    }

    /// More messages in a second than any PBX sends: they are read more slowly, which fills the peer's buffers and not
    /// ours.
    async fn breathe(&mut self, taken: u32) {
        let now = self.connector.clock.now().tick;
        if now - self.second.0 >= 1000 {
            self.second = (now, 0);
        }
        self.second.1 = self.second.1.saturating_add(taken);
        if self.second.1 > MESSAGES_PER_SECOND {
            count("flood", 1);
            tokio::time::sleep(Duration::from_millis(((self.second.0 + 1000) - now).max(1))).await;
        }
    }

    fn count_dropped(&mut self) {
        let (now, before) = (self.decoder.dropped(), self.dropped);
        if now == before {
            return;
        }
        count("channels", now.channels - before.channels);
        count("members", now.members - before.members);
        count("list_entries", now.list_entries - before.list_entries);
        count("member_without_phone", now.members_without_phone - before.members_without_phone);
        self.dropped = now;
    }
}

async fn next_command(control: &mut Option<mpsc::Receiver<ControlRequest>>) -> Option<ControlRequest> {
    match control {
        Some(receiver) => receiver.recv().await,
        None => std::future::pending().await,
    }
}

/// Silence after which we ask whether anybody is there.
const PING_MS: u64 = 10_000;
/// How long a call may wait for what the PBX says of it.
const HOLD_MS: u64 = 250;
/// How soon after a snapshot another one is taken because something was lost.
const STALE_MS: u64 = 2_000;
/// Questions on their way at once.
const IN_FLIGHT: usize = 16;
/// The same, for questions that a ringing phone waits for.
const URGENT_MAX: usize = 256;
/// Questions that wait.
const LATER_MAX: usize = 20_000;
/// Messages after which others get their turn.
const TURN: u32 = 64;
const MESSAGES_PER_SECOND: u32 = 20_000;
