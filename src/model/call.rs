//! Calls as people see them, and the legs they are made of.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{AccountId, CallId, DeviceId, LegEnd, LegKey, Offer, PbxId, QueueId, SiteId, UnixMillis, UserId};

/// A call as a person sees it. Live calls are kept in memory and written at every change, so that a restart finds them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Call {
    /// Its id, derived from the site and the first leg.
    pub id: CallId,
    /// The account it belongs to.
    pub account: AccountId,
    /// The site it was joined in.
    pub site: SiteId,
    /// The PBX whose feed showed its first leg.
    pub pbx: PbxId,
    /// Whether it goes on.
    pub state: CallState,
    /// Which way it goes, seen from the office.
    pub direction: Direction,
    /// Who calls.
    #[schema(value_type = Party)]
    pub caller: Arc<Party>,
    /// Who was dialled.
    #[schema(value_type = Party)]
    pub callee: Arc<Party>,
    /// The queue it came through, if any.
    pub queue: Option<QueueId>,
    /// Set while its caller waits in that queue.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiting: Option<Waiting>,
    /// When its first leg was seen.
    pub began_at: UnixMillis,
    /// When a leg towards a device (outbound: towards the other side) was first answered.
    pub answered_at: Option<UnixMillis>,
    /// When its last leg ended.
    pub ended_at: Option<UnixMillis>,
    /// How it ended; none while it lives.
    pub outcome: Option<Outcome>,
    /// Milliseconds from the first ring to the answer or the end.
    pub ring_ms: u64,
    /// Milliseconds from the answer to the end.
    pub talk_ms: u64,
    /// Its legs, in the order they were seen.
    pub legs: Vec<Leg>,
    /// Who was linked to its devices then, and what they did.
    pub users: Vec<CallUser>,
    /// The offers made for it, one a user.
    pub offers: Vec<Offer>,
}

impl Call {
    /// Whether it turned out to be another call and is to be forgotten: it is over and never had a leg.
    #[must_use]
    pub fn is_void(&self) -> bool {
        self.state == CallState::Ended && self.legs.is_empty()
    }
}

/// A caller's wait in a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Waiting {
    /// Since when.
    pub since: UnixMillis,
    /// Place in the line when the caller joined it, from 1, as the PBX said.
    pub position: Option<u32>,
}

/// Whether a call goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum CallState {
    /// Placed, nothing rings yet.
    Calling,
    /// A device (outbound: the other side) rings.
    Ringing,
    /// Someone talks.
    Answered,
    /// Over.
    Ended,
}

/// Which way a call goes, seen from the office.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// From an external (or withheld) number.
    Inbound,
    /// From a device to an external number.
    Outbound,
    /// Neither end is external: colleagues, feature codes, voicemail, emergency numbers.
    Internal,
}

/// How a call ended. Answered means a leg *towards a device* (outbound: towards the other side) got its 200; an IVR,
/// a queue or voicemail that picks up is not an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Somebody answered.
    Answered,
    /// It was there for a device and nobody answered.
    Missed,
    /// Every answer was busy.
    Busy,
    /// It was rejected by hand.
    Declined,
    /// The office's own caller gave up.
    Cancelled,
    /// It could not be set up.
    Failed,
}

/// One end of a call.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Party {
    /// E.164 (`+14155550100`) when it is a valid outside number, else as it was signalled. None when withheld.
    pub number: Option<String>,
    /// Display name, without a queue prefix. None when withheld.
    pub name: Option<String>,
    /// The caller asked not to be named (RFC 3323 `Privacy: id`, or an anonymous From).
    pub withheld: bool,
    /// Outside the number plan.
    pub external: bool,
    /// The device at this end, when it is one.
    pub device: Option<DeviceId>,
}

/// One SIP dialog or PBX channel of a call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Leg {
    /// Its key within the site.
    #[schema(value_type = String)]
    pub key: LegKey,
    /// What ties legs of one call together (SIP: the Call-ID).
    #[schema(value_type = String)]
    pub call_key: Arc<str>,
    /// The PBX whose feed showed it.
    pub pbx: PbxId,
    /// Which way it goes, seen from the PBX.
    pub role: LegRole,
    /// The device at its far end.
    pub device: Option<DeviceId>,
    /// Where it stands.
    pub state: LegState,
    /// When its INVITE was seen.
    pub began_at: UnixMillis,
    /// When it first rang.
    pub rang_at: Option<UnixMillis>,
    /// When it was answered.
    pub answered_at: Option<UnixMillis>,
    /// When it ended.
    pub ended_at: Option<UnixMillis>,
    /// How it ended.
    pub end: Option<LegEnd>,
}

/// Which way a leg goes, seen from the PBX.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum LegRole {
    /// From the PBX to one of its devices.
    ToDevice,
    /// From one of its devices to the PBX.
    FromDevice,
    /// From outside to the PBX.
    TrunkIn,
    /// From the PBX to the outside.
    TrunkOut,
    /// It could be one of several devices; never guessed.
    Ambiguous,
}

/// Where a leg stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum LegState {
    /// INVITE seen.
    Calling,
    /// 180 or 183 seen.
    Ringing,
    /// 200 seen.
    Answered,
    /// Over.
    Ended,
}

/// A user linked to one of the call's devices at the time, and what they did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct CallUser {
    /// The user.
    pub user: UserId,
    /// Through which device.
    pub device: DeviceId,
    /// What happened there; the strongest of them when several did.
    pub action: UserAction,
}

/// What a user had to do with a call, weakest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum UserAction {
    /// Their device rang.
    Rang,
    /// Their device answered.
    Answered,
    /// Their device placed it.
    Placed,
}
