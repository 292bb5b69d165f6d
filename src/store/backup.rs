//! A copy of the embedded database while it is used, and the way back from one.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use sqlx::{ConnectOptions as _, Connection as _, SqliteConnection};

use super::engine::{file_of, lock};
use super::{SealedWith, StoreError, schema};

/// A backup that is whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// Its length.
    pub bytes: u64,
    /// The version of its tables.
    pub schema: i64,
    /// Keys that are needed with it.
    pub sealed_with: Vec<SealedWith>,
}

/// A backup that is the database now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restored {
    /// What it held.
    pub kept: Kept,
    /// Where the database that was there before is now.
    pub aside: Option<PathBuf>,
}

/// Why there is no backup, or nothing was restored.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// Postgres, or in memory.
    #[error("this is for the embedded database; Postgres has pg_dump and pg_restore (docs/backup.md)")]
    NotEmbedded,
    /// There is no such file.
    #[error("there is no file {0}")]
    Missing(PathBuf),
    /// It is the database itself.
    #[error("{0} is the database itself")]
    Itself(PathBuf),
    /// Another backup is being made.
    #[error("another backup of this database is being made")]
    Busy,
    /// A daemon runs on it.
    #[error("a hookswitch uses the database; stop it first")]
    InUse,
    /// It is the file of a database in use, whose latest commits are beside it.
    #[error(
        "{0} has a write-ahead log beside it: it is a database in use, or was copied from one; restore what `hookswitch backup` \
         made"
    )]
    NotABackup(PathBuf),
    /// It holds something else.
    #[error("{0} holds no tables of hookswitch")]
    NotOurs(PathBuf),
    /// What it holds is not whole.
    #[error("{path} is damaged: {detail}")]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// What `SQLite` says.
        detail: String,
    },
    /// It can't be read or written.
    #[error("{path}: {error}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// The database can't be opened or asked.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Writes what the database at `url` holds at this moment into the file `to`, which only we can read, and which is there
/// only once it is whole and checked; one that was there before is replaced then. A daemon may serve meanwhile: it goes on
/// committing.
///
/// # Errors
/// [`BackupError`]; `to` is then as it was.
pub async fn backup(url: &str, to: &Path) -> Result<Kept, BackupError> {
    let path = file_of(url)?.ok_or(BackupError::NotEmbedded)?;
    if !path.exists() {
        return Err(BackupError::Missing(path));
    }
    if is_same(&path, to) {
        return Err(BackupError::Itself(to.to_owned()));
    }
    let _lock = lock(&path, "backup-lock")?.ok_or(BackupError::Busy)?;
    let unfinished = Unfinished::new(to.with_added_extension("partial"))?;
    let name = unfinished.0.to_str().ok_or_else(|| file_error(to)(io::ErrorKind::InvalidFilename.into()))?;
    let mut connection = options(&path).connect().await.map_err(StoreError::from)?;
    // A reader like any other: it sees one moment, and what is committed meanwhile waits in the log.
    sqlx::query("VACUUM INTO $1").bind(name).execute(&mut connection).await.map_err(StoreError::from)?;
    connection.close().await.map_err(StoreError::from)?;
    // SQLite leaves it to the system when to write it.
    unfinished.open()?.sync_all().map_err(file_error(&unfinished.0))?;
    // Nobody else has it, so nothing need be put beside it.
    let mut written =
        options(&unfinished.0).read_only(true).immutable(true).connect().await.map_err(StoreError::from)?;
    let bytes = unfinished.0.metadata().map_err(file_error(&unfinished.0))?.len();
    let kept = check(&mut written, &unfinished.0, bytes).await?;
    written.close().await.map_err(StoreError::from)?;
    unfinished.become_file(to)?;
    Ok(kept)
}

/// Makes the backup `from` the database at `url`, and keeps what was there under another name. Nobody may use the database.
/// The numbers of changes go on far above all that were given out, so that no entity tag comes back with another meaning.
///
/// # Errors
/// [`BackupError`]; the database is then as it was.
pub async fn restore(url: &str, from: &Path) -> Result<Restored, BackupError> {
    let path = file_of(url)?.ok_or(BackupError::NotEmbedded)?;
    if !from.is_file() {
        return Err(BackupError::Missing(from.to_owned()));
    }
    if is_same(&path, from) {
        return Err(BackupError::Itself(from.to_owned()));
    }
    if beside(from, "-wal").metadata().is_ok_and(|log| log.len() > 0) {
        return Err(BackupError::NotABackup(from.to_owned()));
    }
    let _lock = lock(&path, "lock")?.ok_or(BackupError::InUse)?;
    let unfinished = Unfinished::new(path.with_added_extension("restoring"))?;
    let bytes = copy_file(from, &unfinished).await?;
    let private = options(&unfinished.0).journal_mode(SqliteJournalMode::Delete).synchronous(SqliteSynchronous::Full);
    let mut copy = private.connect().await.map_err(|error| damaged(from, &error))?;
    let kept = check(&mut copy, from, bytes).await?;
    if kept.schema > schema::known() {
        return Err(StoreError::Newer { found: kept.schema, known: schema::known() }.into());
    }
    let last = leave(&path).await;
    sqlx::query(RENUMBER).bind(last).bind(NUMBERS_APART).execute(&mut copy).await.map_err(StoreError::from)?;
    copy.close().await.map_err(StoreError::from)?;
    let aside = keep_aside(&path)?;
    unfinished.become_file(&path)?;
    Ok(Restored { kept, aside })
}

