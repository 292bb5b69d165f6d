//! What is asked, of whom, and what comes of it.

use std::net::IpAddr;

use super::Branch;
#[cfg(doc)]
use super::Keepalive;
use crate::model::DeviceId;

/// How much may go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Questions and repetitions a second; repetitions are never kept back, but new questions then are.
    pub per_second: u32,
    /// Questions that wait for their answer.
    pub under_way_max: usize,
}

/// One contact of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// The device.
    pub device: DeviceId,
    /// Its contact, as a hash of the caller's.
    pub contact: u64,
}

/// A contact a device has after a REGISTER.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Contact {
    /// As in [`Key`].
    pub contact: u64,
    /// Whether this REGISTER set or refreshed it.
    pub is_fresh: bool,
}

/// How a phone is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Question {
    /// From one question to the next, at most.
    pub period_ms: u64,
    /// How long an answer may take.
    pub timeout_ms: u64,
    /// Misses in a row that end the binding; 0 = none does.
    pub misses_max: u32,
    /// Ways to the phone that are tried in turn, since it is not known which one leads there: that many misses count as one.
    pub ways: u32,
    /// It went over a connection, where nothing is repeated.
    pub is_reliable: bool,
    /// A proxy stands before the phone (RFC 3327), which says so when it can't reach it.
    pub is_proxied: bool,
    /// Who may answer.
    pub peer: IpAddr,
}

/// What is to be done.
#[derive(Debug, PartialEq, Eq)]
pub enum Action<'a, M> {
    /// It is this contact's turn. Answer with [`Keepalive::ask`], [`Keepalive::later`] or [`Keepalive::forget`].
    Look(Look),
    /// Send the same once more.
    Again(Branch, &'a M),
    /// There was no answer in time.
    Missed(Miss<M>),
}

/// A contact whose turn it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Look {
    /// The contact.
    pub key: Key,
    /// The socket its REGISTER came to, where that is known.
    pub socket: Option<u16>,
    /// Which of the ways to take, counted on with each miss.
    pub turn: u32,
    /// What kept it waiting for more than a second.
    pub late: Option<Limit>,
}

/// A question without an answer.
#[derive(Debug, PartialEq, Eq)]
pub struct Miss<M> {
    /// Of the question.
    pub message: M,
    /// No way leads to the phone now.
    pub is_unreachable: bool,
    /// There were too many in a row: the binding has to go. It is not asked again.
    pub is_over: bool,
}

/// What a response is.
#[derive(Debug, PartialEq, Eq)]
pub enum Answer<M> {
    /// No answer to a question that waits for one: late, repeated or made up.
    Unknown,
    /// The right branch from the wrong address.
    Stranger,
    /// There will be another one (1xx).
    Provisional,
    /// The phone lives, whatever it answers.
    Alive(M),
    /// A proxy could not reach the phone.
    Missed(Miss<M>),
}

/// What keeps a phone waiting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// [`Bounds::per_second`]
    Rate,
    /// [`Bounds::under_way_max`]
    UnderWay,
}

impl Limit {
    /// A metric label.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Rate => "per_second",
            Self::UnderWay => "under_way",
        }
    }
}
