//! Rows of the tables that mirror the registry, as sqlx reads them.

use sqlx::FromRow;

use super::cell::{At, Readable, seq};
use super::{StoreError, Stored};
use crate::model::{
    Account, AccountId, Device, DeviceId, Link, LinkId, Pbx, PbxId, Queue, QueueId, Site, SiteId, Token, TokenId,
    UnixMillis, User, UserId,
};

#[derive(FromRow)]
pub(super) struct AccountRow {
    id: String,
    parent: Option<String>,
    name: String,
    domains: String,
    number_plan: String,
    settings: String,
    created_at: i64,
    seq: i64,
}

impl Readable for AccountRow {
    type Record = Stored<Account>;

    fn into_record(self) -> Result<Self::Record, StoreError> {
        let at = At { table: "accounts", row: &self.id };
        let value = Account {
            id: AccountId(at.id("id", &self.id)?),
            parent: at.optional_id("parent", self.parent.as_deref())?.map(AccountId),
            domains: at.json("domains", &self.domains)?,
            number_plan: at.json("number_plan", &self.number_plan)?,
            settings: at.json("settings", &self.settings)?,
            name: self.name,
            created_at: UnixMillis(self.created_at),
        };
        Ok(Stored { value: value.into(), seq: seq(self.seq) })
    }
}

#[derive(FromRow)]
pub(super) struct SiteRow {
    id: String,
    account: String,
    name: String,
    created_at: i64,
    seq: i64,
}

impl Readable for SiteRow {
    type Record = Stored<Site>;

    fn into_record(self) -> Result<Self::Record, StoreError> {
        let at = At { table: "sites", row: &self.id };
        let value = Site {
            id: SiteId(at.id("id", &self.id)?),
            account: AccountId(at.id("account", &self.account)?),
            name: self.name,
            created_at: UnixMillis(self.created_at),
        };
        Ok(Stored { value: value.into(), seq: seq(self.seq) })
    }
}

#[derive(FromRow)]
pub(super) struct PbxRow {
    id: String,
    account: String,
    site: String,
    name: String,
    domain: String,
    aliases: String,
    any_domain: bool,
    networks: String,
    passive_expires_max_s: i64,
    passive_grace_s: i64,
    queue_rules: String,
    control: bool,
    created_at: i64,
    seq: i64,
}

impl Readable for PbxRow {
    type Record = Stored<Pbx>;

    fn into_record(self) -> Result<Self::Record, StoreError> {
        let at = At { table: "pbxs", row: &self.id };
        let value = Pbx {
            id: PbxId(at.id("id", &self.id)?),
            account: AccountId(at.id("account", &self.account)?),
            site: SiteId(at.id("site", &self.site)?),
            aliases: at.json("aliases", &self.aliases)?,
            networks: at.json("networks", &self.networks)?,
            passive_expires_max_s: at.number("passive_expires_max_s", self.passive_expires_max_s)?,
            passive_grace_s: at.number("passive_grace_s", self.passive_grace_s)?,
            queue_rules: at.json("queue_rules", &self.queue_rules)?,
            name: self.name,
            domain: self.domain,
            any_domain: self.any_domain,
            control: self.control,
            created_at: UnixMillis(self.created_at),
        };
        Ok(Stored { value: value.into(), seq: seq(self.seq) })
    }
}

#[derive(FromRow)]
pub(super) struct UserRow {
    id: String,
    account: String,
    email: Option<String>,
    name: String,
    enabled: bool,
    dnd: bool,
    pop_on: String,
    queues: String,
    queue_login: String,
    parked: String,
    created_at: i64,
    seq: i64,
}

impl Readable for UserRow {
    type Record = Stored<User>;

    fn into_record(self) -> Result<Self::Record, StoreError> {
        let at = At { table: "users", row: &self.id };
        let value = User {
            id: UserId(at.id("id", &self.id)?),
            account: AccountId(at.id("account", &self.account)?),
            pop_on: at.word("pop_on", &self.pop_on)?,
            queues: at.json("queues", &self.queues)?,
            queue_login: at.word("queue_login", &self.queue_login)?,
            parked: at.json("parked", &self.parked)?,
            email: self.email,
            name: self.name,
            enabled: self.enabled,
            dnd: self.dnd,
            created_at: UnixMillis(self.created_at),
        };
        Ok(Stored { value: value.into(), seq: seq(self.seq) })
    }
}

