//! INVITEs answered a moment ago, so that their CANCEL gets 200 and a stray one 481 (RFC 3261 §9.2).

use std::hash::{BuildHasher as _, RandomState};
use std::sync::{Mutex, PoisonError};

use crate::model::Tick;
use crate::sip::{Message, Refusal};

use super::recent::Recent;

/// Server transactions, as far as a stateless server needs them.
pub(super) struct Transactions {
    answered: Mutex<Recent<u64, ()>>,
    hasher: RandomState,
}

impl Transactions {
    pub(super) fn new() -> Self {
        Self { answered: Mutex::new(Recent::new(ANSWERED_MAX, ANSWERED_MS)), hasher: RandomState::new() }
    }

    /// Notes an INVITE that is being answered.
    pub(super) fn answered(&self, invite: &Message<'_>, now: Tick) {
        let Some(key) = self.key(invite) else { return };
        if !self.answered.lock().unwrap_or_else(PoisonError::into_inner).put(key, (), now) {
            metrics::counter!("hookswitch_dropped_total", "where" => "sip", "reason" => "transactions").increment(1);
        }
    }

    /// Judges a CANCEL: it changes nothing, since its INVITE has its final answer, but it is told whether there was one.
    ///
    /// # Errors
    /// 481 when there was none.
    pub(super) fn cancel(&self, cancel: &Message<'_>, now: Tick) -> Result<(), Refusal> {
        let known = self
            .key(cancel)
            .is_some_and(|key| self.answered.lock().unwrap_or_else(PoisonError::into_inner).peek(&key, now).is_some());
        if known { Ok(()) } else { Err(no_transaction()) }
    }

    /// A CANCEL has the branch and sent-by of its INVITE (RFC 3261 §17.2.3).
    fn key(&self, message: &Message<'_>) -> Option<u64> {
        let via = message.top_via().ok()?;
        let number = message.cseq().ok()?.number;
        Some(self.hasher.hash_one((via.branch, via.host, via.port, message.call_id()?, number)))
    }
}

/// 481.
pub(super) fn no_transaction() -> Refusal {
    Refusal::new(481, "Call/Transaction Does Not Exist", "no_transaction")
}

/// 64 × T1: as long as a client retransmits (RFC 3261 §17.1.1.2).
const ANSWERED_MS: u64 = 32_000;
const ANSWERED_MAX: usize = 16_384;
