//! The channels of one Asterisk, as far as they are known.

use std::collections::{HashMap, HashSet, VecDeque};

use super::name::{ChannelName, other_half};
use super::queues::Waiting;

/// Every live channel by its `Uniqueid`, and a memory of those that ended.
#[derive(Debug, Default)]
pub(super) struct Channels {
    by_id: HashMap<Box<str>, Channel>,
    by_name: HashMap<Box<str>, Box<str>>,
    /// Channels that ended a moment ago: a list that was made before must not bring them back.
    ended: VecDeque<Box<str>>,
    /// Channels of the list that is coming in.
    pub list: Vec<Listed>,
}

/// One channel.
#[derive(Clone, Debug, Default)]
pub(super) struct Channel {
    /// Its name now.
    pub name: String,
    /// Its call.
    pub linkedid: String,
    /// The call it was in before.
    pub former: Option<String>,
    /// Whether somebody is at its far end; a Local channel is none, and only remembered.
    pub is_leg: bool,
    pub way: Way,
    /// It was told as a leg.
    pub told: Told,
    pub caller: Identity,
    pub connected: Identity,
    /// What its dial plan began with.
    pub exten: String,
    /// What was dialled to make it.
    pub dial_string: Option<String>,
    /// The channel that dialled it.
    pub parent: Option<Box<str>>,
    /// The queue that had it called.
    pub queue: Option<String>,
    /// Its caller asked not to be named.
    pub withheld: bool,
    /// Its SIP Call-ID.
    pub call_id: Option<String>,
    /// How often its Call-ID was asked for in vain.
    pub unnamed: u8,
    /// The dial it was made by, while nothing has been told of it.
    pub dial: Dial,
    /// What was noticed for its end.
    pub marks: Marks,
}

/// What decides how a leg's end is told.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Marks {
    /// Its far end asked for a hang-up.
    pub hangup_requested: bool,
    /// Another leg answered in its stead.
    pub elsewhere: bool,
    /// It sent its call elsewhere.
    pub referred: bool,
}

/// Whether the dial that makes a channel may still come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Dial {
    /// It may.
    #[default]
    Awaited,
    /// It may, and the channel rings already.
    Late,
    /// The channel was found in a list, so it was perhaps long ago.
    Past,
}

/// Which way a channel was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Way {
    #[default]
    Unknown,
    /// Its far end called the PBX.
    In,
    /// The PBX called its far end.
    Out,
}

/// How much of a leg has been told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Told {
    #[default]
    Nothing,
    Started,
    Rang,
    Answered,
}

/// A number and a name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Identity {
    pub number: String,
    pub name: String,
}

/// A channel of a list, which is applied when the list is complete.
#[derive(Clone, Debug)]
pub(super) struct Listed {
    pub uniqueid: Box<str>,
    pub channel: Channel,
    pub state: u8,
}

impl Channel {
    pub fn is_told(&self) -> bool {
        self.told >= Told::Started
    }

    /// Whether the dial it was made by is still to come. Asterisk tells of states and of dials on ways of their own: on a
    /// busy machine a channel rings before it is dialled, and only the dial says whom it is for.
    pub fn awaits_dial(&self) -> bool {
        !self.is_told() && self.way == Way::Unknown && self.dial_string.is_none() && self.dial != Dial::Past
    }

    pub fn endpoint(&self) -> Option<&str> {
        ChannelName::parse(&self.name).map(|name| name.endpoint)
    }
}

impl Channels {
    pub fn get(&self, uniqueid: &str) -> Option<&Channel> {
        self.by_id.get(uniqueid)
    }

    pub fn get_mut(&mut self, uniqueid: &str) -> Option<&mut Channel> {
        self.by_id.get_mut(uniqueid)
    }

    pub fn by_name(&self, name: &str) -> Option<&str> {
        self.by_name.get(name).map(|uniqueid| &**uniqueid)
    }

    pub fn iter(&self) -> impl Iterator<Item = (&str, &Channel)> {
        self.by_id.iter().map(|(uniqueid, channel)| (&**uniqueid, channel))
    }

