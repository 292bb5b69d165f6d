//! PBX call queues and who is in them.

use serde::{Deserialize, Serialize};

use super::{AccountId, DeviceId, PbxId, QueueId, UnixMillis};

/// A PBX call queue.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Queue {
    /// Its id.
    pub id: QueueId,
    /// The account it belongs to.
    pub account: AccountId,
    /// The PBX it is on.
    pub pbx: PbxId,
    /// Its name on the PBX, unique there.
    pub name: String,
    /// The number callers dial to reach it, if it has one.
    pub number: Option<String>,
    /// The devices in it, by whatever told us; ordered by device id.
    pub members: Vec<Member>,
    /// When it was created.
    pub created_at: UnixMillis,
}

/// One device's membership in a queue.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Member {
    /// The device.
    pub device: DeviceId,
    /// Whether calls are held back from it.
    pub paused: bool,
    /// Why, as the PBX or the admin put it.
    pub pause_reason: Option<String>,
    /// Since when it is a member.
    pub since: UnixMillis,
}
