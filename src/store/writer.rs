//! Writes one batch in one transaction, and tells a bad row from a bad database.

use std::sync::Arc;

use sqlx::{Connection as _, PgConnection, SqliteConnection};

use super::batch::{Parameter, Step, number, steps};
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
        let (steps, deleted) = steps(items, self.keys.as_deref()).map_err(|error| match error {
            Unsealed::NoKey => WriteError::Row(error.to_string()),
            Unsealed::System(_) => WriteError::Unavailable(error.to_string()),
        })?;
        // Taken out, and put back only when it is known to be in order: a connection that failed, timed out or was
        // cancelled in the middle of something is never used again.
        let mut writer = match self.writer.take() {
            Some(writer) => writer,
            None => self.engine.connect(self.timeouts).await.map_err(|error| unavailable(&error))?,
        };
        let write = async {
            match &mut writer {
                Writer::Sqlite(connection) => write_sqlite(connection, &steps, deleted).await,
                Writer::Postgres(connection) => write_postgres(connection, steps, deleted).await,
            }
        };
        match tokio::time::timeout(self.timeouts.write, write).await {
            Ok(Ok(())) => {
                self.writer = Some(writer);
                Ok(())
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
    // Takes the write lock at once: a transaction that starts as a reader may find it gone when it wants to write.
    let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
    for step in steps {
        let query = sqlx::query(step.statement.sqlite);
        let query = match &step.parameter {
            Parameter::None => query,
            Parameter::Json(text) => query.bind(text.clone()),
            Parameter::Bindings(columns) => query.bind(columns.to_json()),
        };
        query.execute(&mut *transaction).await?;
    }
    if let Some(seq) = deleted {
        sqlx::query(REMEMBER).bind(number(seq)).execute(&mut *transaction).await?;
    }
    transaction.commit().await
}

pub(super) async fn write_postgres(
    connection: &mut PgConnection,
    steps: Vec<Step>,
    deleted: Option<Seq>,
) -> Result<(), sqlx::Error> {
    let mut transaction = connection.begin().await?;
    for step in steps {
        let query = sqlx::query(step.statement.postgres);
        let query = match step.parameter {
            Parameter::None => query,
            Parameter::Json(text) => query.bind(text),
            Parameter::Bindings(columns) => query.bind(columns.devices).bind(columns.contacts).bind(columns.seqs),
        };
        query.execute(&mut *transaction).await?;
    }
    if let Some(seq) = deleted {
        sqlx::query(REMEMBER).bind(number(seq)).execute(&mut *transaction).await?;
    }
    transaction.commit().await
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
