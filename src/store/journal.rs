//! The journal: group commit of what the registry changed.
//!
//! Nobody waits for a timer. The task takes what became dirty while the last commit was in flight, reads the records as
//! they are now, writes them in one transaction and wakes who waited. When the database is away the keys stay dirty, and
//! whoever waits is told after a bounded time that nothing is known; when it comes back everything is written once, as it
//! then is.

use std::collections::{HashMap, HashSet};
use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::{Notify, watch};

use super::pending::{History, Pending, Span, Taken};
use super::{DirtyKey, Row, Seq};
use crate::clock::Clock;
use crate::model::{Call, Tick, TrailEntry, Transition};

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
    pending: Mutex<State>,
    wake: Notify,
    committed: watch::Sender<u64>,
    history_committed: watch::Sender<u64>,
    refused: Refused,
    up: AtomicBool,
    closed: AtomicBool,
    clock: Clock,
}

/// Where batches go.
pub(super) trait Sink: Send + 'static {
    /// Writes all of `items` or none.
    fn write(&mut self, items: &[Item]) -> impl Future<Output = Result<(), WriteError>> + Send;
}

/// One thing to write.
#[derive(Clone, Debug)]
pub(super) enum Item {
    /// A record as it is now; none = its row goes.
    Change { key: DirtyKey, row: Option<Row>, span: Span },
    /// An entry of the history.
    History(History),
}

/// Why a batch was not written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum WriteError {
    /// At least one row can't be written, now or later.
    Row(String),
    /// The database is away, stalled or can't write now.
    Unavailable(String),
}

#[derive(Debug)]
struct State {
    pending: Pending,
    /// The batch on its way: how many keys, and since when the oldest is dirty.
    in_flight: (usize, Option<Tick>),
}

/// Rows that the database will not take.
#[derive(Debug, Default)]
struct Refused {
    any: AtomicBool,
    rows: Mutex<HashMap<DirtyKey, Refusal>>,
}

/// A row that the database did not take. Until `until` all numbers of its span are refused, so that everyone who waits
/// for one of them is told; others in between may be told the same, wrongly but safely. After that only the record's own
/// number is, until it changes.
#[derive(Clone, Copy, Debug)]
struct Refusal {
    record: Seq,
    span: Span,
    until: Tick,
}

impl Journal {
    /// A journal that gives numbers above `last`.
    #[must_use]
    pub fn new(last: Seq, clock: Clock, history_max: usize) -> Self {
        Self {
            pending: Mutex::new(State { pending: Pending::new(last, history_max), in_flight: (0, None) }),
            wake: Notify::new(),
            committed: watch::Sender::new(last.0),
            history_committed: watch::Sender::new(last.0),
            refused: Refused::default(),
            up: AtomicBool::new(true),
            closed: AtomicBool::new(false),
            clock,
        }
    }

    /// Notes that the record behind `key` changed. Call it with the record's own lock held.
    pub fn mark(&self, key: DirtyKey) -> Seq {
        let seq = self.state().pending.mark(key, || self.clock.now().tick);
        self.wake.notify_one();
        seq
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
        if !self.refused.any.load(Ordering::Acquire) {
            return false;
        }
        let now = self.clock.now().tick;
        let rows = self.refused.rows.lock().unwrap_or_else(PoisonError::into_inner);
        rows.values().any(|refusal| {
            let waiting = refusal.until > now && (refusal.span.first..=refusal.span.last).contains(&seq.0);
            waiting || (refusal.record == seq && seq.0 > 0)
        })
    }

    /// Whether the last attempt to write succeeded.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.up.load(Ordering::Relaxed)
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

