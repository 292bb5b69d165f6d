//! Phone systems and the sites that join them.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::{AccountId, Network, PbxId, QueueId, SiteId, UnixMillis};

/// The PBXs a call may cross; calls are joined within one and never across two.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Site {
    /// Its id.
    pub id: SiteId,
    /// The account it belongs to.
    pub account: AccountId,
    /// What people call it.
    pub name: String,
    /// When it was created.
    pub created_at: UnixMillis,
}

/// One phone system.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Pbx {
    /// Its id.
    pub id: PbxId,
    /// The account it belongs to; a domain of another account (see `Account::domains`) chooses that one instead.
    pub account: AccountId,
    /// The site its calls are joined in.
    pub site: SiteId,
    /// What people call it.
    pub name: String,
    /// The canonical domain its devices' addresses-of-record are shown under.
    pub domain: String,
    /// Other names of that domain. Every IP literal, and with `any_domain` every unknown host, is one as well.
    pub aliases: Vec<String>,
    /// Whether a host nobody claims is an alias of `domain` (default) or is refused.
    pub any_domain: bool,
    /// Addresses or networks (`192.0.2.10`, `2001:db8::/32`) its SIP comes from. A listener peer in none of any
    /// PBX's networks belongs to the default PBX of the listener.
    pub networks: Vec<String>,
    /// Longest a passive binding is believed without a refresh, in seconds.
    pub passive_expires_max_s: u32,
    /// How long a passive binding past its time is `stale` before it is gone, in seconds.
    pub passive_grace_s: u32,
    /// How SIP on this PBX shows that a call is a queue call.
    pub queue_rules: Vec<QueueRule>,
    /// Whether changes made here may be sent to it (promise 8).
    pub control: bool,
    /// When it was created.
    pub created_at: UnixMillis,
}

/// One way to tell from SIP which queue a call is in. All tests name what must match; the first rule that does wins.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(tag = "match", rename_all = "snake_case")]
pub enum QueueRule {
    /// The caller dialled this number.
    Dialled {
        /// The queue's number, as dialled.
        number: String,
        /// The queue it means.
        queue: QueueId,
    },
    /// A header names the queue: its whole value, compared without case, is `value`.
    Header {
        /// Header name, e.g. `X-Queue`.
        name: String,
        /// What it must say; absent = any value that equals the queue's name.
        value: Option<String>,
        /// The queue it means; absent = the queue of that name on this PBX.
        queue: Option<QueueId>,
    },
    /// The caller's display name starts with this prefix (`SUPPORT: `, `SALES#`), which is not part of the name.
    NamePrefix {
        /// The prefix.
        prefix: String,
        /// The queue it means.
        queue: QueueId,
    },
}

impl Pbx {
    /// Whether `address` is in one of its networks. An entry that is no network matches nothing.
    #[must_use]
    pub fn has_address(&self, address: IpAddr) -> bool {
        self.networks.iter().any(|text| text.parse::<Network>().is_ok_and(|network| network.contains(address)))
    }
}