    /// Adds a channel; false when there are too many, or when it ended already.
    pub fn insert(&mut self, uniqueid: &str, channel: Channel) -> bool {
        if self.by_id.len() >= CHANNELS_MAX {
            return false;
        }
        self.by_name.insert(channel.name.as_str().into(), uniqueid.into());
        self.by_id.insert(uniqueid.into(), channel);
        true
    }

    pub fn rename(&mut self, uniqueid: &str, name: &str) {
        let Some(channel) = self.by_id.get_mut(uniqueid) else { return };
        let before = std::mem::replace(&mut channel.name, name.to_owned());
        if self.by_name.get(before.as_str()).is_some_and(|id| **id == *uniqueid) {
            self.by_name.remove(before.as_str());
        }
        self.by_name.insert(name.into(), uniqueid.into());
    }

    /// Takes a channel out that ended.
    pub fn remove(&mut self, uniqueid: &str) -> Option<Channel> {
        let channel = self.by_id.remove(uniqueid)?;
        if self.by_name.get(channel.name.as_str()).is_some_and(|id| **id == *uniqueid) {
            self.by_name.remove(channel.name.as_str());
        }
        if self.ended.len() >= ENDED_MAX {
            self.ended.pop_front();
        }
        self.ended.push_back(uniqueid.into());
        Some(channel)
    }

    pub fn has_ended(&self, uniqueid: &str) -> bool {
        self.ended.iter().any(|ended| **ended == *uniqueid)
    }

    /// The queue that has this channel called: what `AgentCalled` said of it, or of the Local channel it stands behind, or
    /// the queue in which the one that dialled it waits, or the caller of its call.
    pub fn queue_of(&self, uniqueid: &str, waiting: &HashMap<Box<str>, Waiting>) -> Option<String> {
        let caller = &*self.by_id.get(uniqueid)?.linkedid;
        let of_caller = || waiting.get(caller).map(|waiting| waiting.queue.clone());
        self.queue_behind(uniqueid, waiting).or_else(of_caller)
    }

    fn queue_behind(&self, uniqueid: &str, waiting: &HashMap<Box<str>, Waiting>) -> Option<String> {
        let mut at: Box<str> = uniqueid.into();
        for _ in 0..DEPTH_MAX {
            let channel = self.by_id.get(&at)?;
            if let Some(queue) = &channel.queue {
                return Some(queue.clone());
            }
            if let Some(waiting) = waiting.get(&at) {
                return Some(waiting.queue.clone());
            }
            let twin = other_half(&channel.name).and_then(|name| self.by_name(&name)).and_then(|id| self.by_id.get(id));
            at = match (&channel.parent, twin) {
                (Some(parent), _) => parent.clone(),
                (None, Some(twin)) if twin.queue.is_some() => return twin.queue.clone(),
                (None, Some(twin)) => twin.parent.clone()?,
                (None, None) => return None,
            };
        }
        None
    }

    /// The leg that stands for a call's caller.
    pub fn caller_of(&self, linkedid: &str) -> Option<&str> {
        if self.by_id.get(linkedid).is_some_and(|channel| channel.is_leg) {
            return self.by_id.get_key_value(linkedid).map(|(id, _)| &**id);
        }
        let mut callers = self.by_id.iter().filter(|(_, channel)| {
            channel.is_leg && channel.way == Way::In && channel.linkedid == linkedid && channel.is_told()
        });
        let first = callers.next();
        first.filter(|_| callers.next().is_none()).map(|(id, _)| &**id)
    }

    pub fn live_legs(&self) -> HashSet<&str> {
        self.by_id.iter().filter(|(_, channel)| channel.is_told()).map(|(id, _)| &**id).collect()
    }

    pub fn forget_lists(&mut self) {
        self.list.clear();
    }
}

/// Most channels that are followed at once.
pub(super) const CHANNELS_MAX: usize = 20_000;
const ENDED_MAX: usize = 512;
/// How many channels may stand behind one another.
const DEPTH_MAX: usize = 8;
