//! A record on its way to the database.

use std::sync::Arc;

use super::{Seq, Stored};
use crate::model::{Account, Device, DeviceSecret, Link, Pbx, Queue, Site, Token, User};

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
    /// A device's SIP password.
    Secret(Arc<Stored<DeviceSecret>>),
    /// A link.
    Link(Arc<Stored<Link>>),
    /// All bindings of one device.
    Bindings {
        /// Their [`line`](super::line()).
        line: String,
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
            Self::Secret(row) => row.seq,
            Self::Link(row) => row.seq,
            Self::Bindings { seq, .. } => *seq,
        }
    }
}
