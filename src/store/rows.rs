//! Rows: how records are written down and read back.

use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;
use sqlx::FromRow;
use uuid::Uuid;

use super::{Seq, StoreError, Stored};
use crate::model::{
    Account, AccountId, Call, Device, DeviceId, Link, LinkId, Pbx, PbxId, Queue, QueueId, Site, SiteId, Token, TokenId,
    TrailEntry, Transition, UnixMillis, User, UserId,
};

/// A record on its way to its row.
#[derive(Clone, Debug)]
pub enum Row {
    /// A tenant.
    Account(Arc<Stored<Account>>),
    /// A site.
    Site(Arc<Stored<Site>>),
    /// A PBX.
    Pbx(Arc<Stored<Pbx>>),
    /// A person.
    User(Arc<Stored<User>>),
    /// A queue with its members.
    Queue(Arc<Stored<Queue>>),
    /// An API token.
    Token(Arc<Stored<Token>>),
    /// A device, without its bindings.
    Device(Box<Stored<Device>>),
    /// A link.
    Link(Arc<Stored<Link>>),
    /// All bindings of one device.
    Bindings {
        /// The device.
        device: DeviceId,
        /// The bindings, as [`contacts`](super::contacts) writes them.
        contacts: String,
        /// Their last change.
        seq: Seq,
    },
}

impl Row {
    /// The number of the record's last change.
    #[must_use]
    pub fn seq(&self) -> Seq {
        match self {
            Self::Account(row) => row.seq,
            Self::Site(row) => row.seq,
            Self::Pbx(row) => row.seq,
            Self::User(row) => row.seq,
            Self::Queue(row) => row.seq,
            Self::Token(row) => row.seq,
            Self::Device(row) => row.seq,
            Self::Link(row) => row.seq,
            Self::Bindings { seq, .. } => *seq,
        }
    }
}

/// A row of a table, as sqlx reads it, and the record it means.
pub(super) trait Readable {
    type Record;
    fn into_record(self) -> Result<Self::Record, StoreError>;
}

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
        Ok(Stored { value, seq: seq(self.seq) })
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
        Ok(Stored { value, seq: seq(self.seq) })
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
        Ok(Stored { value, seq: seq(self.seq) })
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
            email: self.email,
            name: self.name,
            enabled: self.enabled,
            dnd: self.dnd,
            created_at: UnixMillis(self.created_at),
        };
        Ok(Stored { value, seq: seq(self.seq) })
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
            name: self.name,
            number: self.number,
            created_at: UnixMillis(self.created_at),
        };
        Ok(Stored { value, seq: seq(self.seq) })
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
        Ok(Stored { value, seq: seq(self.seq) })
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
        Ok(Stored { value, seq: seq(self.seq) })
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
        Ok(Stored { value, seq: seq(self.seq) })
    }
}

#[derive(FromRow)]
pub(super) struct CallRow {
    id: String,
    body: String,
}

impl Readable for CallRow {
    type Record = Call;

    fn into_record(self) -> Result<Call, StoreError> {
        At { table: "calls", row: &self.id }.json("body", &self.body)
    }
}

#[derive(FromRow)]
pub(super) struct TrailRow {
    seq: i64,
    call_id: String,
    position: i64,
    at: i64,
    user_id: Option<String>,
    reason: String,
    device: Option<String>,
    queue: Option<String>,
    sessions: i64,
    event: String,
}

impl Readable for TrailRow {
    type Record = TrailEntry;

    fn into_record(self) -> Result<TrailEntry, StoreError> {
        let key = self.seq.to_string();
        let at = At { table: "trail", row: &key };
        Ok(TrailEntry {
            call: crate::model::CallId(at.id("call_id", &self.call_id)?),
            position: at.number("position", self.position)?,
            at: UnixMillis(self.at),
            user: at.optional_id("user_id", self.user_id.as_deref())?.map(UserId),
            reason: at.word("reason", &self.reason)?,
            device: at.optional_id("device", self.device.as_deref())?.map(DeviceId),
            queue: at.optional_id("queue", self.queue.as_deref())?.map(QueueId),
            sessions: at.number("sessions", self.sessions)?,
            event: self.event,
        })
    }
}

#[derive(FromRow)]
pub(super) struct TransitionRow {
    pub(super) seq: i64,
    device: String,
    at: i64,
    kind: String,
    contact: Option<String>,
    address: Option<String>,
    user_agent: Option<String>,
    cause: String,
}

impl Readable for TransitionRow {
    type Record = Transition;

    fn into_record(self) -> Result<Transition, StoreError> {
        let key = self.seq.to_string();
        let at = At { table: "transitions", row: &key };
        Ok(Transition {
            device: DeviceId(at.id("device", &self.device)?),
            at: UnixMillis(self.at),
            kind: at.word("kind", &self.kind)?,
            contact: self.contact,
            address: self.address.map(|address| at.parsed("address", &address)).transpose()?,
            user_agent: self.user_agent,
            cause: self.cause,
        })
    }
}

/// An enum without fields as its one word.
pub(super) fn word(value: &impl Serialize) -> Option<String> {
    serde_json::to_value(value).ok()?.as_str().map(Into::into)
}

/// A list or a settings object as text.
pub(super) fn json(value: &impl Serialize) -> String {
    // Strings, numbers and lists of them: nothing here can fail to serialise.
    serde_json::to_string(value).unwrap_or_default()
}

/// Numbers are stored as they are; a negative one is none of ours and counts as none.
pub(super) fn seq(number: i64) -> Seq {
    Seq(u64::try_from(number).unwrap_or(0))
}

/// Which row is being read, for the error that names it.
#[derive(Clone, Copy)]
pub(super) struct At<'a> {
    pub(super) table: &'static str,
    pub(super) row: &'a str,
}

impl At<'_> {
    pub(super) fn id(self, column: &'static str, text: &str) -> Result<Uuid, StoreError> {
        self.parsed(column, text)
    }

    fn optional_id(self, column: &'static str, text: Option<&str>) -> Result<Option<Uuid>, StoreError> {
        text.map(|text| self.id(column, text)).transpose()
    }

    fn json<T: DeserializeOwned>(self, column: &'static str, text: &str) -> Result<T, StoreError> {
        serde_json::from_str(text).map_err(|error| self.corrupt(column, &error))
    }

    fn word<T: DeserializeOwned>(self, column: &'static str, text: &str) -> Result<T, StoreError> {
        serde_json::from_value(text.into()).map_err(|error| self.corrupt(column, &error))
    }

    fn number<T: TryFrom<i64, Error: std::fmt::Display>>(
        self,
        column: &'static str,
        value: i64,
    ) -> Result<T, StoreError> {
        T::try_from(value).map_err(|error| self.corrupt(column, &error))
    }

    fn parsed<T: std::str::FromStr<Err: std::fmt::Display>>(
        self,
        column: &'static str,
        text: &str,
    ) -> Result<T, StoreError> {
        text.parse().map_err(|error| self.corrupt(column, &error))
    }

    pub(super) fn corrupt(self, column: &'static str, detail: &impl std::fmt::Display) -> StoreError {
        StoreError::Corrupt { table: self.table, column, row: self.row.into(), detail: detail.to_string() }
    }
}
