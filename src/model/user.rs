//! People, and the links between them and devices.

use serde::{Deserialize, Serialize};

use super::{AccountId, DeviceId, LinkId, QueueId, UnixMillis, UserId};

/// A person who may get popups.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct User {
    /// Its id.
    pub id: UserId,
    /// The account it belongs to.
    pub account: AccountId,
    /// Unique within the account, compared without case.
    pub email: Option<String>,
    /// What colleagues call them.
    pub name: String,
    /// Call logging and popups on (T10). New users are disabled except the first admin (T11).
    pub enabled: bool,
    /// Do not disturb: no popups while set.
    pub dnd: bool,
    /// When direct calls pop; queue calls do not ask.
    pub pop_on: PopOn,
    /// The queues whose calls notify before answer, as an admin set them (T14, T15).
    pub queues: Vec<QueueId>,
    /// Whether logging in and out of the app does the same in the queues (Q13).
    #[serde(default)]
    pub queue_login: QueueLogin,
    /// What the last logout took away and the next login gives back.
    #[serde(default)]
    pub parked: Vec<Parked>,
    /// When it was created.
    pub created_at: UnixMillis,
}

/// When a direct call pops for a user.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum PopOn {
    /// While it rings.
    #[default]
    Ring,
    /// Once the user answers.
    Answer,
    /// Never.
    Never,
}

/// Whether a person's login and logout are also those of their phones in the queues. Only an explicit logout counts: a
/// closed window, a lost stream or a restart never log anyone out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum QueueLogin {
    /// They are not: agents log in to queues on the phone, or an admin does it for them.
    #[default]
    Manual,
    /// They are.
    Session,
}

/// A membership that a logout ended or paused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Parked {
    /// The queue.
    pub queue: QueueId,
    /// The device.
    pub device: DeviceId,
    /// The penalty it had.
    pub penalty: u32,
}

/// One period in which a device was linked to a user (X5). Never deleted: an unlink ends it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Link {
    /// Its id.
    pub id: LinkId,
    /// The account of both.
    pub account: AccountId,
    /// The device.
    pub device: DeviceId,
    /// The user.
    pub user: UserId,
    /// When it began.
    pub began_at: UnixMillis,
    /// When it ended; none while it lasts.
    pub ended_at: Option<UnixMillis>,
}
