//! Offers (popups) and the trail that says why there was one or not.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{AccountId, CallId, DeviceId, Direction, OfferId, Party, QueueId, UnixMillis, UserId};

/// The popup of one call for one user: offered → answered or rescinded(reason) → ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Offer {
    /// Its id, a hash of (site, call, user).
    pub id: OfferId,
    /// The account of the user.
    pub account: AccountId,
    /// The call.
    pub call: CallId,
    /// The user whose screen pops.
    pub user: UserId,
    /// Where it stands.
    pub state: OfferState,
    /// Why it was rescinded; none in any other state.
    pub reason: Option<RescindReason>,
    /// The device that rings, answered or placed the call; none while a call only waits in a queue.
    pub device: Option<DeviceId>,
    /// The queue the call came through.
    pub queue: Option<QueueId>,
    /// Which way the call goes.
    pub direction: Direction,
    /// Who calls.
    #[schema(value_type = Party)]
    pub caller: Arc<Party>,
    /// Who was dialled.
    #[schema(value_type = Party)]
    pub callee: Arc<Party>,
    /// When it was first offered.
    pub offered_at: UnixMillis,
    /// When the user's device answered.
    pub answered_at: Option<UnixMillis>,
    /// When it was rescinded or ended.
    pub closed_at: Option<UnixMillis>,
    /// When a client must take it off the screen by itself, whatever it has heard by then.
    pub expires_at: UnixMillis,
    /// Counts its changes, from 1.
    pub version: u32,
}

/// Where an offer stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum OfferState {
    /// On the screen, not answered.
    Offered,
    /// The user talks.
    Answered,
    /// Taken off the screen before this user answered.
    Rescinded,
    /// The user hung up, or was hung up on.
    Ended,
}

/// Why an offer was rescinded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum RescindReason {
    /// A colleague answered.
    AnsweredElsewhere,
    /// The caller gave up.
    CallerHangup,
    /// It rang out, or the PBX took it elsewhere.
    Timeout,
    /// The user's device rejected it.
    Declined,
    /// It was sent on to somebody else.
    Transferred,
    /// The user was disabled.
    UserDisabled,
    /// The user set do-not-disturb.
    Dnd,
    /// The device was disabled.
    DeviceDisabled,
    /// The device was unlinked from the user.
    NotLinked,
}

/// One recorded reason why a user got, lost or did not get an offer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct TrailEntry {
    /// The call.
    pub call: CallId,
    /// Position within the call's trail, from 1.
    pub position: u32,
    /// When it was decided.
    pub at: UnixMillis,
    /// The user it is about; none when no user could be found (`not_linked`, `ambiguous`).
    pub user: Option<UserId>,
    /// What was decided.
    pub reason: Reason,
    /// The device it turned on.
    pub device: Option<DeviceId>,
    /// The queue it turned on.
    pub queue: Option<QueueId>,
    /// The user's connected sessions at that moment.
    pub sessions: u32,
    /// The event behind it, e.g. `180 Ringing, Call-ID 3848276298220188511@atlanta.example`.
    pub event: String,
}

/// What was decided about a popup: it came or changed, was taken off (rescinded), never was, or a note on the side.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// An offer was made (or, after no answer, made again).
    Offered,
    /// Delivery note: nobody was connected; the offer waits in the snapshot.
    NoSession,
    /// The user's device answered.
    Answered,
    /// The offer ended with the call.
    Ended,
    /// Rescinded: a colleague answered.
    AnsweredElsewhere,
    /// Rescinded: the caller gave up.
    CallerHangup,
    /// Rescinded: it rang out or went elsewhere.
    Timeout,
    /// Rescinded: the user's device rejected it.
    Declined,
    /// Rescinded: sent on to somebody else.
    Transferred,
    /// No offer: none of the user's queues holds the call's queue.
    QueueNotSet,
    /// Note: a queue call whose queue can't be known; routed as a direct call.
    QueueUnknown,
    /// No offer: the user's `pop_on` says not (yet).
    PopOn,
    /// No offer: the account's `outbound` says not (yet).
    OutboundSetting,
    /// No offer: internal call.
    InternalCall,
    /// No offer, or rescinded: the user is disabled.
    UserDisabled,
    /// No offer, or rescinded: do-not-disturb.
    Dnd,
    /// No offer, or rescinded: the device is disabled.
    DeviceDisabled,
    /// No offer, or rescinded: no user is linked to the device.
    NotLinked,
    /// No offer: the leg could belong to several devices.
    Ambiguous,
    /// No offer: the call's queue is one of the user's, and rang others than the user's devices.
    NotRung,
    /// No offer: the call rang no device that is known here.
    NoDevice,
}

impl From<RescindReason> for Reason {
    fn from(reason: RescindReason) -> Self {
        match reason {
            RescindReason::AnsweredElsewhere => Self::AnsweredElsewhere,
            RescindReason::CallerHangup => Self::CallerHangup,
            RescindReason::Timeout => Self::Timeout,
            RescindReason::Declined => Self::Declined,
            RescindReason::Transferred => Self::Transferred,
            RescindReason::UserDisabled => Self::UserDisabled,
            RescindReason::Dnd => Self::Dnd,
            RescindReason::DeviceDisabled => Self::DeviceDisabled,
            RescindReason::NotLinked => Self::NotLinked,
        }
    }
}
