//! What can be posted of a PBX: one type each for what can happen to a device, a leg, a queue. Their names and members are
//! part of the API.

use std::net::SocketAddr;

use serde::Deserialize;
use serde_json::Value;
use utoipa::ToSchema;

use crate::model::{LegEnd, MemberState};

/// A phone has a registration, or has refreshed it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DeviceRegistered {
    /// User part of its address-of-record.
    #[schema(example = "101")]
    pub user: String,
    /// Its domain, where the PBX serves several.
    pub domain: Option<String>,
    /// The contact URI; made up of `user` when the PBX does not tell.
    pub contact: Option<String>,
    /// Seconds until it ends unless it is refreshed; the PBX's `passive_expires_max_s` when absent.
    pub expires_s: Option<u32>,
    /// Where the phone is.
    #[schema(value_type = Option<String>, example = "198.51.100.7:5060")]
    pub address: Option<SocketAddr>,
    /// Its User-Agent.
    pub user_agent: Option<String>,
}

/// A phone's registration has ended.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DeviceUnregistered {
    /// User part of its address-of-record.
    pub user: String,
    /// Its domain, where the PBX serves several.
    pub domain: Option<String>,
    /// The contact that ended; all of them when absent.
    pub contact: Option<String>,
}

/// A leg began: somebody calls the PBX, or the PBX calls a phone or the outside.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LegStarted {
    /// The leg's id on the PBX.
    pub leg: String,
    /// The call's id on the PBX: legs with the same one are one call.
    pub call: String,
    /// Who called whom.
    pub direction: LegDirection,
    /// User part of the device at the leg's far end; absent = the outside.
    pub device: Option<String>,
    /// Its domain, where the PBX serves several.
    pub domain: Option<String>,
    /// Who calls.
    #[serde(default)]
    pub caller: LegCaller,
    /// What was dialled (`to_pbx`), or the number the PBX calls (`from_pbx`).
    pub to: String,
    /// The queue it is called for.
    pub queue: Option<String>,
    /// Its SIP Call-ID, where the PBX tells: it ties the leg to what SIP feeds see of it.
    pub sip_call_id: Option<String>,
}

/// Which way a leg was called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum LegDirection {
    /// A phone or the outside called the PBX.
    ToPbx,
    /// The PBX called a phone or the outside.
    FromPbx,
}

/// Who calls on a leg.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LegCaller {
    /// The number.
    pub number: String,
    /// The name.
    pub name: String,
    /// The caller asked not to be named.
    pub withheld: bool,
}

/// Something happened on a leg that has begun.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LegNamed {
    /// The leg's id on the PBX.
    pub leg: String,
}

/// A leg is over.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LegEnded {
    /// The leg's id on the PBX.
    pub leg: String,
    /// How it ended.
    pub end: LegEnd,
}

/// A leg belongs to another call from now on (attended transfer, pick-up).
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LegMoved {
    /// The leg's id on the PBX.
    pub leg: String,
    /// The call it belongs to now.
    pub call: String,
}

/// The caller on a leg waits in a queue.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LegQueued {
    /// The leg's id on the PBX.
    pub leg: String,
    /// The queue's name on the PBX.
    pub queue: String,
    /// Place in the line, from 1.
    pub position: Option<u32>,
    /// Milliseconds the caller has been waiting already.
    #[serde(default)]
    pub waited_ms: u64,
}

/// All there is to know of a queue's members: these and no others.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct QueueReport {
    /// The queue's name on the PBX; it appears when it is new.
    pub queue: String,
    /// The number callers dial to reach it.
    pub number: Option<String>,
    /// Its members.
    pub members: Vec<MemberReport>,
}

/// One member of a queue came, or something about it changed.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct MemberChanged {
    /// The queue's name on the PBX; it appears when it is new.
    pub queue: String,
    /// The member as it is now.
    pub member: MemberReport,
}

/// A member left a queue.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct MemberRemoved {
    /// The queue's name on the PBX.
    pub queue: String,
    /// User part of the device.
    pub user: String,
}

/// A member of a queue.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct MemberReport {
    /// User part of the device.
    pub user: String,
    /// Its domain, where the PBX serves several.
    pub domain: Option<String>,
    /// Whether calls are held back from it.
    #[serde(default)]
    pub paused: bool,
    /// Why.
    pub pause_reason: Option<String>,
    /// Order of preference: lower ones are called first.
    #[serde(default)]
    pub penalty: u32,
    /// What the PBX says of it.
    #[serde(default)]
    pub state: MemberState,
}

/// The legs that live now, all of them: others have ended unseen. Post it after a gap.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LegSnapshot {
    /// Their ids on the PBX.
    pub legs: Vec<String>,
}

/// Why an event can't be read.
#[derive(Debug, thiserror::Error)]
pub enum Unreadable {
    /// Its type is none of [`KINDS`].
    #[error("there is no such type of event; there are {}", KINDS.join(", "))]
    Type,
    /// Its data does not fit its type.
    #[error("{}", .0.inner())]
    Data(#[from] serde_path_to_error::Error<serde_json::Error>),
}

// A kind is a token tree: the schema's derive macro does not see through a captured literal.
macro_rules! reports {
    ($($(#[doc = $doc:literal])+ $kind:tt => $variant:ident($data:ty),)*) => {
        /// What an event's `type` and `data` say together.
        #[derive(Clone, Debug, PartialEq, Eq, ToSchema)]
        #[serde(tag = "type", content = "data")]
        pub enum Report {
            $($(#[doc = $doc])+ #[serde(rename = $kind)] $variant($data),)*
        }

        impl Report {
            /// Reads an event's data by its type.
            ///
            /// # Errors
            /// Where the type is unknown or the data does not fit it.
            pub fn read(kind: &str, data: Value) -> Result<Self, Unreadable> {
                match kind {
                    $($kind => Ok(Self::$variant(serde_path_to_error::deserialize(data)?)),)*
                    _ => Err(Unreadable::Type),
                }
            }
        }

        /// Every type of event.
        pub const KINDS: &[&str] = &[$($kind),*];
    };
}

reports! {
    /// A phone has a registration, or has refreshed it.
    "pbx.device.registered" => DeviceRegistered(DeviceRegistered),
    /// A phone's registration has ended.
    "pbx.device.unregistered" => DeviceUnregistered(DeviceUnregistered),
    /// A leg began.
    "pbx.leg.started" => LegStarted(LegStarted),
    /// A leg rings.
    "pbx.leg.ringing" => LegRinging(LegNamed),
    /// A leg was answered.
    "pbx.leg.answered" => LegAnswered(LegNamed),
    /// The caller on a leg is giving up.
    "pbx.leg.cancelling" => LegCancelling(LegNamed),
    /// A leg was sent elsewhere and ends soon.
    "pbx.leg.transferred" => LegTransferred(LegNamed),
    /// A leg belongs to another call from now on.
    "pbx.leg.moved" => LegMoved(LegMoved),
    /// The caller on a leg waits in a queue.
    "pbx.leg.queued" => LegQueued(LegQueued),
    /// The caller on a leg left the waiting line.
    "pbx.leg.unqueued" => LegUnqueued(LegNamed),
    /// A leg is over.
    "pbx.leg.ended" => LegEnded(LegEnded),
    /// The legs that live now.
    "pbx.legs" => Legs(LegSnapshot),
    /// A queue and all its members.
    "pbx.queue" => Queue(QueueReport),
    /// One member of a queue came or changed.
    "pbx.queue.member" => Member(MemberChanged),
    /// A member left a queue.
    "pbx.queue.member_removed" => MemberRemoved(MemberRemoved),
}
