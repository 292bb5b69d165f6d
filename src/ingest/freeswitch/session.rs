//! One session with an event socket: log in, look at everything, follow, ask again now and then.

use std::collections::{HashSet, VecDeque};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use super::super::feed::{Feed, FeedError};
use super::super::feeds::Connector;
use super::apply::{Left, apply, dropped};
use super::codec::Frame;
use super::control;
use super::decode::{Decoder, Output};
use super::link::Link;
use super::question::Question;
use crate::model::{Now, Tick};
use crate::registry::ControlRequest;

/// The connector of one `FreeSWITCH`. What was learnt of its channels outlives a connection.
pub struct Freeswitch {
    connector: Connector,
    decoder: Decoder,
}

impl Freeswitch {
    /// Its connection is made by [`Feed::session`].
    #[must_use]
    pub fn new(connector: Connector) -> Self {
        let decoder = Decoder::new(connector.pbx);
        Self { connector, decoder }
    }
}

impl Feed for Freeswitch {
    async fn session(&mut self) -> FeedError {
        let link = match Link::open(&self.connector.config).await {
            Ok(link) => link,
            Err(error) => return error,
        };
        match Session::new(&self.connector, &mut self.decoder, link).follow().await {
            Ok(never) => match never {},
            Err(error) => error,
        }
    }

    fn abandon(&mut self) {
        self.decoder = Decoder::new(self.connector.pbx);
        let now = self.connector.clock.now();
        // A site that is behind loses it, counted; the next connection tells all again.
        apply(&self.connector, Output::Live(HashSet::new()), now);
    }
}

/// What lasts as long as the connection.
struct Session<'a> {
    connector: &'a Connector,
    decoder: &'a mut Decoder,
    link: Link,
    out: Vec<Output>,
    /// What is to be asked, in order.
    questions: VecDeque<Question>,
    /// What was sent and is not answered, oldest first.
    open: VecDeque<(Sent, Now)>,
    /// Changes to be made, taken up once everything was looked at; none once another feed of the PBX takes them.
    control: Option<mpsc::Receiver<ControlRequest>>,
    /// Whether everything was looked at once.
    is_up: bool,
    spoke: Tick,
    next_poll: Tick,
    next_snapshot: Tick,
    /// The site lost something: tell everything again, then.
    tell_again: Option<Tick>,
    pace: Pace,
}

enum Sent {
    Question(Question),
    /// A change, what is left of it, and who wants to know.
    Change(VecDeque<Vec<u8>>, oneshot::Sender<Result<(), String>>),
}

enum Never {}

impl<'a> Session<'a> {
    fn new(connector: &'a Connector, decoder: &'a mut Decoder, link: Link) -> Self {
        let now = connector.clock.now();
        let mut session = Self {
            connector,
            decoder,
            link,
            out: Vec::new(),
            questions: VecDeque::new(),
            open: VecDeque::new(),
            control: Some(connector.registry.feeds.take_control(connector.pbx)),
            is_up: false,
            spoke: now.tick,
            next_poll: now.tick + u64::from(connector.config.poll_s) * 1000,
            next_snapshot: now.tick + u64::from(connector.config.snapshot_s) * 1000,
            tell_again: None,
            pace: Pace::default(),
        };
        session.decoder.connected(&mut session.out);
        session.hand_on(now);
        session
    }

