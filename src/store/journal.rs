//! The journal: group commit of what the registry changed.
//!
//! Nobody waits for a timer. The task takes what became dirty while the last commit was in flight, reads the records as
//! they are now, writes them in one transaction and wakes who waited. When the database is away the keys stay dirty, and
//! whoever waits is told after a bounded time that nothing is known; when it comes back everything is written once, as it
//! then is.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, watch};

use super::pending::Pending;
use super::refused::Refused;
use super::{DirtyKey, Log, Row, Seq};
use crate::clock::Clock;
use crate::model::{Call, DeviceId, Tick, TrailEntry, Transition};

/// Where the journal reads the records it writes. The registry implements it.
pub trait Records: Send + Sync + 'static {
    /// The record behind `key` as it is now, for the commit of this number; none when it is gone and its row must go too.
    /// Of bindings the number is kept, for [`Records::write_anew`].
    fn read(&self, key: DirtyKey, commit: u64) -> Option<Row>;

    /// Marks the bindings of a device as changed if they were last read for this commit, so that they are written again.
    fn write_anew(&self, device: DeviceId, commit: u64);

    /// About how many devices there are.
    fn devices(&self) -> usize;
}

/// The change is made and will be written when the database can; it is not known to be stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not known to be stored")]
pub struct NotStored;

/// Numbers changes and gets them committed.
#[derive(Debug)]
pub struct Journal {
    state: Mutex<State>,
    pub(super) wake: Notify,
    pub(super) committed: watch::Sender<u64>,
    pub(super) history_committed: watch::Sender<u64>,
    pub(super) refused: Refused,
    pub(super) up: AtomicBool,
    pub(super) closed: AtomicBool,
    /// Its task has died.
    died: AtomicBool,
    /// When it last began something that has a bounded time.
    turned: AtomicU64,
    /// What its task begins with.
    pub(super) log_at_start: Mutex<Log>,
    pub(super) clock: Clock,
    /// Number of the latest deletion.
    gone: AtomicU64,
}

/// What waits and what is on its way, under one short lock: numbering a change and noting its key are one step.
#[derive(Debug)]
pub(super) struct State {
    pub(super) pending: Pending,
    /// The batch on its way: how many keys, and since when the oldest is dirty.
    pub(super) in_flight: (usize, Option<Tick>),
}

impl Journal {
    /// A journal that gives numbers above `last` and goes on with the log where it ends.
    #[must_use]
    pub fn new(last: Seq, log: Log, clock: Clock, history_max: usize) -> Self {
        Self {
            state: Mutex::new(State { pending: Pending::new(last, history_max), in_flight: (0, None) }),
            wake: Notify::new(),
            committed: watch::Sender::new(last.0),
            history_committed: watch::Sender::new(last.0),
            refused: Refused::default(),
            up: AtomicBool::new(true),
            closed: AtomicBool::new(false),
            died: AtomicBool::new(false),
            turned: AtomicU64::new(0),
            log_at_start: Mutex::new(log),
            clock,
            gone: AtomicU64::new(0),
        }
    }

    /// Notes that the record behind `key` changed. Call it with the record's own lock held.
    pub fn mark(&self, key: DirtyKey) -> Seq {
        let seq = self.state().pending.mark(key, || self.clock.now().tick);
        self.wake.notify_one();
        seq
    }

    /// [`Journal::mark`] for a record that goes, before anybody can see that it is gone.
    pub fn mark_gone(&self, key: DirtyKey) -> Seq {
        let seq = self.mark(key);
        self.gone.fetch_max(seq.0, Ordering::AcqRel);
        seq
    }

    /// Number of the latest deletion: what an answer waits for that shows what is *not* there, since nothing is left
    /// that could bear the number.
    #[must_use]
    pub fn gone(&self) -> Seq {
        Seq(self.gone.load(Ordering::Acquire))
    }

    /// Queues a call's present state for the history.
    pub fn record_call(&self, call: Arc<Call>) {
        let dropped = self.state().pending.push_call(call);
        self.queued(dropped);
    }

    /// Queues a reason for the history.
    pub fn record_trail(&self, entry: TrailEntry) {
        let dropped = self.state().pending.push_trail(entry);
        self.queued(dropped);
    }

    /// Queues a transition for the history.
    pub fn record_transition(&self, transition: Transition) {
        let dropped = self.state().pending.push_transition(transition);
        self.queued(dropped);
    }

    /// Number of the latest change, whoever made it.
    #[must_use]
    pub fn latest(&self) -> Seq {
        self.state().pending.last()
    }

