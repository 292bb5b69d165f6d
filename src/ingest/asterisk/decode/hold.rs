//! A caller may have asked not to be named, which no event says. So a call from outside is told when the PBX has answered
//! whether that is so, a moment later, and what happens meanwhile waits its turn behind it.

use std::collections::VecDeque;

use super::super::action::Action;
use super::super::message::Message;
use super::{Decoder, Output};
use crate::model::{Caller, ContactKey, LegEvent, LegKey, PbxEvent};

/// Events in the order in which they will be told.
#[derive(Debug, Default)]
pub(super) struct Hold {
    queue: VecDeque<Held>,
    /// The PBX answers our questions: this is no log of somebody else's session.
    pub answers: bool,
}

#[derive(Debug)]
struct Held {
    event: PbxEvent,
    /// The channel whose answer it waits for.
    waits: Option<Box<str>>,
}

impl Hold {
    /// Tells an event, or has it wait behind those that do.
    pub fn tell(&mut self, event: PbxEvent, waits: Option<&str>, out: &mut Vec<Output>) {
        if self.queue.is_empty() && waits.is_none() {
            out.push(Output::Leg(event));
            return;
        }
        self.queue.push_back(Held { event, waits: waits.map(Into::into) });
        if self.queue.len() >= HELD_MAX {
            self.release(out);
        }
    }

    /// Whether anything waits.
    pub fn is_holding(&self) -> bool {
        !self.queue.is_empty()
    }

    /// Tells everything that waits.
    pub fn release(&mut self, out: &mut Vec<Output>) {
        out.extend(self.queue.drain(..).map(|held| Output::Leg(held.event)));
    }

    /// The start of a leg, while it waits.
    pub fn waiting_start(&mut self, leg: &LegKey) -> Option<&mut crate::model::LegStart> {
        self.queue.iter_mut().find_map(|held| match &mut held.event.event {
            LegEvent::Started(start) if held.event.leg == *leg => Some(&mut **start),
            _ => None,
        })
    }

    fn answered(&mut self, uniqueid: &str, out: &mut Vec<Output>) {
        for held in &mut self.queue {
            if held.waits.as_deref() == Some(uniqueid) {
                held.waits = None;
            }
        }
        while self.queue.front().is_some_and(|held| held.waits.is_none()) {
            out.extend(self.queue.pop_front().map(|held| Output::Leg(held.event)));
        }
    }

    fn withhold(&mut self, call: &str) {
        for held in &mut self.queue {
            if let LegEvent::Started(start) = &mut held.event.event
                && *start.call_key == *call
            {
                start.caller = Caller { withheld: true, ..Caller::default() };
                start.from = ContactKey::default();
            }
        }
    }
}

impl Decoder {
    /// Whether something is not told yet, because an answer is awaited.
    #[must_use]
    pub fn is_holding(&self) -> bool {
        self.hold.is_holding()
    }

    /// Tells what is held back as far as it is known: the answer takes too long.
    pub fn release(&mut self, out: &mut Vec<Output>) {
        self.hold.release(out);
    }

    /// Asks whether a channel's caller wants to be named; whether an answer is to be waited for.
    pub(super) fn ask_presentation(&mut self, uniqueid: &str, out: &mut Vec<Output>) -> bool {
        let Some(channel) = self.channels.get(uniqueid).filter(|_| self.hold.answers) else { return false };
        let endpoint = channel.endpoint().unwrap_or_default();
        if self.phones.is_bound(self.phones.user_of(endpoint)) {
            return false;
        }
        let action = Action::new("Getvar").with("Channel", &channel.name);
        let Ok(action) = action.and_then(|action| action.with("Variable", "CALLERID(num-pres)")) else { return false };
        out.push(Output::ask(format!("{PRESENTATION}{uniqueid}"), action));
        true
    }

    pub(super) fn on_presentation(&mut self, uniqueid: &str, message: &Message, out: &mut Vec<Output>) {
        if message.text("Value").is_some_and(|value| value.starts_with("prohib"))
            && let Some(channel) = self.channels.get_mut(uniqueid)
        {
            channel.withheld = true;
            let call = self.key(&self.channels.get(uniqueid).map(|c| c.linkedid.clone()).unwrap_or_default());
            self.hold.withhold(&call);
        }
        self.hold.answered(uniqueid, out);
    }
}

pub(super) const PRESENTATION: &str = "hookswitch-presentation-";
/// Most events that wait; then all are told as they are.
const HELD_MAX: usize = 1_024;
