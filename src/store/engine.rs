//! The two engines: how each is opened, kept to ourselves and made to keep its promises.

use std::fs::{File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{ConnectOptions, PgConnection, PgPool, SqliteConnection, SqlitePool};
use tokio::sync::{Mutex, OwnedMutexGuard};

use super::{StoreError, schema};

/// A database, by engine: connections for readers, and how to get the writer's.
#[derive(Clone, Debug)]
pub(super) enum Engine {
    Sqlite(Sqlite),
    Postgres(Postgres),
}

/// A file. The lock beside it keeps a second daemon out; `SQLite`'s own would let it in between two commits.
#[derive(Clone, Debug)]
pub(super) struct Sqlite {
    pub(super) pool: SqlitePool,
    options: SqliteConnectOptions,
    /// Whoever writes holds it, first come first served. `SQLite`'s own waiting is a sleep of up to a tenth of a second, and
    /// whoever deletes step by step could take the file anew each time the journal sleeps.
    turn: Arc<Mutex<()>>,
    _lock: Option<Arc<File>>,
}

/// A server. The writer's connection holds an advisory lock, so there is one writer, and a commit that a lost connection
/// left behind is over before the next connection may write.
#[derive(Clone, Debug)]
pub(super) struct Postgres {
    pub(super) pool: PgPool,
    options: PgConnectOptions,
    /// Tells our own connections from another daemon's.
    name: String,
}

/// The one connection that writes.
#[derive(Debug)]
pub(super) enum Writer {
    Sqlite(SqliteConnection),
    Postgres(PgConnection),
}

/// How long the database may take.
#[derive(Clone, Copy, Debug)]
pub struct Timeouts {
    /// To accept a connection.
    pub connect: Duration,
    /// To commit one batch; then the connection is given up and the batch is done again.
    pub write: Duration,
    /// To answer a question about the past.
    pub read: Duration,
    /// For another daemon to let go of the database at start.
    pub exclusive: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(5),
            write: Duration::from_secs(10),
            read: Duration::from_secs(5),
            exclusive: Duration::from_secs(10),
        }
    }
}

impl Engine {
    /// Knows the database by its URL; nothing is connected yet.
    pub(super) fn of(url: &str, timeouts: Timeouts) -> Result<Self, StoreError> {
        if url.starts_with("sqlite:") {
            Sqlite::open(url, timeouts).map(Self::Sqlite)
        } else if url.starts_with("postgres://") || url.starts_with("postgresql://") {
            Postgres::open(url, timeouts).map(Self::Postgres)
        } else {
            Err(StoreError::Url("it is neither".into()))
        }
    }

    /// Brings the tables up to date and hands out the writer's connection.
    pub(super) async fn prepare(&self, timeouts: Timeouts) -> Result<Writer, StoreError> {
        let mut writer = self.connect(timeouts).await?;
        if let Writer::Postgres(connection) = &mut writer {
            let encoding: String = sqlx::query_scalar("SHOW server_encoding").fetch_one(&mut *connection).await?;
            // SQL_ASCII keeps whatever it is given.
            if !matches!(&*encoding, "UTF8" | "SQL_ASCII") {
                return Err(StoreError::Encoding(encoding));
            }
            // Moving a large table may take longer than any commit.
            unlimited(connection).await?;
        }
        let migrated = schema::migrate(&mut writer).await;
        if let Writer::Postgres(connection) = &mut writer {
            promise(connection, timeouts.write).await?;
        }
        migrated?;
        Ok(writer)
    }

    /// About how much goes into one row of the log.
    pub(super) fn body_bytes(&self) -> usize {
        match self {
            // One long row is less trouble to it than many.
            Self::Sqlite(_) => 64 << 10,
            // As much as it keeps in one place: longer values it moves out of the row and tries to compress.
            Self::Postgres(_) => 1_900,
        }
    }

    /// Waits for the turn to write, where only one can; it lasts as long as what it answers.
    pub(super) async fn turn(&self) -> Option<OwnedMutexGuard<()>> {
        match self {
            Self::Sqlite(sqlite) => Some(sqlite.turn.clone().lock_owned().await),
            Self::Postgres(_) => None,
        }
    }

    /// A connection that may write.
    pub(super) async fn connect(&self, timeouts: Timeouts) -> Result<Writer, StoreError> {
        let connect = async {
            match self {
                Self::Sqlite(sqlite) => Ok(Writer::Sqlite(sqlite.options.connect().await?)),
                Self::Postgres(postgres) => postgres.connect_writer(timeouts.write).await.map(Writer::Postgres),
            }
        };
        tokio::time::timeout(timeouts.connect, connect)
            .await
            .unwrap_or_else(|_| Err(StoreError::Unavailable("no connection in time".into())))
    }
}

