//! The six kinds of record that admins edit, and the rules of each.

use std::sync::Arc;

use serde_json::Value;
use uuid::Uuid;

use super::noun::{Noun, UniqueKey, domain_key, email_key, queue_name_key, queue_number_key, token_key};
use super::{ChangeError, Registry, Table};
use crate::model::{
    Account, AccountId, Pbx, PbxId, Queue, QueueId, QueueRule, Scope, Site, SiteId, Token, TokenId, User, UserId,
};
use crate::store::{Kind, Row, Stored};

impl Noun for Account {
    type Id = AccountId;
    const KIND: Kind = Kind::Account;
    const EVENTS: [&'static str; 3] = ["account.created", "account.updated", "account.deleted"];

    fn id(&self) -> AccountId {
        self.id
    }

    fn uuid(id: AccountId) -> Uuid {
        id.0
    }

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

    fn limit(registry: &Registry) -> (&'static str, usize) {
        ("accounts_max", registry.limits.accounts_max)
    }

    fn table(registry: &Registry) -> &Table<Self> {
        &registry.accounts
    }

    fn row(stored: Arc<Stored<Self>>) -> Row {
        Row::Account(stored)
    }
}

impl Noun for Site {
    type Id = SiteId;
    const KIND: Kind = Kind::Site;
    const EVENTS: [&'static str; 3] = ["site.created", "site.updated", "site.deleted"];

    fn id(&self) -> SiteId {
        self.id
    }

    fn uuid(id: SiteId) -> Uuid {
        id.0
    }

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

    fn limit(registry: &Registry) -> (&'static str, usize) {
        ("phone_systems_max", registry.limits.phone_systems_max)
    }

    fn table(registry: &Registry) -> &Table<Self> {
        &registry.sites
    }

    fn row(stored: Arc<Stored<Self>>) -> Row {
        Row::Site(stored)
    }
}

impl Noun for Pbx {
    type Id = PbxId;
    const KIND: Kind = Kind::Pbx;
    const EVENTS: [&'static str; 3] = ["pbx.created", "pbx.updated", "pbx.deleted"];

    fn id(&self) -> PbxId {
        self.id
    }

    fn uuid(id: PbxId) -> Uuid {
        id.0
    }

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

    fn limit(registry: &Registry) -> (&'static str, usize) {
        ("phone_systems_max", registry.limits.phone_systems_max)
    }

    fn table(registry: &Registry) -> &Table<Self> {
        &registry.pbxs
    }

    fn row(stored: Arc<Stored<Self>>) -> Row {
        Row::Pbx(stored)
    }
}

impl Noun for User {
    type Id = UserId;
    const KIND: Kind = Kind::User;
    const EVENTS: [&'static str; 3] = ["user.created", "user.updated", "user.deleted"];

    fn id(&self) -> UserId {
        self.id
    }

    fn uuid(id: UserId) -> Uuid {
        id.0
    }

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

    fn limit(registry: &Registry) -> (&'static str, usize) {
        ("users_max", registry.limits.users_max)
    }

    fn table(registry: &Registry) -> &Table<Self> {
        &registry.users
    }

    fn row(stored: Arc<Stored<Self>>) -> Row {
        Row::User(stored)
    }
}

impl Noun for Queue {
    type Id = QueueId;
    const KIND: Kind = Kind::Queue;
    const EVENTS: [&'static str; 3] = ["queue.created", "queue.updated", "queue.deleted"];

    fn id(&self) -> QueueId {
        self.id
    }

    fn uuid(id: QueueId) -> Uuid {
        id.0
    }

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

    fn limit(registry: &Registry) -> (&'static str, usize) {
        ("phone_systems_max", registry.limits.phone_systems_max)
    }

    fn table(registry: &Registry) -> &Table<Self> {
        &registry.queues
    }

    fn row(stored: Arc<Stored<Self>>) -> Row {
        Row::Queue(stored)
    }
}

impl Noun for Token {
    type Id = TokenId;
    const KIND: Kind = Kind::Token;
    const EVENTS: [&'static str; 3] = ["token.created", "token.updated", "token.deleted"];

    fn id(&self) -> TokenId {
        self.id
    }

    fn uuid(id: TokenId) -> Uuid {
        id.0
    }

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

    fn limit(registry: &Registry) -> (&'static str, usize) {
        ("tokens_max", registry.limits.tokens_max)
    }

    fn table(registry: &Registry) -> &Table<Self> {
        &registry.tokens
    }

    fn row(stored: Arc<Stored<Self>>) -> Row {
        Row::Token(stored)
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
