//! What a replay finds, one value a finding. With `--json` each is one line; docs/replay.md lists the fields.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use serde::Serialize;

use crate::ingest::capture::Skipped;
use crate::model::{
    Call, CallId, DeviceId, DeviceState, QueueId, TrailEntry, Transition, Transport, UnixMillis, UserId,
};

/// One finding.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum News {
    /// Who is who, by the links file: first, and only with `--links`.
    Names(Names),
    /// A REGISTER and what became of it, when that is known.
    Registration(Registration),
    /// A device came, went or moved, when it did.
    Transition(Transition),
    /// A call joined or left a queue, or a queue's members changed, when it happened.
    Queue(QueueEvent),
    /// A call, when it ended; calls that were live at the end of the capture come then.
    Call(Box<CallRecord>),
    /// A device as it was at the end of the capture.
    Device(DeviceRecord),
    /// The counts, last.
    Totals(Box<Totals>),
}

/// Users and queues of the links file and the ids they go by in the other findings.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct Names {
    /// User names by id.
    #[schema(value_type = BTreeMap<String, String>)]
    pub users: BTreeMap<UserId, String>,
    /// Queue names by id.
    #[schema(value_type = BTreeMap<String, String>)]
    pub queues: BTreeMap<QueueId, String>,
}

/// A REGISTER transaction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct Registration {
    /// When its answer was seen, or it was given up.
    pub at: UnixMillis,
    /// User part of the address-of-record.
    pub user: Box<str>,
    /// Host of the address-of-record.
    pub host: Box<str>,
    /// The device, once it is one.
    pub device: Option<DeviceId>,
    /// Where the phone sent it from.
    #[schema(value_type = Option<String>)]
    pub source: Option<SocketAddr>,
    /// Over what.
    pub transport: Transport,
    /// What became of it.
    pub outcome: RegistrationOutcome,
    /// The status of its answer.
    pub status: Option<u16>,
    /// The longest time granted, in seconds.
    pub expires_s: Option<u32>,
    /// User-Agent of the phone.
    #[schema(value_type = Option<String>)]
    pub user_agent: Option<Arc<str>>,
}

/// What became of a REGISTER.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum RegistrationOutcome {
    /// The address-of-record had no contact and now has one.
    Registered,
    /// It had a contact before and still has one.
    Refreshed,
    /// It has no contact any more.
    Unregistered,
    /// It only asked which contacts there are.
    Queried,
    /// Credentials were asked for (401, 407).
    Challenged,
    /// It was refused.
    Refused,
    /// No final answer was seen within 32 s.
    Unanswered,
}

/// Something happened in a queue.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct QueueEvent {
    /// When.
    pub at: UnixMillis,
    /// The queue, when it is known by id.
    pub queue: Option<QueueId>,
    /// Its name.
    pub name: String,
    /// What happened.
    pub event: QueueHappening,
    /// The call it is about.
    pub call: Option<CallId>,
    /// The device that answered, or that the membership is of.
    pub device: Option<DeviceId>,
    /// User part of that device, as the PBX calls it.
    pub user: Option<String>,
}

/// What happens in queues.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum QueueHappening {
    /// A call came into it.
    Joined,
    /// A member answered a call of it.
    Answered,
    /// The caller gave up before anybody answered.
    Abandoned,
    /// A call left it otherwise: nobody answered, or it was sent on.
    Left,
    /// A device became a member.
    MemberAdded,
    /// A device is no member any more.
    MemberRemoved,
    /// A member pauses.
    MemberPaused,
    /// A member is back from a pause.
    MemberUnpaused,
}

/// A call, with everything that was decided about it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct CallRecord {
    /// The call as the API shows it, with its legs and offers.
    #[schema(value_type = Call)]
    pub call: Arc<Call>,
    /// The user parts of the devices in it, by id.
    #[schema(value_type = BTreeMap<String, String>)]
    pub devices: BTreeMap<DeviceId, String>,
    /// Why who got or did not get an offer; empty without `--links`.
    pub trail: Vec<TrailEntry>,
}

/// A device at the end of the capture.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct DeviceRecord {
    /// Its id.
    pub id: DeviceId,
    /// User part of its address-of-record.
    pub user: String,
    /// Host of its address-of-record, as it was last seen; empty when it was never seen in one.
    pub host: String,
    /// The number colleagues dial.
    pub extension: String,
    /// Its label in the links file.
    pub label: Option<String>,
    /// Where it stands.
    pub state: DeviceState,
    /// What first showed it.
    pub origin: Origin,
    /// When it was first seen; none when it is only in the links file.
    pub first_seen_at: Option<UnixMillis>,
    /// When it last registered, rang, or placed a call.
    pub last_seen_at: Option<UnixMillis>,
    /// Its contacts.
    pub contacts: Vec<ContactRecord>,
    /// Its REGISTERs by what became of them.
    pub registrations: BTreeMap<RegistrationOutcome, u64>,
    /// Times it rang, answered or placed a call.
    pub in_calls: u64,
    /// It had a call to or from an external number.
    pub assignable: bool,
}

/// What first showed a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// The links file.
    Links,
    /// A registration that was accepted.
    Registration,
    /// A call from or to it: it registered before the capture began.
    Call,
    /// A connector's events.
    Connector,
}

/// A contact of a device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct ContactRecord {
    /// The contact URI.
    pub uri: String,
    /// Where the phone is.
    #[schema(value_type = Option<String>)]
    pub received: Option<SocketAddr>,
    /// Over what.
    pub transport: Transport,
    /// When it ends, or ended.
    pub expires_at: UnixMillis,
    /// User-Agent of the phone.
    pub user_agent: Option<String>,
}

/// The counts of a whole replay.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct Totals {
    /// Records read: packets, or events of a log.
    pub records: u64,
    /// The first stamp.
    pub from: Option<UnixMillis>,
    /// The last stamp.
    pub to: Option<UnixMillis>,
    /// SIP messages, a packet captured twice counted once.
    pub messages: u64,
    /// Requests by method.
    pub requests: BTreeMap<String, u64>,
    /// Responses by status.
    pub responses: BTreeMap<u16, u64>,
    /// Packets with SIP that were captured twice; not among the messages.
    pub captured_twice: u64,
    /// Messages that were also seen between other addresses: among the messages, followed once.
    pub on_other_ways: u64,
    /// Messages that can't be read, by what is wrong; not among the messages.
    pub malformed: BTreeMap<&'static str, u64>,
    /// REGISTERs by what became of them.
    pub registrations: BTreeMap<RegistrationOutcome, u64>,
    /// Calls by outcome; those that went on at the end are `live`.
    pub calls: BTreeMap<&'static str, u64>,
    /// Offers made.
    pub offers: u64,
    /// Queue events by what happened.
    pub queue_events: BTreeMap<QueueHappening, u64>,
    /// Devices at the end.
    pub devices: u64,
    /// Stamps that were a little older than the one before.
    pub stamps_out_of_order: u64,
    /// Times the capturing machine's clock was set back.
    pub clock_set_back: u64,
    /// What could not be followed because of a limit or because it made no sense, by the reason.
    pub dropped: BTreeMap<&'static str, u64>,
    /// What was left out of the capture.
    pub skipped: Skipped,
}

impl RegistrationOutcome {
    /// As it is written in the output.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Registered => "registered",
            Self::Refreshed => "refreshed",
            Self::Unregistered => "unregistered",
            Self::Queried => "queried",
            Self::Challenged => "challenged",
            Self::Refused => "refused",
            Self::Unanswered => "unanswered",
        }
    }
}