/// That it is whole and ours, and what it is.
async fn check(connection: &mut SqliteConnection, shown: &Path, bytes: u64) -> Result<Kept, BackupError> {
    let found = sqlx::query_scalar("PRAGMA integrity_check(1)").fetch_all(&mut *connection).await;
    let found: Vec<String> = found.map_err(|error| damaged(shown, &error))?;
    if found != ["ok"] {
        return Err(damaged(shown, &found.join("; ")));
    }
    let schema = schema::version_of_file(connection).await.map_err(|error| damaged(shown, &error))?;
    let schema = schema.ok_or_else(|| BackupError::NotOurs(shown.to_owned()))?;
    let mut sealed_with = Vec::new();
    if schema >= SEALED_SINCE {
        let keys: Vec<(String, i64)> =
            sqlx::query_as(SEALED_WITH).fetch_all(connection).await.map_err(|error| damaged(shown, &error))?;
        sealed_with = keys.into_iter().map(|(key, devices)| SealedWith { key, devices }).collect();
    }
    Ok(Kept { bytes, schema, sealed_with })
}

/// Puts the log of the database that is to be left into its file, and answers its highest number of a deletion; 0 when it
/// can't be read, for then it may be the reason why a backup is restored.
async fn leave(path: &Path) -> i64 {
    if path.metadata().is_ok_and(|file| file.len() > 0)
        && let Ok(mut connection) = options(path).connect().await
    {
        let last = sqlx::query_scalar("SELECT seq FROM journal WHERE id = 1").fetch_optional(&mut connection).await;
        // The last one to close it does the rest.
        if let Err(error) = connection.close().await {
            tracing::warn!(%error, "the log of the database that was there before stays beside it");
        }
        return last.ok().flatten().unwrap_or(0);
    }
    0
}

/// Gives the database file a second name, which it keeps when its first becomes another's.
fn keep_aside(path: &Path) -> Result<Option<PathBuf>, BackupError> {
    if !path.exists() {
        return Ok(None);
    }
    let names = (1..).map(|n: u32| path.with_added_extension(format!("aside-{n}")));
    let Some(aside) = names.into_iter().find(|name| !name.exists()) else { return Ok(None) };
    // First, and under its new name: a log that is there yet must never be taken for the backup's.
    for end in ["-wal", "-shm"] {
        let (log, name) = (beside(path, end), beside(&aside, end));
        if log.exists() {
            fs::rename(&log, &name).map_err(file_error(&log))?;
        }
    }
    // Not moved: cut off here, there is a database under the usual name.
    fs::hard_link(path, &aside).or_else(|_| fs::rename(path, &aside)).map_err(file_error(path))?;
    Ok(Some(aside))
}

async fn copy_file(from: &Path, to: &Unfinished) -> Result<u64, BackupError> {
    let (source, mut target) = (from.to_owned(), to.open()?);
    let copied = tokio::task::spawn_blocking(move || {
        let copied = io::copy(&mut File::open(source)?, &mut target)?;
        target.sync_all()?;
        Ok(copied)
    });
    copied.await.unwrap_or_else(|error| Err(io::Error::other(error))).map_err(file_error(&to.0))
}

/// A file that only we can read, and that goes again unless it gets its name.
struct Unfinished(PathBuf);

impl Unfinished {
    /// One that was left behind is good for nothing.
    fn new(path: PathBuf) -> Result<Self, BackupError> {
        for name in [path.clone(), beside(&path, "-journal")] {
            match fs::remove_file(&name) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(file_error(&name)(error)),
                _ => {}
            }
        }
        OpenOptions::new().create_new(true).write(true).mode(0o600).open(&path).map_err(file_error(&path))?;
        Ok(Self(path))
    }

    fn open(&self) -> Result<File, BackupError> {
        OpenOptions::new().write(true).open(&self.0).map_err(file_error(&self.0))
    }

    /// When this returns it is on the disk under that name.
    fn become_file(self, path: &Path) -> Result<(), BackupError> {
        fs::rename(&self.0, path).map_err(file_error(path))?;
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        File::open(folder).and_then(|folder| folder.sync_all()).map_err(file_error(folder))
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        // Gone already when it got its name.
        let _ = fs::remove_file(&self.0);
    }
}

/// A connection to a file that is there.
fn options(path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(false)
        .busy_timeout(BUSY_WAIT)
        .disable_statement_logging()
}

/// The file of `SQLite`'s own that belongs to a database file.
fn beside(path: &Path, end: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(end);
    name.into()
}

fn is_same(one: &Path, other: &Path) -> bool {
    let id = |path: &Path| path.metadata().map(|file| (file.dev(), file.ino())).ok();
    id(one).is_some_and(|file| id(other) == Some(file))
}

fn file_error(path: &Path) -> impl FnOnce(io::Error) -> BackupError {
    let path = path.to_owned();
    move |error| BackupError::File { path, error }
}

fn damaged(path: &Path, detail: &impl ToString) -> BackupError {
    BackupError::Damaged { path: path.to_owned(), detail: detail.to_string() }
}

const SEALED_WITH: &str = "SELECT key_id, COUNT(*) FROM sealed_secrets GROUP BY key_id ORDER BY key_id";

/// The first version that has that table.
const SEALED_SINCE: i64 = 5;

const RENUMBER: &str = "UPDATE journal SET seq = MAX(seq, $1) + $2 WHERE id = 1";

/// More than anybody changes between a backup and its restoration, and 4096 times that is still exact in a double.
const NUMBERS_APART: i64 = 1 << 40;

const BUSY_WAIT: Duration = Duration::from_secs(10);
