//! The journal's task: takes what is dirty, writes it, and does not give up.

use std::collections::HashSet;
use std::future::Future;
use std::sync::atomic::Ordering;
use std::sync::{PoisonError, Weak};
use std::time::Duration;

use super::journal::{Journal, Records, count_dropped};
use super::log::{self, Doomed, Log};
use super::pending::{History, Span, Taken};
use super::{DirtyKey, Kind, Row, Seq};
use crate::clock::Clock;

/// Where batches go.
pub(super) trait Sink: Send + 'static {
    /// Writes all of `items` or none.
    fn write(&mut self, items: &[Item]) -> impl Future<Output = Result<(), WriteError>> + Send;
}

/// One thing to write.
#[derive(Clone, Debug)]
pub(super) enum Item {
    /// A record as it is now; none = its row goes. What goes into the log goes to `place`.
    Change { key: DirtyKey, row: Option<Row>, span: Span, place: i64 },
    /// An entry of the history.
    History(History),
    /// The log up to `last` is not needed any more; up to `head` it was deleted before.
    Forget { head: i64, last: i64 },
}

impl Item {
    /// The table of a change.
    pub(super) fn kind(&self) -> Option<Kind> {
        match self {
            Self::Change { key, .. } => Some(key.kind),
            Self::History(_) | Self::Forget { .. } => None,
        }
    }
}

/// Why a batch was not written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum WriteError {
    /// At least one row can't be written, now or later.
    Row(String),
    /// The database is away, stalled or can't write now.
    Unavailable(String),
}

