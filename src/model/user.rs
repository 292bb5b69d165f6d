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
