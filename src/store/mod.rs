//! The only SQL: load at start, group commit, history queries.
//!
//! The registry marks what it changes in a [`Journal`]; the journal's task reads the records back through [`Records`] and
//! writes them. Nothing here knows the registry.

mod backup;
mod batch;
mod cell;
mod commit;
pub mod contacts;
mod copy;
mod engine;
mod error;
mod history;
mod journal;
mod load;
mod log;
mod past;
mod pending;
mod prune;
mod records;
mod refused;
mod row;
mod schema;
mod secrets;
mod seq;
mod statements;
mod tables;
mod writer;

use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use crate::clock::Clock;
use crate::sealing::Keys;

pub use backup::{BackupError, Kept, Restored, backup, restore};
pub use copy::{Copied, CopyError, Progress, copy};
pub use engine::Timeouts;
pub use error::StoreError;
pub use history::{CallFilter, HistoryPage, LinksOf};
pub use journal::{Journal, NotStored, Records};
pub use load::{Loaded, LoadedBindings};
pub use log::{Log, line};
pub use prune::{PRUNE_ROWS_MAX, Retention};
pub use row::Row;
pub use schema::known as known_schema;
pub use secrets::SealedWith;
pub use seq::{DirtyKey, Kind, Seq, Stored};

use engine::{Engine, Writer};
use writer::Database;

/// The database. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Store {
    engine: Engine,
    timeouts: Timeouts,
    /// The writer's connection, until the journal takes it.
    writer: Arc<Mutex<Option<Writer>>>,
    /// None: secrets can be neither read nor written.
    keys: Option<Arc<Keys>>,
}

impl Store {
    /// Opens `sqlite:PATH` or `postgres://…`, keeps other daemons out and brings the tables up to date. For secrets it needs
    /// keys as well: [`Store::unlock`].
    ///
    /// # Errors
    /// [`StoreError`] when the URL is of neither kind, or the database can't be opened, is another daemon's or a newer
    /// version's.
    pub async fn open(url: &str) -> Result<Self, StoreError> {
        Self::open_with(url, Timeouts::default()).await
    }

    /// [`Store::open`] with other timeouts.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub async fn open_with(url: &str, timeouts: Timeouts) -> Result<Self, StoreError> {
        when_free(timeouts.exclusive, async || {
            let engine = Engine::of(url, timeouts)?;
            let writer = engine.prepare(timeouts).await?;
            Ok(Self { engine, timeouts, writer: Arc::new(Mutex::new(Some(writer))), keys: None })
        })
        .await
    }

    /// Starts the journal's task. It ends when the journal is closed or `records` is dropped.
    pub fn start(&self, journal: Arc<Journal>, records: Weak<dyn Records>) {
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        let database =
            Database { engine: self.engine.clone(), timeouts: self.timeouts, writer, keys: self.keys.clone() };
        let writing = journal.clone();
        let task = tokio::spawn(async move { writing.run(records, database).await });
        tokio::spawn(async move {
            if let Err(error) = task.await {
                // What it had taken is lost to it, so it must not go on: the number it reached stays where it is, and
                // nothing is acknowledged any more.
                tracing::error!(%error, "the journal has died; nothing will be stored until the daemon is restarted");
                journal.down();
            }
        });
    }
}

/// Opens something that may be in use: whoever had it before us may be on its way out.
async fn when_free<T>(
    patience: Duration,
    mut open: impl AsyncFnMut() -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    let waited = Clock::stopwatch();
    loop {
        match open().await {
            Err(StoreError::InUse) if waited.elapsed() < patience => tokio::time::sleep(EXCLUSIVE_POLL).await,
            other => return other,
        }
    }
}

/// How often to ask whether the other daemon is gone.
const EXCLUSIVE_POLL: Duration = Duration::from_millis(50);
