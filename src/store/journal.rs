//! The journal: group commit of what the registry changed.
//!
//! Nobody waits for a timer. The task takes everything that became dirty while the last commit was in flight, reads the
//! records as they are now, writes them in one transaction and wakes who waited.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::{Notify, watch};

use super::pending::Pending;
use super::{DirtyKey, Row, Seq};
use crate::clock::Clock;
use crate::model::{Call, TrailEntry, Transition};

/// Where the journal reads the records it writes. The registry implements it.
pub trait Records: Send + Sync + 'static {
    /// The record behind `key` as it is now; none when it is gone and its row must go too.
    fn read(&self, key: DirtyKey) -> Option<Row>;
}

/// The change is made and will be written when the database can; it is not known to be stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not known to be stored")]
pub struct NotStored;

/// Numbers changes and gets them committed.
#[derive(Debug)]
pub struct Journal {
    pending: Mutex<Pending>,
    wake: Notify,
    committed: watch::Sender<u64>,
    clock: Clock,
}

impl Journal {
    /// A journal that gives numbers above `last`.
    #[must_use]
    pub fn new(last: Seq, clock: Clock, history_max: usize) -> Self {
        Self {
            pending: Mutex::new(Pending::new(last, history_max)),
            wake: Notify::new(),
            committed: watch::Sender::new(last.0),
            clock,
        }
    }

    /// Notes that the record behind `key` changed. Call it with the record's own lock held.
    pub fn mark(&self, key: DirtyKey) -> Seq {
        let seq = self.pending().mark(key, || self.clock.now().tick);
        self.wake.notify_one();
        seq
    }

    /// Queues a call's present state for the history.
    pub fn record_call(&self, call: Arc<Call>) {
        let dropped = self.pending().push_call(call);
        self.queued(dropped);
    }

    /// Queues a reason for the history.
    pub fn record_trail(&self, entry: TrailEntry) {
        let dropped = self.pending().push_trail(entry);
        self.queued(dropped);
    }

    /// Queues a transition for the history.
    pub fn record_transition(&self, transition: Transition) {
        let dropped = self.pending().push_transition(transition);
        self.queued(dropped);
    }

    /// Number of the latest change, whoever made it.
    #[must_use]
    pub fn latest(&self) -> Seq {
        self.pending().latest()
    }

    /// Waits until the change `seq` is committed, at most `wait`.
    ///
    /// # Errors
    /// [`NotStored`] when it was not in time, or the database refused that very row.
    pub async fn committed(&self, seq: Seq, wait: Duration) -> Result<(), NotStored> {
        let mut watch = self.committed.subscribe();
        match tokio::time::timeout(wait, watch.wait_for(|committed| *committed >= seq.0)).await {
            Ok(Ok(_)) if !self.is_refused(seq) => Ok(()),
            _ => Err(NotStored),
        }
    }

    /// The number up to which everything is committed, for those who hold many answers at once. A number it has
    /// reached may still be [refused](Self::is_refused).
    #[must_use]
    pub fn committed_watch(&self) -> watch::Receiver<u64> {
        self.committed.subscribe()
    }

    /// Whether `seq` belongs to a row that the database would not take.
    #[must_use]
    pub fn is_refused(&self, _seq: Seq) -> bool {
        false
    }

    /// Waits until nothing is left to write, at most `wait`.
    ///
    /// # Errors
    /// [`NotStored`] when something was left.
    pub async fn drain(&self, wait: Duration) -> Result<(), NotStored> {
        let last = self.pending().last();
        self.committed(last, wait).await
    }

    /// Starts writing. The task ends when `records` is dropped.
    pub fn start(self: &Arc<Self>, records: Weak<dyn Records>) {
        let journal = Arc::downgrade(self);
        tokio::spawn(async move {
            while let Some(journal) = journal.upgrade() {
                journal.wake.notified().await;
                let taken = journal.pending().take(10_000);
                let Some(records) = records.upgrade() else { break };
                for (key, _) in &taken.keys {
                    let _ = records.read(*key);
                }
                journal.committed.send_replace(taken.watermark.0);
            }
        });
    }

    fn queued(&self, dropped: usize) {
        if dropped > 0 {
            metrics::counter!("hookswitch_dropped_total", "where" => "history", "reason" => "full")
                .increment(dropped as u64);
        }
        self.wake.notify_one();
    }

    fn pending(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
