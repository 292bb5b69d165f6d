//! Tenants and the settings that shape what pops.

use serde::{Deserialize, Serialize};

use super::{AccountId, RegistrationSettings, UnixMillis};

/// A tenant. Everything belongs to exactly one; a parent (agency) may manage its children.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Account {
    /// Its id.
    pub id: AccountId,
    /// The agency above it, if any.
    pub parent: Option<AccountId>,
    /// What people call it.
    pub name: String,
    /// SIP domains that belong to this account on a PBX that serves several.
    pub domains: Vec<String>,
    /// How its numbers read.
    pub number_plan: NumberPlan,
    /// What pops when.
    pub settings: AccountSettings,
    /// When it was created.
    pub created_at: UnixMillis,
}

/// Which dialled or calling numbers are inside the office and which are the outside world.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct NumberPlan {
    /// Digit counts of internal extensions, e.g. `[3, 4]`.
    pub internal_lengths: Vec<u8>,
    /// The account's own direct numbers (any notation; compared as E.164): never external.
    pub dids: Vec<String>,
    /// ISO 3166-1 alpha-2 code that national notation is read with.
    pub default_country: String,
    /// Digit dialled before an outside number, stripped before parsing.
    pub outside_prefix: Option<String>,
    /// First characters of feature codes; a number that starts with one is never external.
    pub feature_code_prefixes: Vec<String>,
    /// Numbers that reach voicemail.
    pub voicemail: Vec<String>,
    /// Emergency numbers.
    pub emergency: Vec<String>,
}

impl Default for NumberPlan {
    fn default() -> Self {
        Self {
            internal_lengths: vec![2, 3, 4, 5],
            dids: Vec::new(),
            default_country: "US".into(),
            outside_prefix: None,
            feature_code_prefixes: vec!["*".into(), "#".into()],
            voicemail: Vec::new(),
            emergency: vec!["112".into(), "911".into(), "999".into()],
        }
    }
}

/// Account-wide choices: what pops, and how phones register.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct AccountSettings {
    /// Whether a queue call notifies when it rings a device or as soon as it joins the queue.
    pub queue_notice: QueueNotice,
    /// When an outbound external call pops.
    pub outbound: OutboundNotice,
    /// Whether internal calls pop like direct external ones.
    pub internal_popups: bool,
    /// Whether a user's queues are set by hand or follow the PBX's membership.
    pub user_queues: UserQueues,
    /// How its phones register here.
    pub registration: RegistrationSettings,
}

/// When a queue call notifies the users whose queues hold it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum QueueNotice {
    /// When it rings their device.
    #[default]
    Ring,
    /// When it joins the queue, before any device rings.
    Join,
}

/// When an outbound external call pops for the one who placed it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum OutboundNotice {
    /// When it is placed.
    #[default]
    Start,
    /// When the other side answers.
    Answer,
    /// Never.
    Never,
}

/// Where a user's queues come from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum UserQueues {
    /// An admin sets them on the user.
    #[default]
    Manual,
    /// They are the queues in which one of the user's devices is a member.
    FollowPbx,
}
