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
    dirty: HashMap<DirtyKey, Span, foldhash::fast::RandomState>,
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
            dirty: HashMap::default(),
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
    pub(super) fn take(&mut self, keys_max: usize, history_max: usize) -> Taken {
        let mut keys = Vec::with_capacity(self.dirty.len().min(keys_max));
        while keys.len() < keys_max {
            let Some((_, key)) = self.front() else { break };
            self.order.pop_front();
            if let Some(span) = self.dirty.remove(&key) {
                keys.push((key, span));
            }
        }
        keys.sort_unstable_by_key(|(key, _)| *key);
        let mut history = Vec::with_capacity(self.history.len().min(history_max));
        while history.len() < history_max {
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
        self.compact();
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

    /// Drops the void entries once they are most of `order`: while the database is away, each attempt leaves one for each
    /// key that changed meanwhile.
    fn compact(&mut self) {
        if self.order.len() > 2 * self.dirty.len() + ORDER_SLACK {
            let dirty = &self.dirty;
            self.order.retain(|(first, key)| dirty.get(key).is_some_and(|span| span.first == *first));
        }
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

/// Void entries that are not worth a look.
const ORDER_SLACK: usize = 64;

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;
    use crate::model::{DeviceId, TransitionKind, UnixMillis};
    use crate::store::Kind;

    fn key(n: u8) -> DirtyKey {
        DirtyKey { kind: Kind::Bindings, id: Uuid::from_u128(n.into()) }
    }

    fn transition(n: i64) -> Transition {
        Transition {
            device: DeviceId(Uuid::nil()),
            at: UnixMillis(n),
            kind: TransitionKind::Up,
            contact: None,
            address: None,
            user_agent: None,
            cause: "registered".into(),
        }
    }

    #[test]
    fn a_key_that_changes_often_is_written_once_and_in_its_first_place() {
        let mut pending = Pending::new(Seq(10), 100);
        for n in [2, 1, 2, 2] {
            pending.mark(key(n), || Tick(7));
        }
        let taken = pending.take(1, 9);
        assert_eq!(taken.keys, [(key(2), Span { first: 11, last: 14, at: Tick(7) })]);
        assert_eq!(pending.watermark(), Seq(11), "12 is still dirty");
        assert_eq!(pending.take(9, 9).keys.len(), 1);
        assert_eq!(pending.watermark(), Seq(14));
    }

    #[test]
    fn keys_that_change_while_attempt_after_attempt_fails_take_no_more_room() {
        let mut pending = Pending::new(Seq(0), 100);
        for n in 0..100 {
            pending.mark(key(n), || Tick(0));
        }
        for _ in 0..1_000 {
            let taken = pending.take(10, 9);
            for (key, _) in &taken.keys {
                pending.mark(*key, || Tick(1));
            }
            pending.put_back(taken.keys, Vec::new());
        }
        assert_eq!(pending.dirty_keys(), 100);
        assert!(pending.order.len() <= 2 * 100 + ORDER_SLACK, "{}", pending.order.len());
        assert_eq!(pending.take(1, 9).keys[0].1.first, 1);
    }

    #[test]
    fn full_history_loses_its_oldest_entries_and_says_how_many() {
        let mut pending = Pending::new(Seq(0), 3);
        let dropped: usize = (0..5).map(|n| pending.push_transition(transition(n))).sum();
        assert_eq!(dropped, 2);
        let taken = pending.take(9, 9);
        let times: Vec<i64> = taken
            .history
            .iter()
            .map(|entry| if let History::Transition(_, entry) = entry { entry.at.0 } else { -1 })
            .collect();
        assert_eq!(times, [2, 3, 4]);
        assert_eq!(pending.push_transition(transition(5)), 0);
        assert_eq!(pending.put_back(Vec::new(), taken.history), 1, "the oldest of what comes back goes");
    }

    /// Keys taken, the number each was read at, and the watermark then.
    type Flight = (Vec<(DirtyKey, Span)>, BTreeMap<DirtyKey, u64>, Seq);

    #[derive(Clone, Debug)]
    enum Step {
        Mark(u8),
        Take(usize),
        Fail,
        Commit,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => (0_u8..6).prop_map(Step::Mark),
            2 => (1_usize..4).prop_map(Step::Take),
            1 => Just(Step::Fail),
            2 => Just(Step::Commit),
        ]
    }

    proptest! {
        /// Whatever is marked, taken, put back and committed in whichever order: no number is reached by the watermark
        /// before its key was written as it was at that number or later, and in the end every number is.
        #[test]
        fn the_watermark_never_passes_a_change_that_is_not_written(steps in prop::collection::vec(step(), 0..80)) {
            let mut pending = Pending::new(Seq(0), 10);
            let mut marks: Vec<(u64, DirtyKey)> = Vec::new();
            // By key, the last number that was written.
            let mut written: BTreeMap<DirtyKey, u64> = BTreeMap::new();
            // What is in flight, as it was read, and its watermark.
            let mut flight: Option<Flight> = None;
            let mut reached = Seq(0);
            for step in steps.into_iter().chain([Step::Commit, Step::Take(99), Step::Commit]) {
                match step {
                    Step::Mark(n) => {
                        let seq = pending.mark(key(n), || Tick(0));
                        marks.push((seq.0, key(n)));
                    }
                    Step::Take(max) if flight.is_none() => {
                        let keys = pending.take(max, max).keys;
                        let last = |key: DirtyKey| marks.iter().rev().find(|(_, of)| *of == key).map_or(0, |(seq, _)| *seq);
                        let read = keys.iter().map(|(key, _)| (*key, last(*key))).collect();
                        flight = Some((keys, read, pending.watermark()));
                    }
                    Step::Fail => {
                        if let Some((keys, ..)) = flight.take() {
                            pending.put_back(keys, Vec::new());
                        }
                    }
                    Step::Commit => {
                        if let Some((_, read, watermark)) = flight.take() {
                            written.extend(read);
                            prop_assert!(watermark >= reached, "the watermark never goes back");
                            reached = watermark;
                        }
                    }
                    Step::Take(_) => {}
                }
                for (seq, key) in marks.iter().filter(|(seq, _)| *seq <= reached.0) {
                    prop_assert!(written.get(key) >= Some(seq), "{seq} of {key:?} is not written");
                }
            }
            prop_assert_eq!(reached, pending.last());
        }
    }
}
