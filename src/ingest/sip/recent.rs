//! What was seen a moment ago, in a table that can't grow.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::hash::Hash;

use foldhash::quality::RandomState;

use crate::model::Tick;

/// Values by key, each kept for a fixed time and at most so many; the oldest goes first. Pure; time comes in.
#[derive(Debug)]
pub struct Recent<K, V> {
    values: HashMap<K, (Tick, V), RandomState>,
    /// Keys in the order they were put; one put again stands here twice, and only its later time counts.
    order: VecDeque<(Tick, K)>,
    keep_ms: u64,
    values_max: usize,
}

/// What became of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Put {
    /// It is new.
    New,
    /// It is new, and an older one had to go before its time.
    Crowded,
    /// One of its key was there.
    Known,
}

impl<K: Hash + Eq + Clone, V> Recent<K, V> {
    /// Keeps up to `values_max` values for `keep_ms` each.
    pub fn new(values_max: usize, keep_ms: u64) -> Self {
        Self { values: HashMap::default(), order: VecDeque::new(), keep_ms, values_max }
    }

    /// Remembers `value`; one of the same key is replaced and its time starts again. False when an older value had
    /// to go before its time to make room.
    pub fn put(&mut self, key: K, value: V, now: Tick) -> bool {
        self.forget(now);
        let in_time = self.make_room();
        self.order.push_back((now, key.clone()));
        self.values.insert(key, (now, value));
        in_time
    }

    /// Remembers `value` unless one of the same key is there, whose time goes on. Whether it was there, or else whether an
    /// older one had to go before its time to make room.
    pub fn put_new(&mut self, key: K, value: V, now: Tick) -> Put {
        self.forget(now);
        match self.values.entry(key.clone()) {
            Entry::Occupied(_) => return Put::Known,
            Entry::Vacant(vacant) => {
                vacant.insert((now, value));
            }
        }
        let in_time = self.make_room();
        self.order.push_back((now, key));
        if in_time { Put::New } else { Put::Crowded }
    }

    /// The value put under `key`, if its time is not over.
    pub fn peek(&mut self, key: &K, now: Tick) -> Option<&V> {
        self.forget(now);
        self.values.get(key).map(|(_, value)| value)
    }

    /// Lets the oldest go until one more fits; false when one was still in its time.
    fn make_room(&mut self) -> bool {
        let mut in_time = true;
        while self.order.len() >= self.values_max {
            let Some((at, oldest)) = self.order.pop_front() else { break };
            in_time &= !self.remove_if_of(at, &oldest);
        }
        in_time
    }

    fn forget(&mut self, now: Tick) {
        while let Some((at, key)) = self.order.pop_front_if(|(at, _)| now - *at >= self.keep_ms) {
            self.remove_if_of(at, &key);
        }
    }

    /// Removes the value unless it was put again later.
    fn remove_if_of(&mut self, at: Tick, key: &K) -> bool {
        let theirs = self.values.get(key).is_some_and(|(put, _)| *put == at);
        if theirs {
            self.values.remove(key);
        }
        theirs
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_there_until_its_time_is_over() {
        let mut recent = Recent::new(10, 500);
        recent.put("a", 1, Tick(0));
        assert_eq!(recent.peek(&"a", Tick(499)), Some(&1));
        assert_eq!(recent.peek(&"a", Tick(500)), None);
    }

    #[test]
    fn putting_again_starts_its_time_again() {
        let mut recent = Recent::new(10, 500);
        recent.put("a", 1, Tick(0));
        recent.put("a", 2, Tick(300));
        assert_eq!(recent.peek(&"a", Tick(700)), Some(&2));
    }

    #[test]
    fn one_that_is_there_stays_as_it_is() {
        let mut recent = Recent::new(2, 500);
        assert_eq!(recent.put_new("a", 1, Tick(0)), Put::New);
        assert_eq!(recent.put_new("a", 2, Tick(400)), Put::Known);
        assert_eq!(recent.peek(&"a", Tick(499)), Some(&1));
        assert_eq!(recent.put_new("a", 3, Tick(500)), Put::New);
        assert_eq!(recent.put_new("b", 4, Tick(500)), Put::New);
        assert_eq!(recent.put_new("c", 5, Tick(500)), Put::Crowded);
        assert_eq!(recent.peek(&"a", Tick(500)), None);
        assert_eq!(recent.peek(&"c", Tick(500)), Some(&5));
    }

    #[test]
    fn it_never_holds_more_than_it_may_and_says_when_one_had_to_go() {
        let mut recent = Recent::new(3, 500);
        for key in 0..3 {
            assert!(recent.put(key, (), Tick(key)));
        }
        assert!(!recent.put(3, (), Tick(3)));
        assert_eq!(recent.peek(&0, Tick(3)), None);
        assert!(recent.peek(&1, Tick(3)).is_some());
        for again in 0..1000 {
            recent.put(7, (), Tick(4 + again % 2));
        }
        assert!(recent.order.len() <= 3 && recent.values.len() <= 3);
    }
}
