//! Rows that the database will not take, and whom to tell.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::pending::Span;
use super::{DirtyKey, Seq};
use crate::model::Tick;

/// Rows that the database will not take. They stay in memory, and nobody is told that they are stored.
#[derive(Debug, Default)]
pub(super) struct Refused {
    any: AtomicBool,
    rows: Mutex<HashMap<DirtyKey, Refusal>>,
}

/// Until `until` all numbers of its span are refused, so that everyone who waits for one of them is told; others in
/// between may be told the same, wrongly but safely. After that only the record's own number is, until it changes.
#[derive(Clone, Copy, Debug)]
struct Refusal {
    record: Seq,
    span: Span,
    until: Tick,
}

impl Refused {
    /// Gives a row up. False when there are too many of these: then it is the database that is wrong, not the rows.
    pub(super) fn add(&self, key: DirtyKey, record: Seq, span: Span, now: Tick) -> bool {
        let mut rows = self.rows();
        if rows.len() >= REFUSED_MAX && !rows.contains_key(&key) {
            return false;
        }
        rows.insert(key, Refusal { record, span, until: now + SPAN_MS });
        self.any.store(true, Ordering::Release);
        true
    }

    /// Whether the change `seq` is, or may be, of such a row.
    pub(super) fn holds(&self, seq: Seq, now: Tick) -> bool {
        if !self.any.load(Ordering::Acquire) {
            return false;
        }
        self.rows().values().any(|refusal| {
            let waiting = refusal.until > now && (refusal.span.first..=refusal.span.last).contains(&seq.0);
            waiting || (refusal.record == seq && seq.0 > 0)
        })
    }

    /// What is written now is refused no more; `still` was refused again.
    pub(super) fn forgive(&self, written: impl Iterator<Item = DirtyKey>, still: &HashSet<DirtyKey>) {
        if !self.any.load(Ordering::Acquire) {
            return;
        }
        let mut rows = self.rows();
        for key in written.filter(|key| !still.contains(key)) {
            rows.remove(&key);
        }
        self.any.store(!rows.is_empty(), Ordering::Release);
    }

    fn rows(&self) -> MutexGuard<'_, HashMap<DirtyKey, Refusal>> {
        self.rows.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Most rows to give up before it is the database that is taken to be wrong.
const REFUSED_MAX: usize = 1_000;

/// How long everyone who may have waited for a refused row is told so; longer than anybody waits.
const SPAN_MS: u64 = 60_000;

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::store::Kind;

    #[test]
    fn a_refused_row_is_refused_until_it_is_written_and_its_neighbours_only_for_a_while() {
        let (refused, now) = (Refused::default(), Tick(1_000));
        let key = DirtyKey { kind: Kind::User, id: Uuid::from_u128(1) };
        assert!(!refused.holds(Seq(5), now));
        assert!(refused.add(key, Seq(7), Span { first: 4, last: 7, at: now }, now));
        assert!(refused.holds(Seq(4), now) && refused.holds(Seq(5), now) && refused.holds(Seq(7), now));
        assert!(!refused.holds(Seq(8), now));
        let later = now + SPAN_MS;
        assert!(!refused.holds(Seq(5), later));
        assert!(refused.holds(Seq(7), later));
        refused.forgive([key].into_iter(), &HashSet::from([key]));
        assert!(refused.holds(Seq(7), later));
        refused.forgive([key].into_iter(), &HashSet::new());
        assert!(!refused.holds(Seq(7), later));
    }

    #[test]
    fn when_every_row_is_refused_it_is_the_database_that_is_wrong() {
        let refused = Refused::default();
        let add = |n: usize| {
            let key = DirtyKey { kind: Kind::User, id: Uuid::from_u128(n as u128) };
            refused.add(key, Seq(1), Span { first: 1, last: 1, at: Tick(0) }, Tick(0))
        };
        assert!((0..REFUSED_MAX).all(add));
        assert!(!add(REFUSED_MAX));
        assert!(add(0));
    }
}
