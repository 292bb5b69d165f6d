//! Why the database could not be opened or asked.

/// Why the database could not be opened or asked. None of these holds a password or a record's content.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The URL names no engine we know, or can't be read.
    #[error("database URL must be sqlite:PATH or postgres://USER@HOST/NAME: {0}")]
    Url(String),
    /// Another process has it.
    #[error("the database is in use by another hookswitch; stop that one first")]
    InUse,
    /// Its tables are a newer version's.
    #[error(
        "a newer hookswitch has been here: its tables have schema {found}, this is hookswitch {} and knows schema {known} at \
         most; nothing was changed; start the newer version again, or go back to the backup made before it was started \
         (docs/upgrade.md)",
        env!("CARGO_PKG_VERSION")
    )]
    Newer {
        /// The highest migration it has had.
        found: i64,
        /// The highest one we have.
        known: i64,
    },
    /// A Postgres database that can't hold every text.
    #[error(
        "the database has the encoding {0}, which has no room for every name; make it anew: \
         CREATE DATABASE … ENCODING 'UTF8' TEMPLATE template0"
    )]
    Encoding(String),
    /// Its tables are not ours, or a migration failed.
    #[error("the database's tables can't be brought up to date: {0}")]
    Migrate(String),
    /// It could not be reached, or did not answer in time.
    #[error("database unavailable: {0}")]
    Unavailable(String),
    /// Something is sealed with a key that is not at hand.
    #[error("phones' passwords ({devices}) are sealed with key {key}, which is not at hand")]
    Locked {
        /// The key's id.
        key: String,
        /// How many.
        devices: i64,
    },
    /// The page cursor is none of ours.
    #[error("bad cursor")]
    Cursor,
    /// It holds something we did not write.
    #[error("corrupt row: table {table}, column {column}, row {row}: {detail}")]
    Corrupt {
        /// The table.
        table: &'static str,
        /// The column.
        column: &'static str,
        /// The row's key.
        row: String,
        /// What is wrong with it.
        detail: String,
    },
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        Self::Unavailable(error.to_string())
    }
}
