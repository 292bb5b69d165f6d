//! The version of the tables, and how they get there.

use sqlx::SqliteConnection;
use sqlx::migrate::{MigrateError, Migrator};

use super::StoreError;
use super::engine::Writer;

/// The version of the tables that this program makes: the number of its last migration.
#[must_use]
pub fn known() -> i64 {
    MIGRATOR.iter().map(|migration| migration.version).max().unwrap_or(0)
}

/// Brings the tables up to date. A newer version's are left as they are.
pub(super) async fn migrate(writer: &mut Writer) -> Result<(), StoreError> {
    // Asked first: the migrator only says of which migration it knows nothing.
    if let Some(found) = version(writer).await?.filter(|found| *found > known()) {
        return Err(StoreError::Newer { found, known: known() });
    }
    let migrated = match writer {
        Writer::Sqlite(connection) => MIGRATOR.run(connection).await,
        Writer::Postgres(connection) => MIGRATOR.run(connection).await,
    };
    migrated.map_err(|error| match error {
        MigrateError::VersionMissing(version) => {
            StoreError::Migrate(format!("it has had migration {version}, which hookswitch never had"))
        }
        MigrateError::VersionMismatch(version) => {
            StoreError::Migrate(format!("migration {version} was another one in the version that made them"))
        }
        error => StoreError::Migrate(error.to_string()),
    })
}

/// The version of the tables as they are; none where hookswitch has not been.
pub(super) async fn version(writer: &mut Writer) -> Result<Option<i64>, StoreError> {
    Ok(match writer {
        Writer::Sqlite(connection) => version_of_file(connection).await?,
        Writer::Postgres(connection) => {
            let is_there: bool = sqlx::query_scalar(IS_THERE_POSTGRES).fetch_one(&mut *connection).await?;
            if is_there { sqlx::query_scalar(VERSION).fetch_one(connection).await? } else { None }
        }
    })
}

/// [`version`] of a file.
pub(super) async fn version_of_file(connection: &mut SqliteConnection) -> Result<Option<i64>, sqlx::Error> {
    let is_there: bool = sqlx::query_scalar(IS_THERE_SQLITE).fetch_one(&mut *connection).await?;
    if is_there { sqlx::query_scalar(VERSION).fetch_one(connection).await } else { Ok(None) }
}

const IS_THERE_SQLITE: &str = "SELECT EXISTS (SELECT 1 FROM sqlite_master WHERE name = '_sqlx_migrations')";
const IS_THERE_POSTGRES: &str = "SELECT to_regclass('_sqlx_migrations') IS NOT NULL";
const VERSION: &str = "SELECT MAX(version) FROM _sqlx_migrations";

/// Compiled in, so that the one binary is all there is to install.
static MIGRATOR: Migrator = sqlx::migrate!("./migrations");

#[cfg(test)]
mod tests {
    use super::*;

    /// A version that reads the old shape may still be started again, until a release has gone by (docs/upgrade.md).
    #[test]
    fn what_takes_something_away_says_so_in_its_name_and_since_when_nobody_reads_it() {
        for migration in MIGRATOR.iter().filter(|migration| migration.version > BEFORE_THE_RULE) {
            let sql = migration.sql.as_str().to_uppercase();
            let takes = ["DROP TABLE", "DROP COLUMN", "RENAME ", "ALTER COLUMN"].iter().any(|word| sql.contains(word));
            let contracts = migration.description.starts_with("contract ");
            assert_eq!(takes, contracts, "{}: {}", migration.version, migration.description);
            assert!(sql.starts_with("-- "), "{} opens with why", migration.version);
            assert!(!contracts || sql.contains("NOT READ SINCE "), "{} says since when", migration.version);
        }
    }

    /// The bindings' table was dropped by the migration that moved its rows.
    const BEFORE_THE_RULE: i64 = 6;
}
