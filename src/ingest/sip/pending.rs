//! Replies that wait for their change to be committed (promise 1), bounded in number and in time (promise 4).

use std::collections::{BTreeMap, VecDeque};

use crate::model::Tick;

/// Replies held back, each until its sequence number is committed or its deadline passes. Pure; time comes in.
#[derive(Debug)]
pub struct Pending<T> {
    /// By sequence number, then by arrival: what a commit frees is the front of it.
    held: BTreeMap<Key, T>,
    /// In the order of arrival, which is the order of the deadlines, since all wait equally long. A key that is no
    /// longer held was answered in time.
    deadlines: VecDeque<(Tick, Key)>,
    arrivals: u64,
    wait_ms: u64,
    held_max: usize,
}

type Key = (u64, u64);

impl<T> Pending<T> {
    /// Holds up to `held_max` replies for `wait_ms` each.
    pub fn new(held_max: usize, wait_ms: u64) -> Self {
        Self { held: BTreeMap::new(), deadlines: VecDeque::new(), arrivals: 0, wait_ms, held_max }
    }

    /// Goes by these from now on; what is held waits as long as it was to. A shorter wait of a later one ends with that of
    /// those before it.
    pub fn bound(&mut self, held_max: usize, wait_ms: u64) {
        (self.held_max, self.wait_ms) = (held_max, wait_ms);
    }

    /// Whether another reply may be held. Asked before the change is made, so that a refused request changes nothing.
    pub fn has_room(&self) -> bool {
        self.held.len() < self.held_max
    }

    /// How many replies are held.
    pub fn len(&self) -> usize {
        self.held.len()
    }

    /// Whether nothing is held.
    pub fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// Holds `reply` until `seq` is committed. The caller has asked [`Self::has_room`].
    pub fn hold(&mut self, seq: u64, reply: T, now: Tick) {
        let key = (seq, self.arrivals);
        self.arrivals += 1;
        self.held.insert(key, reply);
        self.deadlines.push_back((now + self.wait_ms, key));
    }

    /// Takes one reply whose change is committed.
    pub fn committed(&mut self, watermark: u64) -> Option<T> {
        let first = self.held.first_entry()?;
        let reply = (first.key().0 <= watermark).then(|| first.remove());
        if self.held.is_empty() {
            self.deadlines.clear();
        }
        reply
    }

    /// Takes one reply whose deadline has passed.
    pub fn overdue(&mut self, now: Tick) -> Option<T> {
        while let Some((_, key)) = self.deadlines.pop_front_if(|(deadline, _)| *deadline <= now) {
            if let Some(reply) = self.held.remove(&key) {
                return Some(reply);
            }
        }
        None
    }

    /// When [`Self::overdue`] is worth asking next; none while nothing is held.
    pub fn next_deadline(&mut self) -> Option<Tick> {
        // Answered ones at the front would only wake the caller for nothing.
        while self.deadlines.pop_front_if(|(_, key)| !self.held.contains_key(key)).is_some() {}
        self.deadlines.front().map(|(deadline, _)| *deadline)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drain(pending: &mut Pending<&'static str>, watermark: u64) -> Vec<&'static str> {
        std::iter::from_fn(|| pending.committed(watermark)).collect()
    }

    #[test]
    fn a_commit_frees_all_up_to_its_number_and_no_more() {
        let mut pending = Pending::new(10, 1000);
        pending.hold(7, "seven", Tick(0));
        pending.hold(5, "five", Tick(1));
        pending.hold(5, "five again", Tick(2));
        pending.hold(9, "nine", Tick(3));
        assert_eq!(drain(&mut pending, 4), [""; 0]);
        assert_eq!(drain(&mut pending, 7), ["five", "five again", "seven"]);
        assert_eq!(pending.len(), 1);
    }

    #[test]
    fn what_is_not_committed_in_time_is_overdue_once() {
        let mut pending = Pending::new(10, 1000);
        pending.hold(1, "one", Tick(0));
        pending.hold(2, "two", Tick(10));
        assert_eq!(drain(&mut pending, 1), ["one"]);
        assert_eq!(pending.next_deadline(), Some(Tick(1010)));
        assert_eq!(pending.overdue(Tick(1009)), None);
        assert_eq!(pending.overdue(Tick(1010)), Some("two"));
        assert_eq!(pending.overdue(Tick(5000)), None);
        assert!(pending.is_empty());
        assert_eq!(pending.next_deadline(), None);
    }

    #[test]
    fn it_has_room_for_so_many() {
        let mut pending = Pending::new(2, 1000);
        pending.hold(1, "one", Tick(0));
        assert!(pending.has_room());
        pending.hold(2, "two", Tick(0));
        assert!(!pending.has_room());
        pending.committed(1);
        assert!(pending.has_room());
    }

    #[test]
    fn answered_replies_leave_nothing_behind() {
        let mut pending = Pending::new(10, 1000);
        for round in 0..10_000 {
            pending.hold(round, "reply", Tick(round));
            assert_eq!(pending.committed(round), Some("reply"));
        }
        assert!(pending.deadlines.len() <= 1);
    }
}
