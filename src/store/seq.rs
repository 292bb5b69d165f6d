//! Sequence numbers of changes, and the names of the records they change.

use std::fmt;
use std::sync::Arc;

use serde::Serialize;
use uuid::Uuid;

/// Position of a change in the order in which the registry made its changes, from 1. A record's number is that of its
/// last change and doubles as its entity tag; 0 means no change that anyone was promised.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct Seq(pub u64);

impl fmt::Display for Seq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A record and the number of its last change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored<T> {
    /// The record, so held that whoever asks for it alone gets no copy.
    pub value: Arc<T>,
    /// Its last change: what an answer that shows it waits for, and its entity tag.
    pub seq: Seq,
}

/// Names one row of the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DirtyKey {
    /// Its table.
    pub kind: Kind,
    /// Its primary key.
    pub id: Uuid,
}

/// The tables that mirror the registry, in the order in which a commit writes them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// Tenants.
    Account,
    /// Sites.
    Site,
    /// PBXs.
    Pbx,
    /// People.
    User,
    /// Queues with their members.
    Queue,
    /// API tokens.
    Token,
    /// Devices, without their bindings.
    Device,
    /// All bindings of one device.
    Bindings,
    /// SIP passwords of devices.
    Secret,
    /// Links, ended ones too.
    Link,
}
