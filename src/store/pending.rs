//! What waits for the next commit: a set of changed keys and a bounded queue of history.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use super::{DirtyKey, Seq};
use crate::model::{Call, CallId, Tick, TrailEntry, Transition};

/// Changes that are not yet on their way to the database. Bounded by the number of records and by `history_max`: a key
/// that changes a thousand times between two commits is here once and costs one row.
#[derive(Debug)]
pub(super) struct Pending {
    /// Last number given.
    last: u64,
    dirty: HashMap<DirtyKey, Span>,
    /// Dirty keys by their first change, oldest first. An entry whose number is not its key's `first` is void.
    order: VecDeque<(u64, DirtyKey)>,
    /// Oldest first, and so by number.
    history: VecDeque<Item>,
    /// Last number given to an entry of the history.
    last_history: u64,
    /// The latest state of each call named in `history`.
    calls: HashMap<CallId, Arc<Call>>,
    history_max: usize,
}

/// The changes of one key since it was last taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    /// Number of the first of them.
    pub(super) first: u64,
    /// Number of the last of them.
    pub(super) last: u64,
    /// When the first of them happened.
    pub(super) at: Tick,
}

/// What was taken to be written.
#[derive(Debug, Default)]
pub(super) struct Taken {
    /// Keys, in key order.
    pub(super) keys: Vec<(DirtyKey, Span)>,
    /// History, oldest first.
    pub(super) history: Vec<History>,
}

/// One entry of the history.
#[derive(Clone, Debug)]
pub(super) enum History {
    /// A call as it was when it was taken.
    Call(Seq, Arc<Call>),
    /// A reason.
    Trail(Seq, TrailEntry),
    /// A device going up or down.
    Transition(Seq, Transition),
}

#[derive(Debug)]
enum Item {
    Call(Seq, CallId),
    Trail(Seq, TrailEntry),
    Transition(Seq, Transition),
}

impl Item {
    fn seq(&self) -> Seq {
        match self {
            Self::Call(seq, _) | Self::Trail(seq, _) | Self::Transition(seq, _) => *seq,
        }
    }
}

impl Pending {
    /// Starts after `last`, the highest number the database has seen.
    pub(super) fn new(last: Seq, history_max: usize) -> Self {
        Self {
            last: last.0,
            dirty: HashMap::new(),
            order: VecDeque::new(),
            history: VecDeque::new(),
            last_history: last.0,
            calls: HashMap::new(),
            history_max: history_max.max(1),
        }
    }

    /// Notes that `key` changed. Numbering and noting are one step: a number given before a [`Pending::take`] is
    /// covered by its watermark, one given after is not.
    pub(super) fn mark(&mut self, key: DirtyKey, at: impl FnOnce() -> Tick) -> Seq {
        self.last += 1;
        match self.dirty.entry(key) {
            Entry::Occupied(mut span) => span.get_mut().last = self.last,
            Entry::Vacant(free) => {
                free.insert(Span { first: self.last, last: self.last, at: at() });
                self.order.push_back((self.last, key));
            }
        }
        Seq(self.last)
    }

    /// Queues a call's present state; one still queued for the same call is replaced where it stands. Says how many old
    /// entries had to go.
    pub(super) fn push_call(&mut self, call: Arc<Call>) -> usize {
        let id = call.id;
        if self.calls.insert(id, call).is_none() {
            let seq = self.number_history();
            self.history.push_back(Item::Call(seq, id));
        }
        self.trim()
    }

    /// Queues a reason. Says how many old entries had to go.
    pub(super) fn push_trail(&mut self, entry: TrailEntry) -> usize {
        let seq = self.number_history();
        self.history.push_back(Item::Trail(seq, entry));
        self.trim()
    }

    /// Queues a transition. Says how many old entries had to go.
    pub(super) fn push_transition(&mut self, transition: Transition) -> usize {
        let seq = self.number_history();
        self.history.push_back(Item::Transition(seq, transition));
        self.trim()
    }

    /// Last number given.
    pub(super) fn last(&self) -> Seq {
        Seq(self.last)
    }

