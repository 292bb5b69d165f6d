//! Writes one batch in one transaction, and tells a bad row from a bad database.

use std::sync::Arc;

use sqlx::{Connection as _, PgConnection, SqliteConnection};
use tokio::time::error::Elapsed;

use super::batch::{LogRows, Parameter, Step, number, steps};
use super::commit::{Item, Sink, WriteError};
use super::engine::{Engine, Timeouts, Writer};
use super::secrets::Unsealed;
use super::statements::REMEMBER;
use super::{Seq, StoreError};
use crate::sealing::Keys;

/// The database as the journal sees it. Connects when it must, and gives a connection up at the first doubt.
#[derive(Debug)]
pub(super) struct Database {
    pub(super) engine: Engine,
    pub(super) timeouts: Timeouts,
    pub(super) writer: Option<Writer>,
    pub(super) keys: Option<Arc<Keys>>,
}

impl Sink for Database {
    async fn write(&mut self, items: &[Item]) -> Result<(), WriteError> {
        let (steps, deleted) =
            steps(items, self.keys.as_deref(), self.engine.body_bytes()).map_err(|error| match error {
                Unsealed::NoKey => WriteError::Row(error.to_string()),
                Unsealed::System(_) => WriteError::Unavailable(error.to_string()),
            })?;
        let mut writer = self.take().await?;
        let write = async {
            let _turn = self.engine.turn().await;
            match &mut writer {
                Writer::Sqlite(connection) => write_sqlite(connection, &steps, deleted).await,
                Writer::Postgres(connection) => write_postgres(connection, steps, deleted).await,
            }
        };
        let done = tokio::time::timeout(self.timeouts.write, write).await;
        self.keep(writer, done)
    }
}

impl Database {
    /// Taken out, and put back only when it is known to be in order: a connection that failed, timed out or was cancelled
    /// in the middle of something is never used again.
    async fn take(&mut self) -> Result<Writer, WriteError> {
        match self.writer.take() {
            Some(writer) => Ok(writer),
            None => self.engine.connect(self.timeouts).await.map_err(|error| unavailable(&error)),
        }
    }

    fn keep<T>(&mut self, writer: Writer, done: Result<Result<T, sqlx::Error>, Elapsed>) -> Result<T, WriteError> {
        match done {
            Ok(Ok(value)) => {
                self.writer = Some(writer);
                Ok(value)
            }
            Ok(Err(error)) => {
                let error = classify(&error);
                if matches!(error, WriteError::Row(_)) {
                    // The transaction is rolled back before the connection's next statement.
                    self.writer = Some(writer);
                }
                Err(error)
            }
            Err(_) => Err(WriteError::Unavailable("no commit in time".into())),
        }
    }
}

pub(super) async fn write_sqlite(
    connection: &mut SqliteConnection,
    steps: &[Step],
    deleted: Option<Seq>,
) -> Result<(), sqlx::Error> {
    if let ([step], None) = (steps, deleted)
        && step.parameter.rows() == 1
    {
        // Atomic by itself.
        return run_sqlite(connection, step).await;
    }
    // Takes the write lock at once: a transaction that starts as a reader may find it gone when it wants to write.
    let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
    for step in steps {
        run_sqlite(&mut transaction, step).await?;
    }
    if let Some(seq) = deleted {
        sqlx::query(REMEMBER).bind(number(seq)).execute(&mut *transaction).await?;
    }
    transaction.commit().await
}

async fn run_sqlite(connection: &mut SqliteConnection, step: &Step) -> Result<(), sqlx::Error> {
    let query = sqlx::query(step.statement.sqlite);
    let query = match &step.parameter {
        Parameter::None => query,
        Parameter::Json(text) => query.bind(text.clone()),
        Parameter::Range(above, to) => query.bind(*above).bind(*to),
        Parameter::Log(LogRows { ids, bodies }) => {
            for (id, body) in ids.iter().zip(bodies) {
                sqlx::query(step.statement.sqlite).bind(*id).bind(body.clone()).execute(&mut *connection).await?;
            }
            return Ok(());
        }
    };
    query.execute(connection).await?;
    Ok(())
}

pub(super) async fn write_postgres(
    connection: &mut PgConnection,
    mut steps: Vec<Step>,
    deleted: Option<Seq>,
) -> Result<(), sqlx::Error> {
    if steps.len() == 1
        && deleted.is_none()
        && let Some(step) = steps.pop()
    {
        // Atomic by itself, and without BEGIN and COMMIT a third of the way there and back.
        return run_postgres(connection, step).await;
    }
    let mut transaction = connection.begin().await?;
    for step in steps {
        run_postgres(&mut transaction, step).await?;
    }
    if let Some(seq) = deleted {
        sqlx::query(REMEMBER).bind(number(seq)).execute(&mut *transaction).await?;
    }
    transaction.commit().await
}

async fn run_postgres(connection: &mut PgConnection, step: Step) -> Result<(), sqlx::Error> {
    let query = sqlx::query(step.statement.postgres);
    let query = match step.parameter {
        Parameter::None => query,
        Parameter::Json(text) => query.bind(text),
        Parameter::Range(above, to) => query.bind(above).bind(to),
        Parameter::Log(LogRows { ids, bodies }) => query.bind(ids).bind(bodies),
    };
    query.execute(connection).await?;
    Ok(())
}

/// Whether the rows are at fault or the database. Only what the engine says about data counts as the rows' fault: a row
/// dropped by mistake is a promise broken, a batch tried again is not.
fn classify(error: &sqlx::Error) -> WriteError {
    let about_data = match error {
        sqlx::Error::Encode(_) | sqlx::Error::InvalidArgument(_) => true,
        sqlx::Error::Database(database) => {
            database.code().is_some_and(|code| is_postgres_data_error(&code) || is_sqlite_data_error(&code))
        }
        _ => false,
    };
    if about_data { WriteError::Row(error.to_string()) } else { WriteError::Unavailable(error.to_string()) }
}

/// SQLSTATE classes 22 (data exception), 23 (integrity constraint), 54 (limit exceeded).
fn is_postgres_data_error(code: &str) -> bool {
    code.len() == 5 && ["22", "23", "54"].iter().any(|class| code.starts_with(class))
}

/// Primary result codes 18 (too big), 19 (constraint), 20 (mismatch).
fn is_sqlite_data_error(code: &str) -> bool {
    code.len() < 5 && code.parse::<u32>().is_ok_and(|code| matches!(code & 0xff, 18..=20))
}

fn unavailable(error: &StoreError) -> WriteError {
    WriteError::Unavailable(error.to_string())
}
