//! Moves everything from one database to another, of either engine, and proves that it arrived.
//!
//! All is written, read back and compared in one transaction of the target: a copy that was cut off, whatever cut it off,
//! leaves an empty target to begin again with, and no daemon can ever start on half of one.

use futures_util::stream::BoxStream;
use futures_util::{StreamExt as _, TryStreamExt as _};
use sqlx::{AssertSqlSafe, Connection as _};

use super::batch::array;
use super::engine::{Engine, Timeouts, Writer, file_of, unlimited};
use super::tables::{Cells, JOURNAL, Sum, TABLES, Table};
use super::{StoreError, schema, when_free};

/// What became of one table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Copied {
    /// Its name.
    pub table: &'static str,
    /// How many rows it has, on both sides.
    pub rows: u64,
    /// A sum over all cells of all rows, whatever their order, in hexadecimal; the same on both sides.
    pub checksum: String,
}

/// How far a copy has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// The table.
    pub table: &'static str,
    /// Rows of it that are done.
    pub rows: u64,
    /// Rows it has.
    pub of: u64,
    /// They are written, and read back now.
    pub is_check: bool,
}

/// Why nothing was copied.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// Both are the same.
    #[error("source and target are the same database")]
    Same,
    /// The source is a file that is not there.
    #[error("the source, {0}, is not there")]
    NoSource(String),
    /// Somebody writes to it: what is acknowledged meanwhile would be missing.
    #[error("a hookswitch uses the {0}; stop it first, and start it again on the target")]
    InUse(&'static str),
    /// The source's tables are of another version.
    #[error(
        "the source has schema {found} and this hookswitch copies schema {known}; `hookswitch migrate` brings an older one up \
         to date"
    )]
    Version {
        /// The source's.
        found: i64,
        /// Ours.
        known: i64,
    },
    /// There is no hookswitch database.
    #[error("the source holds no tables of hookswitch")]
    NotOurs,
    /// The target holds something.
    #[error("the target is not empty, there are rows in: {0}; a copy needs an empty database")]
    NotEmpty(String),
    /// What was read back is not what was written.
    #[error(
        "{table}: {sent} rows were written and {found} read back{}; nothing was kept",
        if sent == found { ", with another checksum" } else { "" }
    )]
    Differs {
        /// The table.
        table: &'static str,
        /// Rows written.
        sent: u64,
        /// Rows there.
        found: u64,
    },
    /// The source can't be opened or read.
    #[error("the source: {0}")]
    Source(StoreError),
    /// The target can't be opened or written.
    #[error("the target: {0}")]
    Target(StoreError),
}

/// Copies everything from the database `from` into the empty database `to`, which is given the tables first. Nobody else may
/// use either. Sealed passwords stay sealed: the target needs the same key. `report` is told after each batch.
///
/// # Errors
/// [`CopyError`]; the target is then as empty as before.
pub async fn copy(
    from: &str,
    to: &str,
    timeouts: Timeouts,
    report: &mut (dyn FnMut(Progress) + Send),
) -> Result<Vec<Copied>, CopyError> {
    if from == to {
        return Err(CopyError::Same);
    }
    // Kept: a file's lock is theirs.
    let (_source, mut source) = open_source(from, timeouts).await?;
    let (target, mut target_writer) = open_target(to, timeouts).await?;
    let result = copy_all(&mut source, &mut target_writer, report).await;
    // Closed in good order, so that the file of SQLite is whole without its log.
    close(source).await;
    if result.is_ok() {
        settle(&mut target_writer).await;
    }
    close(target_writer).await;
    drop(target);
    result
}