impl Journal {
    /// Writes until the journal is closed or `records` is gone.
    pub(super) async fn run(&self, records: Weak<dyn Records>, mut sink: impl Sink) {
        let mut log = std::mem::take(&mut *self.log_at_start.lock().unwrap_or_else(PoisonError::into_inner));
        let mut failures = 0_u32;
        loop {
            while self.state().pending.is_empty() {
                if self.closed.load(Ordering::Acquire) {
                    return;
                }
                self.wake.notified().await;
            }
            self.turn();
            let Some(batch) = records.upgrade().map(|records| {
                self.tidy(&*records, &mut log);
                self.gather(&*records, &mut log, failures)
            }) else {
                return;
            };
            match self.commit(&mut sink, &batch).await {
                Ok(refused) => {
                    log.written(&batch.items);
                    self.succeeded(&batch, &refused, failures);
                    failures = 0;
                }
                Err(error) => {
                    log.failed(&batch.items);
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

    /// Looks at the oldest lines of the log when it has grown too long: what still counts of them is marked as changed, so
    /// that it is written anew, and once that is stored they can go.
    fn tidy(&self, records: &dyn Records, log: &mut Log) {
        let oldest = log.take_oldest(records.devices(), |device, commit| records.write_anew(device, commit));
        if let Some((last, lines)) = oldest {
            log.doomed = Some(Doomed { last, lines, seq: self.latest() });
        }
    }

    /// Takes a batch and reads its records as they are now.
    fn gather(&self, records: &dyn Records, log: &mut Log, failures: u32) -> Batch {
        let Taken { keys, history } = {
            let mut state = self.state();
            let taken = state.pending.take(BATCH_ROWS_MAX, BATCH_HISTORY_MAX);
            state.in_flight = (taken.keys.len(), taken.keys.iter().map(|(_, span)| span.at).min());
            taken
        };
        let commit = log.next_commit();
        let mut items = Vec::with_capacity(keys.len() + history.len() + 1);
        let (mut bytes, mut rest) = (0, Vec::new());
        for (key, span) in keys {
            if bytes > BATCH_BYTES_MAX {
                rest.push((key, span));
                continue;
            }
            let row = records.read(key, commit);
            if let Some(Row::Bindings { line, .. }) = &row {
                bytes += line.len();
            }
            items.push(Item::Change { key, row, span, place: log::row_id(commit, items.len()) });
        }
        items.extend(history.into_iter().map(Item::History));
        // Only now: everything that kept these rows from going has been stored by an earlier commit. And not while it fails:
        // what can be done without must not keep anything from being stored.
        let stored = *self.committed.borrow();
        let doomed = log.doomed.filter(|doomed| doomed.seq.0 <= stored && failures == 0);
        items.extend(doomed.map(|doomed| Item::Forget { head: log.head, last: doomed.last }));
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
            self.turn();
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
        let (key, row, span) = match item {
            Item::Change { key, row, span, .. } => (key, row, span),
            Item::History(_) => {
                tracing::error!(error, "the database refuses an entry of the history; it is dropped");
                metrics::counter!("hookswitch_dropped_total", "where" => "history", "reason" => "refused").increment(1);
                return Ok(None);
            }
            // Else older lines would be left than those that go later.
            Item::Forget { .. } => return Err(format!("the database refuses to delete from the log: {error}")),
        };
        let record = row.as_ref().map_or(Seq(span.last), Row::seq);
        if !self.refused.add(*key, record, *span, self.clock.now().tick) {
            return Err(format!("the database refuses too many rows: {error}"));
        }
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
        let keys = batch.items.iter().filter_map(|item| match item {
            Item::Change { key, .. } => Some(*key),
            Item::History(_) | Item::Forget { .. } => None,
        });
        // Before the number is reached: who is woken by it looks here.
        self.refused.forgive(keys, refused);
        self.committed.send_replace(batch.watermark.0);
        self.history_committed.send_replace(batch.history_watermark.0);
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
                // Still noted where it came from.
                Item::Forget { .. } => {}
            }
        }
        let mut state = self.state();
        let dropped = state.pending.put_back(keys, history);
        state.in_flight = (0, None);
        drop(state);
        count_dropped(dropped);
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

/// Twice as long each time, to a bound, less a random part so that many daemons do not come back at once.
fn backoff(failures: u32) -> Duration {
    let full = BACKOFF_MIN.saturating_mul(1 << failures.saturating_sub(1).min(16)).min(BACKOFF_MAX);
    let jitter = f64::from(getrandom::u32().unwrap_or_default()) / f64::from(u32::MAX);
    full.mul_f64(1.0 - jitter / 2.0)
}

/// Most keys in one commit: some tens of milliseconds of a database's time.
const BATCH_ROWS_MAX: usize = 5_000;

/// Most entries of history in one commit: some milliseconds to write down, for which no SIP is answered.
const BATCH_HISTORY_MAX: usize = 500;

/// About how much text of bindings goes into one commit.
const BATCH_BYTES_MAX: usize = 16 << 20;

const BACKOFF_MIN: Duration = Duration::from_millis(50);
const BACKOFF_MAX: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::sync::atomic::AtomicBool;
    use std::sync::{Arc, Mutex};

    use uuid::Uuid;

    use super::*;
    use crate::model::{DeviceId, UnixMillis};
    use crate::store::{Kind, NotStored};

    /// A registry of nothing but numbers, and a database that can be taken away.
    struct World {
        records: Mutex<HashMap<DirtyKey, Seq>>,
        journal: Arc<Journal>,
        rows: Arc<Mutex<HashMap<DirtyKey, Seq>>>,
        down: Arc<AtomicBool>,
    }

    struct Table {
        rows: Arc<Mutex<HashMap<DirtyKey, Seq>>>,
        down: Arc<AtomicBool>,
    }

    impl World {
        fn start() -> Arc<Self> {
            let journal = Arc::new(Journal::new(Seq(0), Log::default(), Clock::manual(UnixMillis(0)), 100));
            let world = Arc::new(Self {
                records: Mutex::default(),
                journal: journal.clone(),
                rows: Arc::default(),
                down: Arc::default(),
            });
            let table = Table { rows: world.rows.clone(), down: world.down.clone() };
            let records: Weak<Self> = Arc::downgrade(&world);
            tokio::spawn(async move { journal.run(records, table).await });
            world
        }

        fn change(&self, n: u128) -> (DirtyKey, Seq) {
            let key = DirtyKey { kind: Kind::Bindings, id: Uuid::from_u128(n) };
            let mut records = self.records.lock().unwrap();
            let seq = self.journal.mark(key);
            records.insert(key, seq);
            (key, seq)
        }

        async fn stored(&self, seq: Seq) -> Result<(), NotStored> {
            self.journal.committed(seq, Duration::from_millis(200)).await
        }
    }

    impl Records for World {
        fn read(&self, key: DirtyKey, _commit: u64) -> Option<Row> {
            let seq = *self.records.lock().unwrap().get(&key)?;
            Some(Row::Bindings { line: String::new(), seq })
        }

        fn write_anew(&self, _device: DeviceId, _commit: u64) {}

        fn devices(&self) -> usize {
            0
        }
    }

    impl Sink for Table {
        async fn write(&mut self, items: &[Item]) -> Result<(), WriteError> {
            tokio::task::yield_now().await;
            if self.down.load(Ordering::SeqCst) {
                return Err(WriteError::Unavailable("gone".into()));
            }
            if items.iter().any(|item| matches!(item, Item::Change { key, .. } if key.id == POISON)) {
                return Err(WriteError::Row("poison".into()));
            }
            let mut rows = self.rows.lock().unwrap();
            for item in items {
                if let Item::Change { key, row: Some(row), .. } = item {
                    rows.insert(*key, row.seq());
                }
            }
            Ok(())
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn nothing_is_acknowledged_before_it_is_written_whoever_else_writes() {
        let world = World::start();
        let mut tasks = tokio::task::JoinSet::new();
        for task in 0..16_u128 {
            let world = world.clone();
            tasks.spawn(async move {
                for n in 0..500 {
                    let (key, seq) = world.change((task * 7 + n) % 40);
                    world.journal.committed(seq, Duration::from_secs(10)).await.unwrap();
                    assert!(world.rows.lock().unwrap().get(&key) >= Some(&seq));
                }
            });
        }
        while let Some(done) = tasks.join_next().await {
            done.unwrap();
        }
    }

    #[tokio::test]
    async fn while_the_database_is_away_the_wait_is_bounded_and_afterwards_all_is_written() {
        let world = World::start();
        world.down.store(true, Ordering::SeqCst);
        let changes: Vec<_> = (0..50).map(|n| world.change(n % 10)).collect();
        assert_eq!(world.stored(changes[0].1).await, Err(NotStored));
        assert!(!world.journal.is_up());
        assert!(world.rows.lock().unwrap().is_empty());
        world.down.store(false, Ordering::SeqCst);
        world.journal.drain(Duration::from_secs(5)).await.unwrap();
        assert!(world.journal.is_up());
        for (key, seq) in changes {
            assert_eq!(world.stored(seq).await, Ok(()));
            assert!(world.rows.lock().unwrap().get(&key) >= Some(&seq));
        }
    }

    #[tokio::test]
    async fn a_row_that_no_database_takes_holds_up_nobody_and_is_never_acknowledged() {
        let world = World::start();
        world.down.store(true, Ordering::SeqCst);
        let before: Vec<_> = (0..20).map(|n| world.change(n)).collect();
        let (_, poisoned) = world.change(POISON.as_u128());
        let after: Vec<_> = (20..40).map(|n| world.change(n)).collect();
        world.down.store(false, Ordering::SeqCst);
        for (key, seq) in before.into_iter().chain(after) {
            world.journal.committed(seq, Duration::from_secs(5)).await.unwrap();
            assert_eq!(world.rows.lock().unwrap().get(&key), Some(&seq));
        }
        assert_eq!(world.stored(poisoned).await, Err(NotStored));
        assert!(!world.journal.is_committed(poisoned));
        assert!(world.journal.is_up());
    }

    #[tokio::test]
    async fn a_record_that_is_gone_when_it_is_read_has_its_row_deleted() {
        struct Gone(Arc<Mutex<Vec<DirtyKey>>>);
        impl Sink for Gone {
            async fn write(&mut self, items: &[Item]) -> Result<(), WriteError> {
                let gone = items.iter().filter_map(|item| match item {
                    Item::Change { key, row: None, .. } => Some(*key),
                    _ => None,
                });
                self.0.lock().unwrap().extend(gone);
                Ok(())
            }
        }
        struct Nothing;
        impl Records for Nothing {
            fn read(&self, _key: DirtyKey, _commit: u64) -> Option<Row> {
                None
            }

            fn write_anew(&self, _device: DeviceId, _commit: u64) {}

            fn devices(&self) -> usize {
                0
            }
        }
        let (journal, gone) =
            (Arc::new(Journal::new(Seq(0), Log::default(), Clock::manual(UnixMillis(0)), 1)), Arc::default());
        let nothing = Arc::new(Nothing);
        let records: Weak<Nothing> = Arc::downgrade(&nothing);
        let (task, sink) = (journal.clone(), Gone(Arc::clone(&gone)));
        let running = tokio::spawn(async move { task.run(records, sink).await });
        let key = DirtyKey { kind: Kind::User, id: POISON };
        let seq = journal.mark(key);
        journal.committed(seq, Duration::from_secs(5)).await.unwrap();
        assert_eq!(*gone.lock().unwrap(), [key]);
        journal.close();
        running.await.unwrap();
    }

    #[test]
    fn waiting_grows_to_a_bound_and_is_never_twice_the_same_for_all() {
        for failures in [1, 2, 8, 20, u32::MAX] {
            let wait = backoff(failures);
            assert!((BACKOFF_MIN / 2..=BACKOFF_MAX).contains(&wait), "{wait:?} after {failures}");
        }
        let waits: std::collections::BTreeSet<Duration> = (0..20).map(|_| backoff(20)).collect();
        assert!(waits.len() > 1);
    }

    const POISON: Uuid = Uuid::from_u128(666);
}