    /// Waits until the change `seq` is committed, at most `wait`.
    ///
    /// # Errors
    /// [`NotStored`] when it was not in time, or the database refused that very row.
    pub async fn committed(&self, seq: Seq, wait: Duration) -> Result<(), NotStored> {
        if !reached(&self.committed, seq, wait).await || self.is_refused(seq) {
            return Err(NotStored);
        }
        Ok(())
    }

    /// Waits until the history queued so far is committed, at most `wait`. False when it was not in time.
    pub async fn history_committed(&self, wait: Duration) -> bool {
        let last = self.state().pending.last_history();
        reached(&self.history_committed, last, wait).await
    }

    /// The number up to which everything is committed, for those who hold many answers at once. A number it has
    /// reached may still be [refused](Self::is_refused).
    #[must_use]
    pub fn committed_watch(&self) -> watch::Receiver<u64> {
        self.committed.subscribe()
    }

    /// Whether the change `seq` is committed. Never waits.
    #[must_use]
    pub fn is_committed(&self, seq: Seq) -> bool {
        *self.committed.borrow() >= seq.0 && !self.is_refused(seq)
    }

    /// Whether `seq` belongs to a row that the database would not take.
    #[must_use]
    pub fn is_refused(&self, seq: Seq) -> bool {
        self.refused.holds(seq, self.clock.now().tick)
    }

    /// Whether the last attempt to write succeeded.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.up.load(Ordering::Relaxed)
    }

    /// Notes that nothing is written any more.
    pub(super) fn down(&self) {
        self.died.store(true, Ordering::Release);
        self.up.store(false, Ordering::Relaxed);
    }

    /// Notes that the task goes on.
    pub(super) fn turn(&self) {
        self.turned.store(self.clock.now().tick.0, Ordering::Release);
    }

    /// Whether whatever waits is being written, or the database was found to be away: each try has a bounded time.
    ///
    /// # Errors
    /// In a few words, why nothing is ever going to be written again.
    pub fn alive(&self) -> Result<(), &'static str> {
        if self.died.load(Ordering::Acquire) {
            return Err("the journal has died");
        }
        let turned = Tick(self.turned.load(Ordering::Acquire));
        let (is_idle, oldest) = {
            let mut state = self.state();
            (state.in_flight.0 == 0 && state.pending.is_empty(), state.pending.oldest())
        };
        // What became dirty only now has not been seen yet by a task that slept.
        let since = oldest.map_or(turned, |oldest| oldest.max(turned));
        if is_idle || self.clock.now().tick - since < STUCK_MS { Ok(()) } else { Err("the journal stands still") }
    }

    /// Waits until nothing is left to write, at most `wait`.
    ///
    /// # Errors
    /// [`NotStored`] when something was left.
    pub async fn drain(&self, wait: Duration) -> Result<(), NotStored> {
        let (last, last_history) = {
            let state = self.state();
            (state.pending.last(), state.pending.last_history())
        };
        let all = async {
            tokio::join!(reached(&self.committed, last, wait), reached(&self.history_committed, last_history, wait))
        };
        if all.await == (true, true) { Ok(()) } else { Err(NotStored) }
    }

    /// Ends the task once its present attempt is over.
    pub fn close(&self) {
        self.closed.store(true, Ordering::Release);
        self.wake.notify_one();
    }

    /// Sets the gauges that tell how far behind the database is.
    #[expect(clippy::cast_precision_loss, reason = "gauges are floating point")]
    pub fn report(&self) {
        let now = self.clock.now().tick;
        let (keys, oldest) = {
            let mut state = self.state();
            let (in_flight, since) = state.in_flight;
            let waiting = state.pending.oldest();
            (in_flight + state.pending.dirty_keys(), since.into_iter().chain(waiting).min())
        };
        metrics::gauge!("hookswitch_dirty_keys").set(keys as f64);
        metrics::gauge!("hookswitch_oldest_dirty_seconds")
            .set(oldest.map_or(0.0, |since| (now - since) as f64 / 1000.0));
        metrics::gauge!("hookswitch_database_up").set(if self.is_up() { 1.0 } else { 0.0 });
    }

    fn queued(&self, dropped: usize) {
        count_dropped(dropped);
        self.wake.notify_one();
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Several times what one try to connect and to write may take, and the pause after it.
const STUCK_MS: u64 = 60_000;

async fn reached(watermark: &watch::Sender<u64>, seq: Seq, wait: Duration) -> bool {
    if *watermark.borrow() >= seq.0 {
        return true;
    }
    let mut watermark = watermark.subscribe();
    matches!(tokio::time::timeout(wait, watermark.wait_for(|at| *at >= seq.0)).await, Ok(Ok(_)))
}

pub(super) fn count_dropped(entries: usize) {
    if entries > 0 {
        metrics::counter!("hookswitch_dropped_total", "where" => "history", "reason" => "full")
            .increment(entries as u64);
    }
}