impl Sqlite {
    fn open(url: &str, timeouts: Timeouts) -> Result<Self, StoreError> {
        let options = SqliteConnectOptions::from_str(url)
            .map_err(|error| StoreError::Url(error.to_string()))?
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            // In WAL mode nothing less than FULL syncs every commit.
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(timeouts.write)
            .disable_statement_logging();
        let path = options.get_filename().to_owned();
        let lock = if in_memory(url) { None } else { Some(Arc::new(lock_beside(&path)?)) };
        let pool = SqlitePoolOptions::new()
            .max_connections(READERS_MAX)
            .acquire_timeout(timeouts.read)
            .connect_lazy_with(options.clone());
        Ok(Self { pool, options, turn: Arc::default(), _lock: lock })
    }
}

impl Postgres {
    fn open(url: &str, timeouts: Timeouts) -> Result<Self, StoreError> {
        let name = format!("hookswitch {:08x}", getrandom::u32().unwrap_or_default());
        let options = PgConnectOptions::from_str(url)
            .map_err(|error| StoreError::Url(error.to_string()))?
            .application_name(&name)
            .disable_statement_logging();
        let read = timeouts.read;
        let pool = PgPoolOptions::new()
            .max_connections(READERS_MAX)
            .acquire_timeout(timeouts.read)
            .after_connect(move |connection, _| Box::pin(async move { promise(connection, read).await }))
            .connect_lazy_with(options.clone());
        Ok(Self { pool, options, name })
    }

    async fn connect_writer(&self, timeout: Duration) -> Result<PgConnection, StoreError> {
        let mut connection = self.options.connect().await?;
        promise(&mut connection, timeout).await?;
        if !try_lock(&mut connection).await? {
            // A connection of ours that we gave up may not have noticed. It must be gone before another one writes:
            // its last COMMIT may still be under way.
            sqlx::query(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                 WHERE application_name = $1 AND pid <> pg_backend_pid()
                   AND pid IN (SELECT pid FROM pg_locks WHERE locktype = 'advisory')",
            )
            .bind(&self.name)
            .execute(&mut connection)
            .await?;
            if !try_lock(&mut connection).await? {
                return Err(StoreError::InUse);
            }
        }
        Ok(connection)
    }
}

async fn try_lock(connection: &mut PgConnection) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar("SELECT pg_try_advisory_lock(hashtextextended('hookswitch ' || current_schema(), 0))")
        .fetch_one(connection)
        .await
}

/// Makes a commit mean what we promise, whatever the server's defaults, and a stalled or vanished peer noticed.
async fn promise(connection: &mut PgConnection, timeout: Duration) -> Result<(), sqlx::Error> {
    sqlx::query(
        "SELECT set_config('synchronous_commit', 'on', false),
                set_config('statement_timeout', $1, false),
                set_config('lock_timeout', $1, false),
                set_config('idle_in_transaction_session_timeout', $1, false),
                set_config('tcp_keepalives_idle', '10', false),
                set_config('tcp_keepalives_interval', '5', false),
                set_config('tcp_keepalives_count', '3', false)",
    )
    .bind(timeout.as_millis().to_string())
    .execute(connection)
    .await?;
    Ok(())
}

/// For work that takes as long as it takes.
pub(super) async fn unlimited(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    sqlx::query(
        "SELECT set_config('statement_timeout', '0', false),
                set_config('idle_in_transaction_session_timeout', '0', false)",
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// The file of a `sqlite:` URL; none when it is in memory, or not such a URL.
///
/// # Errors
/// [`StoreError::Url`] when it can't be read.
pub(super) fn file_of(url: &str) -> Result<Option<PathBuf>, StoreError> {
    if !url.starts_with("sqlite:") || in_memory(url) {
        return Ok(None);
    }
    let options = SqliteConnectOptions::from_str(url).map_err(|error| StoreError::Url(error.to_string()))?;
    Ok(Some(options.get_filename().to_owned()))
}

fn in_memory(url: &str) -> bool {
    url.contains(":memory:") || url.contains("mode=memory")
}

/// Takes the lock that says this file is ours, and makes the file private when it is new: it holds who called whom.
fn lock_beside(path: &Path) -> Result<File, StoreError> {
    let unavailable = |error: std::io::Error| StoreError::Unavailable(format!("{}: {error}", path.display()));
    private_file(path).map_err(unavailable)?;
    lock(path, "lock")?.ok_or(StoreError::InUse)
}

/// Takes the lock of this name on a database file; none when another has it.
pub(super) fn lock(path: &Path, name: &str) -> Result<Option<File>, StoreError> {
    let unavailable = |error: std::io::Error| StoreError::Unavailable(format!("{}: {error}", path.display()));
    let lock = private_file(&path.with_added_extension(name)).map_err(unavailable)?;
    match lock.try_lock() {
        Ok(()) => Ok(Some(lock)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(unavailable(error)),
    }
}

fn private_file(path: &Path) -> std::io::Result<File> {
    let mut options = OpenOptions::new();
    options.create(true).truncate(false).write(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

/// Connections that answer questions about the past.
const READERS_MAX: u32 = 4;
