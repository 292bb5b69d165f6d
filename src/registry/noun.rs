//! What [`Table`] needs to know about a kind of record.

use std::hash::Hash;
use std::sync::Arc;

use serde::Serialize;
use serde_json::Value;
use uuid::Uuid;

use super::{ChangeError, Registry, Table};
use crate::model::{AccountId, PbxId, canonical_host};
use crate::store::{Kind, Row, Seq, Stored};

/// Something that only one record may have: (of what, within what, which).
pub type UniqueKey = (&'static str, Uuid, String);

/// A kind of record as the registry and the database keep it.
pub trait Kept: Clone + PartialEq + Serialize + Send + Sync + Sized + 'static {
    /// Its id.
    type Id: Copy + Eq + Hash + std::fmt::Display;
    /// Its table in the database.
    const KIND: Kind;
    /// Names of its events: created, updated, deleted.
    const EVENTS: [&'static str; 3];

    /// Its id.
    fn id(&self) -> Self::Id;
    /// The id as the database has it.
    fn uuid(id: Self::Id) -> Uuid;
    /// How many its account may have: name of the limit, and the limit.
    fn limit(registry: &Registry) -> (&'static str, usize);
    /// Where it is kept.
    fn table(registry: &Registry) -> &Table<Self>
    where
        Self: Noun;
    /// On its way to the database.
    fn row(stored: Arc<Stored<Self>>) -> Row;
}

/// A kind of record that admins create, edit and delete, with its own rules.
pub trait Noun: Kept {
    /// The account it belongs to.
    fn account(&self) -> AccountId;
    /// The accounts whose listing shows it.
    fn filed_under(&self) -> Vec<AccountId> {
        vec![self.account()]
    }
    /// What its listing is ordered by, before the id.
    fn sort_name(&self) -> String;
    /// What no other record may have.
    fn unique_keys(&self) -> Vec<UniqueKey>;
    /// Ids of what it refers to, so that these know who needs them.
    fn references(&self) -> Vec<Uuid>;
    /// Puts lists in their canonical order.
    fn tidy(&mut self) {}
    /// Whether what it refers to is there and its own account's.
    ///
    /// # Errors
    /// [`ChangeError`] that names what is wrong.
    fn check(&self, registry: &Registry) -> Result<(), ChangeError>;
    /// What else there is to tell when it was edited.
    fn updated(_registry: &Registry, _before: &Self, _after: &Self, _seq: Seq) {}
    /// What its events show.
    fn shown(&self) -> Value {
        serde_json::to_value(self).unwrap_or_default()
    }
}

/// The account that owns a SIP domain.
pub(super) fn domain_key(domain: &str) -> UniqueKey {
    ("domain", Uuid::nil(), canonical_host(domain).into_owned())
}

/// The user with this email address.
pub(super) fn email_key(account: AccountId, email: &str) -> UniqueKey {
    ("email", account.0, email.to_lowercase())
}

/// The queue of this name on a PBX.
pub(super) fn queue_name_key(pbx: PbxId, name: &str) -> UniqueKey {
    ("queue name", pbx.0, name.to_lowercase())
}

/// The queue with this number on a PBX.
pub(super) fn queue_number_key(pbx: PbxId, number: &str) -> UniqueKey {
    ("queue number", pbx.0, number.to_owned())
}

/// The token with this hash.
pub(super) fn token_key(hash: &str) -> UniqueKey {
    ("token", Uuid::nil(), hash.to_owned())
}
