//! What an Asterisk's messages mean: a state machine from messages to what they say about legs, phones and queues, and to
//! what should be asked next. It waits for nothing and reads no clock, so a recorded log gives what the live one gave.

mod ask;
mod cause;
mod channel;
mod hold;
mod legs;
mod name;
mod phone_lists;
mod phones;
mod queues;
mod snapshot;
mod transfer;

use std::collections::HashSet;

use super::action::Action;
use super::message::Message;
use crate::model::{FeedKind, LegEvent, LegKey, Now, PbxEvent, PbxId};
use crate::registry::{ReportedContact, ReportedMember, ReportedQueue};

pub use ask::Ask;
use channel::Channels;
use hold::Hold;
use phones::Phones;
use queues::Queues;
use snapshot::Snapshot;

/// Reads one Asterisk's messages in the order they came.
#[derive(Debug)]
pub struct Decoder {
    pbx: PbxId,
    channels: Channels,
    phones: Phones,
    queues: Queues,
    snapshot: Snapshot,
    hold: Hold,
    /// How far our wall clock is ahead of the PBX's, in milliseconds.
    clock_ahead_ms: i64,
    dropped: Dropped,
}

/// What a message says, or what it makes worth asking.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Something happened on a leg.
    Leg(PbxEvent),
    /// These are all live legs (a snapshot).
    Legs(HashSet<LegKey>),
    /// Contacts of an address-of-record.
    Contacts {
        /// User part.
        user: String,
        /// What is bound.
        contacts: Vec<ReportedContact>,
        /// Whether these are all.
        complete: bool,
    },
    /// Everybody's contacts, by user part (a snapshot): who is not among them has none.
    AllContacts(Vec<(String, Vec<ReportedContact>)>),
    /// A contact is gone.
    ContactGone {
        /// User part of its address-of-record.
        user: String,
        /// Its URI.
        uri: String,
    },
    /// Whether a phone answers.
    Reachability {
        /// User part.
        user: String,
        /// Which contact; none = all it has.
        uri: Option<String>,
        /// Whether it answers; none = it is not asked.
        reachable: Option<bool>,
        /// How long it took, in microseconds.
        rtt_us: Option<u32>,
    },
    /// The users that may register there, all of them.
    Endpoints(Vec<String>),
    /// The queues, all of them (a snapshot).
    Queues(Vec<ReportedQueue>),
    /// A member came or changed.
    Member {
        /// Its queue's name.
        queue: String,
        /// All that is known of it.
        member: ReportedMember,
    },
    /// A member left.
    MemberGone {
        /// Its queue's name.
        queue: String,
        /// User part of its device.
        user: String,
    },
    /// This should be asked now.
    Ask(Ask),
    /// The PBX does not let us ask this; `what` is what is missed.
    Refused {
        /// The action's name.
        action: &'static str,
    },
    /// Everything that was asked in a snapshot has been answered.
    Settled,
    /// The PBX has just finished starting: nothing known before holds.
    Booted,
    /// The PBX goes down.
    ShuttingDown,
}

/// What a peer made us leave out, by reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Dropped {
    /// Channels past `CHANNELS_MAX`.
    pub channels: u64,
    /// Queue members past their limit.
    pub members: u64,
    /// Entries of lists past their limit.
    pub list_entries: u64,
    /// Queue members that are no phone (`Agent/…`).
    pub members_without_phone: u64,
}

impl Decoder {
    /// A decoder that knows nothing yet.
    #[must_use]
    pub fn new(pbx: PbxId) -> Self {
        Self {
            pbx,
            channels: Channels::default(),
            phones: Phones::default(),
            queues: Queues::default(),
            snapshot: Snapshot::default(),
            hold: Hold::default(),
            clock_ahead_ms: 0,
            dropped: Dropped::default(),
        }
    }

    /// A new connection begins: what was under way on the last one will not be finished. What was about to be told is
    /// told, as far as it is known.
    pub fn connected(&mut self, out: &mut Vec<Output>) {
        self.hold.release(out);
        self.hold.answers = false;
        self.forget_lists();
    }

    fn forget_lists(&mut self) {
        self.snapshot = Snapshot::default();
        self.phones.forget_lists();
        self.queues.forget_lists();
        self.channels.forget_lists();
    }

    /// Reads one message.
    pub fn message(&mut self, message: &Message, now: Now, out: &mut Vec<Output>) {
        match message.text("Event") {
            Some(event) => self.on_event(event, message, now, out),
            None if message.text("Response").is_some() => self.on_response(message, now, out),
            None => {}
        }
    }