    /// Writes until the journal is closed or `records` is gone.
    pub(super) async fn run(&self, records: Weak<dyn Records>, mut sink: impl Sink) {
        let mut failures = 0_u32;
        loop {
            while self.state().pending.is_empty() {
                if self.closed.load(Ordering::Acquire) {
                    return;
                }
                self.wake.notified().await;
            }
            let Some(batch) = records.upgrade().map(|records| self.gather(&*records)) else { return };
            match self.commit(&mut sink, &batch).await {
                Ok(refused) => {
                    self.succeeded(&batch, &refused, failures);
                    failures = 0;
                }
                Err(error) => {
                    self.failed(batch, failures, &error);
                    failures = failures.saturating_add(1);
                    if self.closed.load(Ordering::Acquire) {
                        return;
                    }
                    tokio::time::sleep(backoff(failures)).await;
                }
            }
        }
    }

    /// Takes a batch and reads its records as they are now.
    fn gather(&self, records: &dyn Records) -> Batch {
        let Taken { keys, history } = {
            let mut state = self.state();
            let taken = state.pending.take(BATCH_ROWS_MAX);
            state.in_flight = (taken.keys.len(), taken.keys.iter().map(|(_, span)| span.at).min());
            taken
        };
        let mut items = Vec::with_capacity(keys.len() + history.len());
        let (mut bytes, mut rest) = (0, Vec::new());
        for (key, span) in keys {
            if bytes > BATCH_BYTES_MAX {
                rest.push((key, span));
                continue;
            }
            let row = records.read(key);
            if let Some(Row::Bindings { contacts, .. }) = &row {
                bytes += contacts.len();
            }
            items.push(Item::Change { key, row, span });
        }
        items.extend(history.into_iter().map(Item::History));
        let mut state = self.state();
        state.pending.put_back(rest, Vec::new());
        // What is dirty by now is for later; whatever is numbered below the first of it is in here or committed.
        let (watermark, history_watermark) = (state.pending.watermark(), state.pending.history_watermark());
        Batch { items, watermark, history_watermark }
    }

    /// Writes a batch; row by row as far as it must, when one of them can't be written.
    /// Answers the rows that were given up.
    async fn commit(&self, sink: &mut impl Sink, batch: &Batch) -> Result<HashSet<DirtyKey>, String> {
        let stopwatch = Clock::stopwatch();
        let mut refused = HashSet::new();
        let mut todo: Vec<&[Item]> = vec![&batch.items];
        while let Some(items) = todo.pop() {
            if items.is_empty() {
                continue;
            }
            match sink.write(items).await {
                Ok(()) => {}
                Err(WriteError::Unavailable(error)) => return Err(error),
                Err(WriteError::Row(error)) => match items {
                    [item] => refused.extend(self.refuse(item, &error)?),
                    many => {
                        let (first, second) = many.split_at(many.len() / 2);
                        todo.extend([second, first]);
                    }
                },
            }
        }
        metrics::histogram!("hookswitch_commit_seconds").record(stopwatch.elapsed().as_secs_f64());
        #[expect(clippy::cast_precision_loss, reason = "a batch has thousands of rows, not 2^52")]
        metrics::histogram!("hookswitch_commit_rows").record(batch.items.len() as f64);
        Ok(refused)
    }

    /// Gives a row up. When there are too many of these it is the database that is wrong, not the rows.
    fn refuse(&self, item: &Item, error: &str) -> Result<Option<DirtyKey>, String> {
        let Item::Change { key, row, span } = item else {
            tracing::error!(error, "the database refuses an entry of the history; it is dropped");
            metrics::counter!("hookswitch_dropped_total", "where" => "history", "reason" => "refused").increment(1);
            return Ok(None);
        };
        let mut rows = self.refused.rows.lock().unwrap_or_else(PoisonError::into_inner);
        if rows.len() >= REFUSED_MAX && !rows.contains_key(key) {
            return Err(format!("the database refuses too many rows: {error}"));
        }
        let record = row.as_ref().map_or(Seq(span.last), Row::seq);
        let until = self.clock.now().tick + REFUSED_SPAN_MS;
        rows.insert(*key, Refusal { record, span: *span, until });
        self.refused.any.store(true, Ordering::Release);
        tracing::error!(kind = ?key.kind, id = %key.id, error, "the database refuses a row; it stays in memory only");
        metrics::counter!("hookswitch_dropped_total", "where" => "journal", "reason" => "refused").increment(1);
        Ok(Some(*key))
    }

