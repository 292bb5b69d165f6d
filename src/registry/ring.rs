//! The last events of one stream.

use std::collections::VecDeque;
use std::collections::hash_map::RandomState;
use std::fmt;
use std::hash::BuildHasher;
use std::str::FromStr;
use std::sync::atomic::AtomicU32;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use crate::model::Tick;

/// One event, ready to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Its place.
    pub id: EventId,
    /// Its name, e.g. `offer` or `device.up`.
    pub kind: &'static str,
    /// Its JSON, on one line.
    pub data: Box<str>,
    /// When the input behind it was read off its feed, for `popup_seconds`.
    pub read_at: Option<Tick>,
}

/// A place in a ring: `<epoch>-<n>`, the epoch in hexadecimal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventId {
    /// Which ring.
    pub epoch: u64,
    /// Which event of it, from 1; 0 is the place before the first.
    pub n: u64,
}

/// A ring of events, numbered without a gap.
#[derive(Debug)]
pub(super) struct Ring {
    pub epoch: u64,
    capacity: usize,
    pub subscribers: AtomicU32,
    /// How often its last subscriber left; tells a ring that was used again from one that was not.
    pub idled: AtomicU32,
    /// The last events, numbers contiguous, the newest one's number in `head`. A plain lock: it is held to push one
    /// pointer or to copy one.
    events: Mutex<VecDeque<Arc<Event>>>,
    /// Number of the newest event.
    pub head: watch::Sender<u64>,
}

/// Where a reader stands.
pub(super) enum Place {
    Event(Arc<Event>),
    Head,
    Gap,
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}-{}", self.epoch, self.n)
    }
}

impl FromStr for EventId {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (epoch, n) = text.split_once('-').ok_or(())?;
        Ok(Self { epoch: u64::from_str_radix(epoch, 16).map_err(|_| ())?, n: n.parse().map_err(|_| ())? })
    }
}

impl Ring {
    pub fn new(capacity: usize) -> Self {
        Self {
            // The standard library's hasher keys are the cheapest random bits that need no error path.
            epoch: RandomState::new().hash_one(0_u8),
            capacity: capacity.max(1),
            subscribers: AtomicU32::new(0),
            idled: AtomicU32::new(0),
            events: Mutex::new(VecDeque::new()),
            head: watch::Sender::new(0),
        }
    }

    pub fn append(&self, kind: &'static str, data: Box<str>, read_at: Option<Tick>) {
        let mut events = lock(&self.events);
        let n = *self.head.borrow() + 1;
        if events.len() == self.capacity {
            events.pop_front();
        }
        events.push_back(Arc::new(Event { id: EventId { epoch: self.epoch, n }, kind, data, read_at }));
        self.head.send_replace(n);
    }

    pub fn after(&self, position: u64) -> Place {
        let events = lock(&self.events);
        let head = *self.head.borrow();
        if position == head {
            return Place::Head;
        }
        let first = events.front().map_or(head + 1, |event| event.id.n);
        let index = (position + 1).checked_sub(first).and_then(|index| usize::try_from(index).ok());
        index.and_then(|index| events.get(index)).map_or(Place::Gap, |event| Place::Event(Arc::clone(event)))
    }

    pub fn holds_after(&self, position: u64) -> bool {
        position < u64::MAX && !matches!(self.after(position), Place::Gap)
    }
}

/// A panic while the lock was held can't have left half an entry: each use is one push, pop or copy.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
