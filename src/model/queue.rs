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
    /// A feed of its PBX has told who is in it: its members are the PBX's to change.
    #[serde(default)]
    pub reported: bool,
    /// Since when that feed no longer lists it; none while the PBX has it, and where no feed tells.
    #[serde(default)]
    pub absent_since: Option<UnixMillis>,
    /// When it was created.
    pub created_at: UnixMillis,
}

impl Queue {
    /// Whether its members are the PBX's word, so that a change of them must go there.
    #[must_use]
    pub fn is_fed(&self) -> bool {
        self.reported && self.absent_since.is_none()
    }

    /// The device's membership.
    #[must_use]
    pub fn member(&self, device: DeviceId) -> Option<&Member> {
        self.members.iter().find(|member| member.device == device)
    }
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
    /// Order of preference as the PBX has it: lower ones are called first.
    #[serde(default)]
    pub penalty: u32,
    /// How it came into the queue.
    #[serde(default)]
    pub kind: MemberKind,
    /// What the PBX says of it now; `unknown` where no feed tells.
    #[serde(default)]
    pub state: MemberState,
}

impl Member {
    /// A member that was put in by hand.
    #[must_use]
    pub fn manual(device: DeviceId, paused: bool, pause_reason: Option<String>, since: UnixMillis) -> Self {
        let (kind, state) = (MemberKind::Manual, MemberState::Unknown);
        Self { device, paused, pause_reason, since, penalty: 0, kind, state }
    }
}

/// How a member came into its queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum MemberKind {
    /// By hand, through this API; no feed of the PBX has reported it.
    #[default]
    Manual,
    /// It stands in the PBX's configuration.
    Static,
    /// It joined while the PBX ran.
    Dynamic,
    /// The PBX reads it from its own database.
    Realtime,
}

/// What a PBX says of a queue member.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum MemberState {
    /// Nobody said.
    #[default]
    Unknown,
    /// It can be called.
    Free,
    /// It is in a call.
    InUse,
    /// It is in a call and takes no other one.
    Busy,
    /// It rings.
    Ringing,
    /// It has a call on hold.
    OnHold,
    /// Its phone can't be reached.
    Unavailable,
    /// Its agent has logged out.
    LoggedOut,
}