    async fn follow(mut self) -> Result<Never, FeedError> {
        loop {
            let now = self.connector.clock.now();
            self.on_time(now)?;
            self.ask(now).await?;
            self.pace.keep(now.tick, self.link.take_bytes()).await;
            let wait = Duration::from_millis(self.next_deadline().map_or(IDLE_MS, |at| at - now.tick).min(IDLE_MS));
            tokio::select! {
                frame = self.link.frame() => self.on_frame(frame?).await?,
                request = next_request(&mut self.control), if self.is_up => self.on_request(request).await?,
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    async fn on_frame(&mut self, frame: Frame) -> Result<(), FeedError> {
        let now = self.connector.clock.now();
        match frame {
            Frame::Answer(text) | Frame::Reply(text) => self.on_answer(&text, now).await?,
            Frame::Skipped { why, answer: true } => {
                dropped(why);
                self.on_answer("-ERR too long", now).await?;
            }
            Frame::Disconnect => return Err(FeedError::Gone("FreeSWITCH said goodbye".into())),
            Frame::Rejected => {
                return Err(FeedError::Refused("the event socket's access list refuses this host".into()));
            }
            frame => {
                if matches!(frame, Frame::Event(_)) {
                    self.connector.handle.event(now);
                }
                self.decoder.frame(&frame, now, &mut self.out);
                self.hand_on(now);
            }
        }
        Ok(())
    }

    /// Answers come in the order of what was sent. What may not be asked is refused by a reply.
    async fn on_answer(&mut self, text: &str, now: Now) -> Result<(), FeedError> {
        match self.open.pop_front() {
            None => dropped("answer"),
            Some((Sent::Question(question), asked)) => {
                self.decoder.answer(&question, text, asked, now, &mut self.out);
                self.hand_on(now);
            }
            Some((Sent::Change(mut rest, done), _)) => match (control::outcome(text), rest.pop_front()) {
                (Ok(()), Some(next)) => self.send(Sent::Change(rest, done), &next, now).await?,
                (outcome, _) => {
                    // Whoever asked may be gone; the change is the PBX's all the same.
                    let _ = done.send(outcome);
                    // Tiers make no event: the list is what confirms it.
                    self.decoder.poll_queues(false, &mut self.out);
                    self.hand_on(now);
                }
            },
        }
        if !self.is_up && self.open.is_empty() && self.questions.is_empty() {
            self.is_up = true;
            self.connector.handle.up(now);
        }
        Ok(())
    }

    async fn on_request(&mut self, request: Option<ControlRequest>) -> Result<(), FeedError> {
        let Some(request) = request else {
            self.control = None;
            return Ok(());
        };
        if request.done.is_closed() {
            // Who asked was told that it is not done.
            return Ok(());
        }
        let now = self.connector.clock.now();
        let may = self.connector.may_control();
        let commands = may.and_then(|()| control::commands(self.decoder, &request.command));
        match commands.map(|mut commands| (commands.pop_front(), commands)) {
            Ok((Some(first), rest)) => self.send(Sent::Change(rest, request.done), &first, now).await,
            Ok((None, _)) => Ok(()),
            Err(why) => {
                let _ = request.done.send(Err(why));
                Ok(())
            }
        }
    }

    fn on_time(&mut self, now: Now) -> Result<(), FeedError> {
        let wait = u64::from(self.connector.config.answer_s) * 1000;
        if self.open.front().is_some_and(|(_, sent)| now.tick - sent.tick > wait) {
            return Err(FeedError::Broken(format!("it did not answer within {} s", self.connector.config.answer_s)));
        }
        if self.spoke + ALIVE_MS <= now.tick && self.open.is_empty() && self.questions.is_empty() {
            self.questions.push_back(Question::Alive);
        }
        if self.next_poll <= now.tick {
            self.next_poll = now.tick + u64::from(self.connector.config.poll_s) * 1000;
            self.decoder.poll_queues(false, &mut self.out);
        }
        if self.next_snapshot <= now.tick {
            self.next_snapshot = now.tick + u64::from(self.connector.config.snapshot_s) * 1000;
            self.decoder.snapshot(&mut self.out);
        }
        if self.tell_again.is_some_and(|at| at <= now.tick) {
            self.tell_again = None;
            self.decoder.tell_again(&mut self.out);
        }
        self.decoder.poll(now, &mut self.out);
        self.hand_on(now);
        Ok(())
    }

    fn hand_on(&mut self, now: Now) {
        for output in std::mem::take(&mut self.out) {
            match apply(self.connector, output, now) {
                Left::Nothing => {}
                Left::Ask(question) if self.questions.len() >= QUESTIONS_MAX => {
                    tracing::debug!(?question, "too many questions");
                    dropped("questions");
                }
                Left::Ask(question) => {
                    // Each channel is its own question; the others would only be asked twice.
                    if matches!(question, Question::Channel(_)) || !self.questions.contains(&question) {
                        self.questions.push_back(question);
                    }
                }
                Left::Lost => {
                    self.tell_again.get_or_insert(now.tick + TELL_AGAIN_MS);
                }
            }
        }
    }

    async fn ask(&mut self, now: Now) -> Result<(), FeedError> {
        while self.open.len() < WINDOW {
            let Some(question) = self.questions.pop_front() else { break };
            if let Ok(command) = question.command() {
                self.send(Sent::Question(question), &command, now).await?;
            } else {
                dropped("name");
                self.decoder.answer(&question, "-ERR not asked", now, now, &mut self.out);
                self.hand_on(now);
            }
        }
        Ok(())
    }

    async fn send(&mut self, sent: Sent, command: &[u8], now: Now) -> Result<(), FeedError> {
        self.spoke = now.tick;
        self.open.push_back((sent, now));
        self.link.send(command).await
    }

    fn next_deadline(&self) -> Option<Tick> {
        let wait = u64::from(self.connector.config.answer_s) * 1000;
        let answer = self.open.front().map(|(_, sent)| sent.tick + wait + 1);
        let alive = self.open.is_empty().then_some(self.spoke + ALIVE_MS);
        let always = [Some(self.next_poll), Some(self.next_snapshot), self.decoder.next_deadline(), self.tell_again];
        always.into_iter().chain([answer, alive]).flatten().min()
    }
}

async fn next_request(control: &mut Option<mpsc::Receiver<ControlRequest>>) -> Option<ControlRequest> {
    match control {
        Some(receiver) => receiver.recv().await,
        None => std::future::pending().await,
    }
}

/// Keeps a flood from taking the machine: what comes beyond the pace waits in the peer's own buffers.
#[derive(Default)]
struct Pace {
    window: u64,
    frames: u32,
    bytes: u64,
    warned: bool,
}

impl Pace {
    /// Called before each frame with the bytes read since the last.
    async fn keep(&mut self, now: Tick, bytes: u64) {
        let window = now.0 / PACE_MS;
        if self.window != window {
            (self.window, self.frames, self.bytes) = (window, 0, 0);
        }
        self.frames += 1;
        self.bytes += bytes;
        if self.frames > PACE_FRAMES || self.bytes > PACE_BYTES {
            if !std::mem::replace(&mut self.warned, true) {
                tracing::warn!("an event socket sends faster than it is followed");
            }
            dropped("slowed");
            tokio::time::sleep(Duration::from_millis(PACE_MS - now.0 % PACE_MS)).await;
        } else if self.frames.is_multiple_of(32) {
            tokio::task::yield_now().await;
        }
    }
}

/// Questions that may be under way at once.
const WINDOW: usize = 8;
const QUESTIONS_MAX: usize = 50_000;
/// A connection on which nothing was asked for so long is asked whether it is still there.
const ALIVE_MS: u64 = 10_000;
const IDLE_MS: u64 = 60_000;
const TELL_AGAIN_MS: u64 = 2_000;
/// 20 000 frames or 40 MB a second.
const PACE_MS: u64 = 50;
const PACE_FRAMES: u32 = 1_000;
const PACE_BYTES: u64 = 2_000_000;
