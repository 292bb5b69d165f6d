//! The six kinds of record that admins edit, and the rules of each.

use std::sync::Arc;

use serde_json::Value;
use uuid::Uuid;

use super::noun::{Kept, Noun, UniqueKey, domain_key, email_key, queue_name_key, queue_number_key, token_key};
use super::{ChangeError, Registry, Table};
use crate::model::{
    Account, AccountId, Pbx, PbxId, Queue, QueueId, QueueRule, Scope, Site, SiteId, Token, TokenId, User, UserId,
};
use crate::store::{Kind, Row, Seq, Stored};

/// What is the same for every kind but for names: id, database row, events, table and limit.
macro_rules! kept {
    ($($noun:ident: $id:ident in $table:ident, $event:literal, at most $limit:ident;)*) => {$(
        impl Kept for $noun {
            type Id = $id;
            const KIND: Kind = Kind::$noun;
            const EVENTS: [&'static str; 3] =
                [concat!($event, ".created"), concat!($event, ".updated"), concat!($event, ".deleted")];

            fn id(&self) -> $id {
                self.id
            }

            fn uuid(id: $id) -> Uuid {
                id.0
            }

            fn limit(registry: &Registry) -> (&'static str, usize) {
                (stringify!($limit), registry.limits.load().$limit)
            }

            fn table(registry: &Registry) -> &Table<Self> {
                &registry.$table
            }

            fn row(stored: Arc<Stored<Self>>) -> Row {
                Row::$noun(stored)
            }
        }
    )*};
}

kept! {
    Account: AccountId in accounts, "account", at most accounts_max;
    Site: SiteId in sites, "site", at most phone_systems_max;
    Pbx: PbxId in pbxs, "pbx", at most phone_systems_max;
    User: UserId in users, "user", at most users_max;
    Queue: QueueId in queues, "queue", at most phone_systems_max;
    Token: TokenId in tokens, "token", at most tokens_max;
}

impl Noun for Account {
    fn account(&self) -> AccountId {
        self.id
    }

    fn filed_under(&self) -> Vec<AccountId> {
        std::iter::once(self.id).chain(self.parent).collect()
    }

    fn sort_name(&self) -> String {
        self.name.to_lowercase()
    }

    fn unique_keys(&self) -> Vec<UniqueKey> {
        self.domains.iter().map(|domain| domain_key(domain)).collect()
    }

    fn references(&self) -> Vec<Uuid> {
        self.parent.map(|parent| parent.0).into_iter().collect()
    }

    fn check(&self, registry: &Registry) -> Result<(), ChangeError> {
        let Some(parent) = self.parent else { return Ok(()) };
        if registry.accounts.get(parent).is_none() {
            return invalid("parent: no such account");
        }
        if registry.account_within(parent, self.id) {
            return invalid("parent: an account can't be below itself");
        }
        if registry.account_depth(parent) + 1 >= super::ACCOUNT_DEPTH_MAX {
            return invalid("parent: accounts are nested too deep");
        }
        Ok(())
    }
}

impl Noun for Site {
    fn account(&self) -> AccountId {
        self.account
    }

    fn sort_name(&self) -> String {
        self.name.to_lowercase()
    }

    fn unique_keys(&self) -> Vec<UniqueKey> {
        vec![("site name", self.account.0, self.name.to_lowercase())]
    }

    fn references(&self) -> Vec<Uuid> {
        vec![self.account.0]
    }

    fn check(&self, registry: &Registry) -> Result<(), ChangeError> {
        account_exists(registry, self.account)
    }
}

impl Noun for Pbx {
    fn account(&self) -> AccountId {
        self.account
    }

    fn sort_name(&self) -> String {
        self.name.to_lowercase()
    }

    fn unique_keys(&self) -> Vec<UniqueKey> {
        vec![("PBX name", self.account.0, self.name.to_lowercase())]
    }

    fn references(&self) -> Vec<Uuid> {
        let rules = self.queue_rules.iter().filter_map(rule_queue).map(|queue| queue.0);
        [self.account.0, self.site.0].into_iter().chain(rules).collect()
    }

    fn check(&self, registry: &Registry) -> Result<(), ChangeError> {
        account_exists(registry, self.account)?;
        match registry.sites.get(self.site) {
            Some(site) if site.value.account == self.account => {}
            _ => return invalid("site: no such site in this account"),
        }
        for queue in self.queue_rules.iter().filter_map(rule_queue) {
            if registry.queues.get(queue).is_none_or(|queue| queue.value.pbx != self.id) {
                return invalid("queue_rules: no such queue on this PBX");
            }
        }
        Ok(())
    }
}

impl Noun for User {
    fn account(&self) -> AccountId {
        self.account
    }

    fn sort_name(&self) -> String {
        self.name.to_lowercase()
    }

    fn unique_keys(&self) -> Vec<UniqueKey> {
        self.email.iter().map(|email| email_key(self.account, email)).collect()
    }

    fn references(&self) -> Vec<Uuid> {
        std::iter::once(self.account.0).chain(self.queues.iter().map(|queue| queue.0)).collect()
    }

    fn tidy(&mut self) {
        self.queues.sort_unstable();
        self.queues.dedup();
    }

    fn check(&self, registry: &Registry) -> Result<(), ChangeError> {
        account_exists(registry, self.account)?;
        for queue in &self.queues {
            if registry.queues.get(*queue).is_none_or(|queue| queue.value.account != self.account) {
                return Err(ChangeError::Invalid { detail: format!("queues: no queue {queue} in this account") });
            }
        }
        Ok(())
    }
}

impl Noun for Queue {
    fn account(&self) -> AccountId {
        self.account
    }

    fn sort_name(&self) -> String {
        self.name.to_lowercase()
    }

    fn unique_keys(&self) -> Vec<UniqueKey> {
        let number = self.number.iter().map(|number| queue_number_key(self.pbx, number));
        std::iter::once(queue_name_key(self.pbx, &self.name)).chain(number).collect()
    }

    fn references(&self) -> Vec<Uuid> {
        let members = self.members.iter().map(|member| member.device.0);
        [self.account.0, self.pbx.0].into_iter().chain(members).collect()
    }

    fn tidy(&mut self) {
        self.members.sort_by_key(|member| member.device);
        self.members.dedup_by_key(|member| member.device);
    }

    fn check(&self, registry: &Registry) -> Result<(), ChangeError> {
        account_exists(registry, self.account)?;
        match registry.pbxs.get(self.pbx) {
            Some(pbx) if registry.account_within(self.account, pbx.value.account) => {}
            _ => return invalid("pbx: no such PBX in this account"),
        }
        for member in &self.members {
            if registry.account_of_device(member.device) != Some(self.account) {
                let detail = format!("members: no device {} in this account", member.device);
                return Err(ChangeError::Invalid { detail });
            }
        }
        Ok(())
    }

    fn updated(registry: &Registry, before: &Self, after: &Self, seq: Seq) {
        registry.tell_members(before, after, seq);
    }
}

impl Noun for Token {
    fn account(&self) -> AccountId {
        self.account
    }

    /// Tokens are listed in the order they were made, which is that of their ids.
    fn sort_name(&self) -> String {
        String::new()
    }

    fn unique_keys(&self) -> Vec<UniqueKey> {
        vec![token_key(&self.hash)]
    }

    fn references(&self) -> Vec<Uuid> {
        let user = self.user.map(|user| user.0);
        std::iter::once(self.account.0).chain(user).chain(self.pbx.map(|pbx| pbx.0)).collect()
    }

    fn check(&self, registry: &Registry) -> Result<(), ChangeError> {
        account_exists(registry, self.account)?;
        match self.user {
            Some(user) if registry.users.get(user).is_none_or(|user| user.value.account != self.account) => {
                return invalid("user: no such user in this account");
            }
            None if self.scope == Scope::Agent => return invalid("user: an agent token names its user"),
            _ => {}
        }
        match self.pbx {
            Some(pbx) if registry.pbxs.get(pbx).is_none_or(|pbx| pbx.value.account != self.account) => {
                invalid("pbx: no such PBX in this account")
            }
            None if self.scope == Scope::Pbx => invalid("pbx: a PBX token names its PBX"),
            _ => Ok(()),
        }
    }

    /// Without the hash.
    fn shown(&self) -> Value {
        serde_json::json!({
            "id": self.id, "scope": self.scope, "user": self.user, "pbx": self.pbx, "label": self.label,
            "created_at": self.created_at, "expires_at": self.expires_at,
        })
    }
}

/// The queue a rule names.
pub(super) fn rule_queue(rule: &QueueRule) -> Option<QueueId> {
    match rule {
        QueueRule::Dialled { queue, .. } | QueueRule::NamePrefix { queue, .. } => Some(*queue),
        QueueRule::Header { queue, .. } => *queue,
    }
}

fn account_exists(registry: &Registry, account: AccountId) -> Result<(), ChangeError> {
    if registry.accounts.get(account).is_some() { Ok(()) } else { invalid("account: no such account") }
}

fn invalid<T>(detail: &str) -> Result<T, ChangeError> {
    Err(ChangeError::Invalid { detail: detail.into() })
}