    /// Last number given to an entry of the history.
    pub(super) fn last_history(&self) -> Seq {
        Seq(self.last_history)
    }

    /// Once all that was taken is committed, every change up to here is. Every change numbered below the first of what
    /// is dirty belongs to a key that is not, and so was taken after it.
    pub(super) fn watermark(&mut self) -> Seq {
        Seq(self.front().map_or(self.last, |(first, _)| first - 1))
    }

    /// Once all that was taken is committed, the history up to here is, or was dropped.
    pub(super) fn history_watermark(&self) -> Seq {
        Seq(self.history.front().map_or(self.last, |item| item.seq().0 - 1))
    }

    /// Whether there is nothing to write.
    pub(super) fn is_empty(&self) -> bool {
        self.dirty.is_empty() && self.history.is_empty()
    }

    /// How many keys wait.
    pub(super) fn dirty_keys(&self) -> usize {
        self.dirty.len()
    }

    /// When the key that waits longest changed first.
    pub(super) fn oldest(&mut self) -> Option<Tick> {
        let (_, key) = self.front()?;
        self.dirty.get(&key).map(|span| span.at)
    }

    /// Takes up to `keys_max` keys, those that wait longest, and as many entries of history.
    pub(super) fn take(&mut self, keys_max: usize) -> Taken {
        let mut keys = Vec::with_capacity(self.dirty.len().min(keys_max));
        while keys.len() < keys_max {
            let Some((_, key)) = self.front() else { break };
            self.order.pop_front();
            if let Some(span) = self.dirty.remove(&key) {
                keys.push((key, span));
            }
        }
        keys.sort_unstable_by_key(|(key, _)| *key);
        let mut history = Vec::with_capacity(self.history.len().min(keys_max));
        while history.len() < keys_max {
            let Some(item) = self.history.pop_front() else { break };
            match item {
                Item::Call(seq, id) => history.extend(self.calls.remove(&id).map(|call| History::Call(seq, call))),
                Item::Trail(seq, entry) => history.push(History::Trail(seq, entry)),
                Item::Transition(seq, transition) => history.push(History::Transition(seq, transition)),
            }
        }
        Taken { keys, history }
    }

    /// Undoes a [`Pending::take`], or part of it. Says how many entries of history no longer fit.
    pub(super) fn put_back(&mut self, mut keys: Vec<(DirtyKey, Span)>, history: Vec<History>) -> usize {
        keys.sort_unstable_by_key(|(_, span)| std::cmp::Reverse(span.first));
        for (key, span) in keys {
            let newer = self.dirty.get(&key).map_or(span.last, |newer| newer.last);
            self.dirty.insert(key, Span { last: newer, ..span });
            self.order.push_front((span.first, key));
        }
        for entry in history.into_iter().rev() {
            match entry {
                History::Call(seq, call) => {
                    let id = call.id;
                    // A newer state of the call may have been queued since.
                    if let Entry::Vacant(free) = self.calls.entry(id) {
                        free.insert(call);
                        self.history.push_front(Item::Call(seq, id));
                    }
                }
                History::Trail(seq, entry) => self.history.push_front(Item::Trail(seq, entry)),
                History::Transition(seq, transition) => self.history.push_front(Item::Transition(seq, transition)),
            }
        }
        self.trim()
    }

    fn number_history(&mut self) -> Seq {
        self.last += 1;
        self.last_history = self.last;
        Seq(self.last)
    }

    /// The valid entry at the front of `order`, after dropping void ones.
    fn front(&mut self) -> Option<(u64, DirtyKey)> {
        while let Some(&(first, key)) = self.order.front() {
            if self.dirty.get(&key).is_some_and(|span| span.first == first) {
                return Some((first, key));
            }
            self.order.pop_front();
        }
        None
    }

    /// Drops the oldest history until it fits.
    fn trim(&mut self) -> usize {
        let mut dropped = 0;
        while self.history.len() > self.history_max {
            if let Some(Item::Call(_, id)) = self.history.pop_front() {
                self.calls.remove(&id);
            }
            dropped += 1;
        }
        dropped
    }
}
