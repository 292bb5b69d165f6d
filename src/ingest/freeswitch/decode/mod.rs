//! From frames to what they mean: legs, registrations, queue members. Pure: frames and time come in, [`Output`]s go out,
//! and what must be asked is one of them. The connection and a replay of a recording run the same decoder.
//!
//! Answers overtake events: the event socket writes an answer at once and looks for events every 20 ms. So an answer may
//! know of things whose events are still to come, and its list may lack what was told a moment ago (it is written from
//! a database that lags). Nothing is therefore declared gone because one list lacks it: it must have been there for a
//! while, and no event may follow within a grace.

mod agents;
mod callers;
mod cause;
mod channels;
mod contact;
mod leg;
mod registrations;

use std::collections::HashSet;

use self::agents::Agents;
use self::channels::Channels;
use self::registrations::Registrations;
use super::codec::Frame;
use super::event::Event;
use super::question::{self, Question};
use crate::model::{LegKey, Now, PbxEvent, PbxId, Tick};
use crate::registry::{ReportedContact, ReportedMember, ReportedQueue};

/// What a frame or an answer means.
#[derive(Clone, Debug, PartialEq)]
pub enum Output {
    /// Something happened on a leg.
    Leg(PbxEvent),
    /// These are all legs there are; others of this feed have ended unseen.
    Live(HashSet<LegKey>),
    /// A phone registered, or refreshed.
    Contact(Aor, ReportedContact),
    /// A phone's registration ended.
    ContactGone(Aor, String),
    /// The PBX could not call this user, who has no registration.
    Unregistered(Aor),
    /// All registrations, as they were at the time of asking.
    AllContacts(Vec<(Aor, Vec<ReportedContact>)>, Now),
    /// The users of the directory.
    Users(Vec<String>),
    /// All queues with all members.
    Queues(Vec<ReportedQueue>),
    /// A member of a queue changed.
    Member(String, ReportedMember),
    /// This must be asked.
    Ask(Question),
    /// Something was let go; the label says why.
    Dropped(&'static str),
}

/// User and domain, as the PBX names them.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Aor {
    /// The user part.
    pub user: String,
    /// The domain, when the PBX names one.
    pub domain: Option<String>,
}

/// See the module.
#[derive(Debug)]
pub struct Decoder {
    channels: Channels,
    agents: Agents,
    registrations: Registrations,
    core: Option<Box<str>>,
    /// Whether the queues were found to be there when they were last asked for.
    has_queues: bool,
}

impl Decoder {
    /// One that knows nothing of `pbx` yet.
    #[must_use]
    pub fn new(pbx: PbxId) -> Self {
        Self {
            channels: Channels::new(pbx),
            agents: Agents::default(),
            registrations: Registrations::default(),
            core: None,
            has_queues: true,
        }
    }

    /// Takes an event. Frames that are none are no concern of its own.
    pub fn frame(&mut self, frame: &Frame, now: Now, out: &mut Vec<Output>) {
        match frame {
            Frame::Event(event) => self.event(event, now, out),
            Frame::Skipped { why, .. } => out.push(Output::Dropped(why)),
            _ => {}
        }
        self.poll(now, out);
    }

    /// Takes an answer. `asked` is when its question was sent.
    pub fn answer(&mut self, question: &Question, answer: &str, asked: Now, now: Now, out: &mut Vec<Output>) {
        match question {
            Question::Alive => {}
            Question::Profiles => self.registrations.on_profiles(answer, asked, out),
            Question::Registrations(_) => self.registrations.on_list(answer, now, out),
            Question::Users => Agents::on_users(answer, out),
            Question::Channels => self.channels.on_list(answer, asked, now, out),
            Question::Channel(uuid) => {
                let event = Event::from_json(answer.trim_ascii().as_bytes());
                self.channels.on_dump(uuid, event.as_ref(), now, out);
            }
            Question::Queues => {
                self.has_queues = self.agents.on_queues(answer, out);
            }
            Question::Agents => self.agents.on_agents(answer, out),
            Question::Tiers => self.agents.on_tiers(answer, out),
            Question::Waiting(queue) => match question::table(answer) {
                Some(table) => self.channels.on_waiting(queue, &table, asked, now, out),
                None => out.push(Output::Dropped("answer")),
            },
        }
        self.poll(now, out);
    }

    /// The connection is a new one: questions that were under way are not answered any more. Everything is asked for.
    pub fn connected(&mut self, out: &mut Vec<Output>) {
        self.channels.forget_questions();
        self.registrations.forget_questions();
        self.agents.forget_questions();
        self.has_queues = true;
        self.snapshot(out);
    }

    /// Something that came out was lost on its way: the channels are told of again, from the start.
    pub fn tell_again(&mut self, out: &mut Vec<Output>) {
        self.channels.tell_again();
        self.snapshot(out);
    }

    /// Everything is asked for.
    pub fn snapshot(&mut self, out: &mut Vec<Output>) {
        for question in [Question::Profiles, Question::Channels, Question::Users] {
            out.push(Output::Ask(question));
        }
        self.has_queues = true;
        self.poll_queues(true, out);
    }

    /// The queues are asked for, which have no events of their own; `waiting` = their callers as well.
    pub fn poll_queues(&mut self, waiting: bool, out: &mut Vec<Output>) {
        if self.has_queues {
            self.agents.ask(waiting, out);
        }
    }

    /// Does what is due.
    pub fn poll(&mut self, now: Now, out: &mut Vec<Output>) {
        self.channels.poll(now, out);
    }

    /// When [`Decoder::poll`] has something to do, at the earliest.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Tick> {
        self.channels.next_deadline()
    }

    /// The agent that is called for a device, the queues it is in, and whether it is logged out.
    #[must_use]
    pub fn agent_of(&self, user: &str) -> Option<(&str, bool)> {
        self.agents.agent_of(user)
    }

    fn event(&mut self, event: &Event, now: Now, out: &mut Vec<Output>) {
        if let Some(core) = event.find("Core-UUID")
            && self.core.as_deref() != Some(core)
        {
            let restarted = self.core.replace(core.into()).is_some();
            if restarted {
                self.snapshot(out);
            }
        }
        match event.name() {
            "sofia::register" => Registrations::on_register(event, now, out),
            "sofia::unregister" | "sofia::expire" => Registrations::on_gone(event, out),
            "callcenter::info" => {
                self.channels.on_queue_event(event, now, out);
                self.agents.on_event(event, out);
            }
            _ => {
                self.channels.on_event(event, now, out);
                self.agents.on_channel(event, out);
            }
        }
    }
}