    fn succeeded(&self, batch: &Batch, refused: &HashSet<DirtyKey>, failures: u32) {
        if failures > 0 || !self.is_up() {
            tracing::info!(failures, "the database is back");
        }
        self.up.store(true, Ordering::Relaxed);
        self.state().in_flight = (0, None);
        if self.refused.any.load(Ordering::Acquire) {
            self.forgive(batch, refused);
        }
        self.committed.send_replace(batch.watermark.0);
        self.history_committed.send_replace(batch.history_watermark.0);
    }

    /// A row that was refused before and is written now is refused no more.
    fn forgive(&self, batch: &Batch, refused: &HashSet<DirtyKey>) {
        let mut rows = self.refused.rows.lock().unwrap_or_else(PoisonError::into_inner);
        for item in &batch.items {
            if let Item::Change { key, .. } = item
                && !refused.contains(key)
            {
                rows.remove(key);
            }
        }
        self.refused.any.store(!rows.is_empty(), Ordering::Release);
    }

    fn failed(&self, batch: Batch, failures: u32, error: &str) {
        // Once when it goes, and then about once a minute.
        if failures.is_multiple_of(12) {
            tracing::error!(error, failures, "the database can't be written; changes wait in memory");
        }
        self.up.store(false, Ordering::Relaxed);
        let (mut keys, mut history) = (Vec::new(), Vec::new());
        for item in batch.items {
            match item {
                Item::Change { key, span, .. } => keys.push((key, span)),
                Item::History(entry) => history.push(entry),
            }
        }
        let mut state = self.state();
        let dropped = state.pending.put_back(keys, history);
        state.in_flight = (0, None);
        drop(state);
        count_dropped(dropped);
    }

    fn queued(&self, dropped: usize) {
        count_dropped(dropped);
        self.wake.notify_one();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What one commit writes.
#[derive(Debug)]
struct Batch {
    items: Vec<Item>,
    /// Once it is written, every change up to here is.
    watermark: Seq,
    /// The same for the history.
    history_watermark: Seq,
}

async fn reached(watermark: &watch::Sender<u64>, seq: Seq, wait: Duration) -> bool {
    if *watermark.borrow() >= seq.0 {
        return true;
    }
    let mut watermark = watermark.subscribe();
    matches!(tokio::time::timeout(wait, watermark.wait_for(|at| *at >= seq.0)).await, Ok(Ok(_)))
}

/// Twice as long each time, to a bound, less a random part so that many daemons do not come back at once.
fn backoff(failures: u32) -> Duration {
    let full = BACKOFF_MIN.saturating_mul(1 << failures.saturating_sub(1).min(16)).min(BACKOFF_MAX);
    let jitter = f64::from(getrandom::u32().unwrap_or_default()) / f64::from(u32::MAX);
    full.mul_f64(1.0 - jitter / 2.0)
}

fn count_dropped(entries: usize) {
    if entries > 0 {
        metrics::counter!("hookswitch_dropped_total", "where" => "history", "reason" => "full")
            .increment(entries as u64);
    }
}

/// Most keys, and most entries of history, in one commit: some tens of milliseconds of a database's time.
const BATCH_ROWS_MAX: usize = 5_000;

/// About how much text of bindings goes into one commit.
const BATCH_BYTES_MAX: usize = 16 << 20;

/// Most rows to give up before it is the database that is taken to be wrong.
const REFUSED_MAX: usize = 1_000;

/// How long everyone who may have waited for a refused row is told so; longer than anybody waits.
const REFUSED_SPAN_MS: u64 = 60_000;

const BACKOFF_MIN: Duration = Duration::from_millis(50);
const BACKOFF_MAX: Duration = Duration::from_secs(5);