#[derive(FromRow)]
pub(super) struct QueueRow {
    id: String,
    account: String,
    pbx: String,
    name: String,
    number: Option<String>,
    members: String,
    reported: bool,
    absent_since: Option<i64>,
    created_at: i64,
    seq: i64,
}

impl Readable for QueueRow {
    type Record = Stored<Queue>;

    fn into_record(self) -> Result<Self::Record, StoreError> {
        let at = At { table: "queues", row: &self.id };
        let value = Queue {
            id: QueueId(at.id("id", &self.id)?),
            account: AccountId(at.id("account", &self.account)?),
            pbx: PbxId(at.id("pbx", &self.pbx)?),
            members: at.json("members", &self.members)?,
            reported: self.reported,
            absent_since: self.absent_since.map(UnixMillis),
            name: self.name,
            number: self.number,
            created_at: UnixMillis(self.created_at),
        };
        Ok(Stored { value: value.into(), seq: seq(self.seq) })
    }
}

#[derive(FromRow)]
pub(super) struct TokenRow {
    id: String,
    account: String,
    scope: String,
    user_id: Option<String>,
    pbx: Option<String>,
    label: String,
    hash: String,
    created_at: i64,
    expires_at: Option<i64>,
    seq: i64,
}

impl Readable for TokenRow {
    type Record = Stored<Token>;

    fn into_record(self) -> Result<Self::Record, StoreError> {
        let at = At { table: "tokens", row: &self.id };
        let value = Token {
            id: TokenId(at.id("id", &self.id)?),
            account: AccountId(at.id("account", &self.account)?),
            scope: at.word("scope", &self.scope)?,
            user: at.optional_id("user_id", self.user_id.as_deref())?.map(UserId),
            pbx: at.optional_id("pbx", self.pbx.as_deref())?.map(PbxId),
            label: self.label,
            hash: self.hash,
            created_at: UnixMillis(self.created_at),
            expires_at: self.expires_at.map(UnixMillis),
        };
        Ok(Stored { value: value.into(), seq: seq(self.seq) })
    }
}

#[derive(FromRow)]
pub(super) struct DeviceRow {
    id: String,
    account: String,
    pbx: String,
    user_part: String,
    extension: Option<String>,
    label: Option<String>,
    caller_id: Option<String>,
    enabled: bool,
    assignable: bool,
    last_caller: Option<String>,
    last_seen_at: i64,
    created_at: i64,
    seq: i64,
}

impl Readable for DeviceRow {
    type Record = Stored<Device>;

    fn into_record(self) -> Result<Self::Record, StoreError> {
        let at = At { table: "devices", row: &self.id };
        let value = Device {
            id: DeviceId(at.id("id", &self.id)?),
            account: AccountId(at.id("account", &self.account)?),
            pbx: PbxId(at.id("pbx", &self.pbx)?),
            user: self.user_part.into(),
            extension: self.extension.map(Into::into),
            label: self.label.map(Into::into),
            caller_id: self.caller_id.map(Into::into),
            enabled: self.enabled,
            assignable: self.assignable,
            last_caller: self.last_caller.map(Into::into),
            last_seen_at: UnixMillis(self.last_seen_at),
            created_at: UnixMillis(self.created_at),
        };
        Ok(Stored { value: value.into(), seq: seq(self.seq) })
    }
}

#[derive(FromRow)]
pub(super) struct BindingsRow {
    pub(super) device: String,
    pub(super) contacts: String,
    pub(super) seq: i64,
}

#[derive(FromRow)]
pub(super) struct LinkRow {
    id: String,
    account: String,
    device: String,
    user_id: String,
    began_at: i64,
    ended_at: Option<i64>,
    seq: i64,
}

impl Readable for LinkRow {
    type Record = Stored<Link>;

    fn into_record(self) -> Result<Self::Record, StoreError> {
        let at = At { table: "links", row: &self.id };
        let value = Link {
            id: LinkId(at.id("id", &self.id)?),
            account: AccountId(at.id("account", &self.account)?),
            device: DeviceId(at.id("device", &self.device)?),
            user: UserId(at.id("user_id", &self.user_id)?),
            began_at: UnixMillis(self.began_at),
            ended_at: self.ended_at.map(UnixMillis),
        };
        Ok(Stored { value: value.into(), seq: seq(self.seq) })
    }
}
