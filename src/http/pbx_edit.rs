//! What can be set of a PBX, and what of that can stand.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::problem::{Problem, Result};
use super::state::AppState;
use super::values;
use crate::model::{AccountId, Pbx, PbxId, QueueId, QueueRule, SiteId, UnixMillis};

/// What can be set of a PBX.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PbxEdit {
    /// The account it belongs to; by default the token's own. It can't be changed later.
    #[serde(default)]
    pub(super) account: Option<AccountId>,
    /// The site its calls are joined in.
    site: SiteId,
    /// What people call it, unique within the account.
    name: String,
    /// The canonical domain its devices' addresses-of-record are shown under.
    domain: String,
    /// Other names of that domain.
    #[serde(default)]
    aliases: Vec<String>,
    /// Whether a host nobody claims is an alias of `domain`.
    #[serde(default = "yes")]
    any_domain: bool,
    /// Addresses or networks its SIP comes from.
    #[serde(default)]
    networks: Vec<String>,
    /// Longest a passive binding is believed without a refresh, in seconds, 60 to 604 800.
    #[serde(default = "passive_expires_max_s")]
    passive_expires_max_s: u32,
    /// How long a passive binding past its time is `stale` before it is gone, in seconds, at most 86 400.
    #[serde(default = "passive_grace_s")]
    passive_grace_s: u32,
    /// How SIP on this PBX shows that a call is a queue call; the first rule that matches wins.
    #[serde(default)]
    queue_rules: Vec<QueueRule>,
    /// Whether changes made here may be sent to it.
    #[serde(default)]
    control: bool,
}

impl PbxEdit {
    /// As the PBX is now.
    pub(super) fn of(pbx: &Pbx) -> Self {
        let pbx = pbx.clone();
        Self {
            account: Some(pbx.account),
            site: pbx.site,
            name: pbx.name,
            domain: pbx.domain,
            aliases: pbx.aliases,
            any_domain: pbx.any_domain,
            networks: pbx.networks,
            passive_expires_max_s: pbx.passive_expires_max_s,
            passive_grace_s: pbx.passive_grace_s,
            queue_rules: pbx.queue_rules,
            control: pbx.control,
        }
    }

    /// The PBX that this makes.
    pub(super) fn into_pbx(self, id: PbxId, account: AccountId, created_at: UnixMillis) -> Pbx {
        Pbx {
            id,
            account,
            site: self.site,
            name: self.name,
            domain: self.domain,
            aliases: self.aliases,
            any_domain: self.any_domain,
            networks: self.networks,
            passive_expires_max_s: self.passive_expires_max_s,
            passive_grace_s: self.passive_grace_s,
            queue_rules: self.queue_rules,
            control: self.control,
            created_at,
        }
    }

    /// Tidied, once everything in it stands.
    ///
    /// # Errors
    /// 422 with the pointer of the member that does not.
    pub(super) fn checked(self, state: &AppState, account: AccountId, id: PbxId) -> Result<Self> {
        if state.registry.sites.get(self.site).is_none_or(|site| site.value.account != account) {
            return Err(Problem::invalid("/site", "the account has no such site"));
        }
        values::within("/passive_expires_max_s", self.passive_expires_max_s, 60..=604_800)?;
        values::within("/passive_grace_s", self.passive_grace_s, 0..=86_400)?;
        values::list("/queue_rules", &self.queue_rules)?;
        for (index, rule) in self.queue_rules.iter().enumerate() {
            let pointer = format!("/queue_rules/{index}");
            check_rule(&pointer, rule)?;
            let queue = queue_of(rule).map(|queue| state.registry.queues.get(queue));
            if queue.is_some_and(|queue| queue.is_none_or(|queue| queue.value.pbx != id)) {
                return Err(Problem::invalid(format!("{pointer}/queue"), "the PBX has no such queue"));
            }
        }
        let name = values::name("/name", &self.name)?;
        let domain = values::domain("/domain", &self.domain)?;
        let aliases = values::domains("/aliases", &self.aliases)?;
        let networks = values::networks("/networks", &self.networks)?;
        Ok(Self { name, domain, aliases, networks, ..self })
    }
}

fn queue_of(rule: &QueueRule) -> Option<QueueId> {
    match rule {
        QueueRule::Dialled { queue, .. } | QueueRule::NamePrefix { queue, .. } => Some(*queue),
        QueueRule::Header { queue, .. } => *queue,
    }
}

fn check_rule(pointer: &str, rule: &QueueRule) -> Result<()> {
    match rule {
        QueueRule::Dialled { number, .. } => {
            values::dialled(&format!("{pointer}/number"), Some(number))?
                .ok_or_else(|| Problem::invalid(format!("{pointer}/number"), "it must not be empty"))?;
        }
        QueueRule::Header { name, value, .. } => {
            // `token` of RFC 3261 §25.1.
            let token = |b: u8| b.is_ascii_alphanumeric() || b"-.!%*_+`'~".contains(&b);
            if name.is_empty() || name.len() > HEADER_NAME_MAX || !name.bytes().all(token) {
                return Err(Problem::invalid(format!("{pointer}/name"), "that is not a header name"));
            }
            values::remark(&format!("{pointer}/value"), value.as_deref())?;
        }
        // Its outer spaces are part of it: `SUPPORT: ` is not `SUPPORT:`.
        QueueRule::NamePrefix { prefix, .. } => {
            values::name(&format!("{pointer}/prefix"), prefix)?;
        }
    }
    Ok(())
}

const fn yes() -> bool {
    true
}

const fn passive_expires_max_s() -> u32 {
    7_200
}

const fn passive_grace_s() -> u32 {
    300
}

const HEADER_NAME_MAX: usize = 64;