/// The source at one moment: whatever happens to it meanwhile, all tables are read as they are now.
async fn open_source(url: &str, timeouts: Timeouts) -> Result<(Engine, Writer), CopyError> {
    let file = file_of(url).map_err(CopyError::Source)?;
    if let Some(file) = file.filter(|file| !file.exists()) {
        return Err(CopyError::NoSource(file.display().to_string()));
    }
    let opened = when_free(timeouts.exclusive, async || {
        let engine = Engine::of(url, timeouts)?;
        let writer = engine.connect(timeouts).await?;
        Ok((engine, writer))
    });
    let (engine, mut writer) = opened.await.map_err(|error| in_use("source", error, CopyError::Source))?;
    match schema::version(&mut writer).await.map_err(CopyError::Source)? {
        Some(found) if found == schema::known() => {}
        Some(found) => return Err(CopyError::Version { found, known: schema::known() }),
        None => return Err(CopyError::NotOurs),
    }
    let begun = match &mut writer {
        Writer::Sqlite(_) => run(&mut writer, "BEGIN").await,
        Writer::Postgres(connection) => match unlimited(connection).await {
            Ok(()) => run(&mut writer, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await,
            Err(error) => Err(error),
        },
    };
    begun.map_err(source_failed)?;
    Ok((engine, writer))
}

/// The target with its tables, which must be empty, in a transaction.
async fn open_target(url: &str, timeouts: Timeouts) -> Result<(Engine, Writer), CopyError> {
    let opened = when_free(timeouts.exclusive, async || {
        let engine = Engine::of(url, timeouts)?;
        let writer = engine.prepare(timeouts).await?;
        Ok((engine, writer))
    });
    let (engine, mut writer) = opened.await.map_err(|error| in_use("target", error, CopyError::Target))?;
    let mut filled = Vec::new();
    for table in TABLES {
        if is_filled(&mut writer, table).await.map_err(target_failed)? {
            filled.push(table.name);
        }
    }
    if !filled.is_empty() {
        return Err(CopyError::NotEmpty(filled.join(", ")));
    }
    if let Writer::Postgres(connection) = &mut writer {
        unlimited(connection).await.map_err(target_failed)?;
    }
    let begin = if matches!(writer, Writer::Sqlite(_)) { "BEGIN IMMEDIATE" } else { "BEGIN" };
    run(&mut writer, begin).await.map_err(target_failed)?;
    Ok((engine, writer))
}

fn in_use(which: &'static str, error: StoreError, other: impl FnOnce(StoreError) -> CopyError) -> CopyError {
    if matches!(error, StoreError::InUse) { CopyError::InUse(which) } else { other(error) }
}

async fn copy_all(
    source: &mut Writer,
    target: &mut Writer,
    report: &mut (dyn FnMut(Progress) + Send),
) -> Result<Vec<Copied>, CopyError> {
    let mut copied = Vec::with_capacity(TABLES.len());
    for table in TABLES {
        let of = count(source, table).await.map_err(source_failed)?;
        if table.name == JOURNAL {
            run(target, "DELETE FROM journal").await.map_err(target_failed)?;
        }
        let sent = copy_table(source, target, table, of, report).await?;
        let found = sum(target, table, of, report).await.map_err(target_failed)?;
        if sent != found {
            return Err(CopyError::Differs { table: table.name, sent: sent.rows, found: found.rows });
        }
        copied.push(Copied { table: table.name, rows: found.rows, checksum: format!("{:032x}", found.sum) });
    }
    run(target, "COMMIT").await.map_err(target_failed)?;
    Ok(copied)
}

/// Copies a table, and answers what was read.
async fn copy_table(
    source: &mut Writer,
    target: &mut Writer,
    table: &'static Table,
    of: u64,
    report: &mut (dyn FnMut(Progress) + Send),
) -> Result<Sum, CopyError> {
    let (mut sum, mut batch, mut bytes) = (Sum::default(), Vec::new(), 0);
    let mut rows = rows(source, table);
    while let Some(row) = rows.try_next().await.map_err(source_failed)? {
        sum.add(&row);
        let json = row.json();
        bytes += json.len();
        batch.push(json);
        if batch.len() == BATCH_ROWS_MAX || bytes > BATCH_BYTES_MAX {
            insert(target, table, std::mem::take(&mut batch)).await.map_err(target_failed)?;
            bytes = 0;
            report(Progress { table: table.name, rows: sum.rows, of, is_check: false });
        }
    }
    if !batch.is_empty() {
        insert(target, table, batch).await.map_err(target_failed)?;
    }
    report(Progress { table: table.name, rows: sum.rows, of, is_check: false });
    Ok(sum)
}

async fn sum(
    writer: &mut Writer,
    table: &'static Table,
    of: u64,
    report: &mut (dyn FnMut(Progress) + Send),
) -> Result<Sum, sqlx::Error> {
    let mut sum = Sum::default();
    let mut rows = rows(writer, table);
    while let Some(row) = rows.try_next().await? {
        sum.add(&row);
        if sum.rows.is_multiple_of(BATCH_ROWS_MAX as u64) {
            report(Progress { table: table.name, rows: sum.rows, of, is_check: true });
        }
    }
    Ok(sum)
}

/// Row by row, so that no table is in memory.
fn rows<'c>(writer: &'c mut Writer, table: &'static Table) -> BoxStream<'c, Result<Cells, sqlx::Error>> {
    let query = AssertSqlSafe(table.select());
    match writer {
        Writer::Sqlite(connection) => {
            sqlx::query(query).fetch(connection).map(move |row| row.and_then(|row| Cells::read(table, &row))).boxed()
        }
        Writer::Postgres(connection) => {
            sqlx::query(query).fetch(connection).map(move |row| row.and_then(|row| Cells::read(table, &row))).boxed()
        }
    }
}

async fn insert(writer: &mut Writer, table: &Table, rows: Vec<String>) -> Result<(), sqlx::Error> {
    let rows = array(rows.into_iter());
    match writer {
        Writer::Sqlite(connection) => {
            let sql = table.insert("json_each($1) AS r");
            sqlx::query(AssertSqlSafe(sql)).bind(rows).execute(connection).await?;
        }
        Writer::Postgres(connection) => {
            let sql = table.insert("jsonb_array_elements(CAST($1 AS jsonb)) AS r(value)");
            sqlx::query(AssertSqlSafe(sql)).bind(rows).execute(connection).await?;
        }
    }
    Ok(())
}

async fn count(writer: &mut Writer, table: &Table) -> Result<u64, sqlx::Error> {
    let query = AssertSqlSafe(table.count());
    let rows: i64 = match writer {
        Writer::Sqlite(connection) => sqlx::query_scalar(query).fetch_one(connection).await?,
        Writer::Postgres(connection) => sqlx::query_scalar(query).fetch_one(connection).await?,
    };
    Ok(u64::try_from(rows).unwrap_or(0))
}

async fn is_filled(writer: &mut Writer, table: &Table) -> Result<bool, sqlx::Error> {
    let query = AssertSqlSafe(table.is_filled());
    match writer {
        Writer::Sqlite(connection) => sqlx::query_scalar(query).fetch_one(connection).await,
        Writer::Postgres(connection) => sqlx::query_scalar(query).fetch_one(connection).await,
    }
}

async fn run(writer: &mut Writer, sql: &'static str) -> Result<(), sqlx::Error> {
    match writer {
        Writer::Sqlite(connection) => sqlx::raw_sql(sql).execute(connection).await.map(drop),
        Writer::Postgres(connection) => sqlx::raw_sql(sql).execute(connection).await.map(drop),
    }
}

/// What Postgres would find out by itself some minutes later: how large the tables are.
async fn settle(target: &mut Writer) {
    let Writer::Postgres(connection) = target else { return };
    let tables: Vec<&str> = TABLES.iter().map(|table| table.name).collect();
    let sql = AssertSqlSafe(format!("ANALYZE {}", tables.join(", ")));
    if let Err(error) = sqlx::raw_sql(sql).execute(connection).await {
        tracing::warn!(%error, "the target's tables were not analysed; autovacuum will do it");
    }
}

/// What was to be kept is committed; what can't be closed now is closed by the system.
async fn close(writer: Writer) {
    let closed = match writer {
        Writer::Sqlite(connection) => connection.close().await,
        Writer::Postgres(connection) => connection.close().await,
    };
    if let Err(error) = closed {
        tracing::debug!(%error, "a connection was not closed in good order");
    }
}

fn source_failed(error: sqlx::Error) -> CopyError {
    CopyError::Source(error.into())
}

fn target_failed(error: sqlx::Error) -> CopyError {
    CopyError::Target(error.into())
}

const BATCH_ROWS_MAX: usize = 1_000;
const BATCH_BYTES_MAX: usize = 4 << 20;