    /// The PBX does not run, so nothing is under way there.
    pub fn all_ended(&mut self, out: &mut Vec<Output>) {
        self.connected(out);
        self.channels = Channels::default();
        self.queues.waiting.clear();
        out.push(Output::Legs(HashSet::new()));
    }

    /// What was left out so far.
    #[must_use]
    pub fn dropped(&self) -> Dropped {
        self.dropped
    }

    fn on_event(&mut self, event: &str, message: &Message, now: Now, out: &mut Vec<Output>) {
        match event {
            "Newchannel" | "Newstate" | "BridgeEnter" | "Hangup" | "HangupRequest" | "Rename" | "DialBegin"
            | "DialState" | "DialEnd" => {
                self.on_channel_event(event, message, out);
            }
            "BlindTransfer" => self.on_blind_transfer(message, out),
            "AttendedTransfer" => self.on_attended_transfer(message, out),
            "Pickup" => self.on_pickup(message, out),
            "AgentCalled" | "AgentConnect" | "AgentComplete" | "AgentRingNoAnswer" => {
                self.on_agent_event(event, message, out);
            }
            "QueueCallerJoin" => self.on_caller_joined(message, now, out),
            "QueueCallerLeave" | "QueueCallerAbandon" => self.on_caller_left(event, message, now, out),
            "QueueMemberAdded"
            | "QueueMemberStatus"
            | "QueueMemberPause"
            | "QueueMemberPaused"
            | "QueueMemberPenalty"
            | "QueueMemberRinginuse" => self.on_member(message, out),
            "QueueMemberRemoved" => self.on_member_removed(message, out),
            "ContactStatus" | "ContactStatusDetail" | "EndpointDetailComplete" => {
                self.on_contact_event(event, message, out);
            }
            "PeerStatus" => self.on_peer_status(message, out),
            "DeviceStateChange" => self.on_device_state(message, out),
            "EndpointList"
            | "EndpointListComplete"
            | "AorList"
            | "AorListComplete"
            | "ContactList"
            | "ContactListComplete"
            | "PeerEntry"
            | "PeerlistComplete" => self.on_phone_list(event, message, out),
            "QueueParams" | "QueueMember" | "QueueEntry" | "QueueStatusComplete" => {
                self.on_queue_list(event, message, now, out);
            }
            "CoreShowChannel" | "CoreShowChannelsComplete" => self.on_channel_list(event, message, now, out),
            "FullyBooted" => out.push(Output::Booted),
            "Shutdown" => out.push(Output::ShuttingDown),
            _ => {}
        }
    }

    fn tell(&mut self, uniqueid: &str, event: LegEvent, evidence: String, out: &mut Vec<Output>) {
        let leg = LegKey(self.key(uniqueid).into());
        let event = PbxEvent { pbx: self.pbx, feed: FeedKind::Asterisk, leg, event, evidence };
        self.hold.tell(event, None, out);
    }

    /// The same for a leg that is told when the PBX has answered for it.
    fn tell_later(&mut self, uniqueid: &str, event: LegEvent, evidence: String, out: &mut Vec<Output>) {
        let leg = LegKey(self.key(uniqueid).into());
        let event = PbxEvent { pbx: self.pbx, feed: FeedKind::Asterisk, leg, event, evidence };
        self.hold.tell(event, Some(uniqueid), out);
    }

    /// The name, unique among all feeds, of a channel (by its `Uniqueid`) or of a call (by its `Linkedid`).
    fn key(&self, id: &str) -> String {
        format!("{}:{}:{id}", FeedKind::Asterisk.as_str(), self.pbx)
    }
}

impl Output {
    /// An action worth sending, with the id its answer will carry.
    fn ask(id: String, action: Action) -> Self {
        Self::Ask(Ask { id, action })
    }
}

/// The events that are read; the filters an administrator is told to set let these through and no others. Lists come as
/// events too, which no filter stops.
pub const EVENTS: [&str; 30] = [
    "FullyBooted",
    "Shutdown",
    "Newchannel",
    "Newstate",
    "Rename",
    "DialBegin",
    "DialState",
    "DialEnd",
    "BridgeEnter",
    "HangupRequest",
    "Hangup",
    "BlindTransfer",
    "AttendedTransfer",
    "Pickup",
    "QueueCallerJoin",
    "QueueCallerLeave",
    "QueueCallerAbandon",
    "AgentCalled",
    "AgentConnect",
    "AgentComplete",
    "AgentRingNoAnswer",
    "QueueMemberAdded",
    "QueueMemberRemoved",
    "QueueMemberStatus",
    "QueueMemberPause",
    "QueueMemberPenalty",
    "QueueMemberRinginuse",
    "ContactStatus",
    "PeerStatus",
    "DeviceStateChange",
];
