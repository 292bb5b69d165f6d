//! Events wait here for the commit of what they tell: nobody hears of a change that a crash could undo.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use serde_json::Value;

use super::Registry;
use crate::model::AccountId;
use crate::store::Seq;

/// Events in the order they happened. Bounded; with the database away the oldest go.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    waiting: Mutex<VecDeque<Event>>,
}

#[derive(Debug)]
struct Event {
    seq: Seq,
    account: AccountId,
    kind: &'static str,
    data: Value,
}

impl Registry {
    /// Tells the account's admins what happened once `seq` is stored; number 0 promises nothing and is told at once.
    pub(super) fn announce(&self, seq: Seq, account: AccountId, kind: &'static str, data: Value) {
        let dropped = self.outbox.push(Event { seq, account, kind, data });
        if dropped {
            super::count_dropped("outbox");
        }
        self.release();
    }

    /// Publishes what is stored by now, in order; what the database refused is nobody's news.
    pub(super) fn release(&self) {
        // One at a time, or two releases could publish in the wrong order.
        let mut waiting = self.outbox.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let committed = *self.journal.committed_watch().borrow();
        while waiting.front().is_some_and(|event| event.seq.0 <= committed) {
            let Some(event) = waiting.pop_front() else { break };
            if !self.journal.is_refused(event.seq) {
                self.streams.publish(event.account, event.kind, event.data);
            }
        }
    }
}

impl Outbox {
    /// True when an old event had to go.
    fn push(&self, event: Event) -> bool {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.push_back(event);
        let full = waiting.len() > WAITING_MAX;
        if full {
            waiting.pop_front();
        }
        full
    }
}

const WAITING_MAX: usize = 10_000;
