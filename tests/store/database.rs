//! A fresh database of either engine.

use std::sync::Arc;
use std::time::Duration;

use hookswitch::clock::Clock;
use hookswitch::registry::{Limits, Registry};
use hookswitch::store::{Store, Timeouts};
use sqlx::{Connection as _, PgConnection, SqliteConnection};
use tempfile::TempDir;

use crate::postgres::Server;

/// A database that goes with this value.
pub struct Database {
    pub url: String,
    _keep: Keep,
}

enum Keep {
    Folder(#[expect(dead_code, reason = "held for its end")] TempDir),
    Server(#[expect(dead_code, reason = "held for its end")] Arc<Server>),
}

impl Database {
    pub fn sqlite() -> Self {
        let folder = TempDir::with_prefix("hookswitch-db-").expect("a temporary folder");
        let url = format!("sqlite:{}", folder.path().join("hookswitch.db").display());
        Self { url, _keep: Keep::Folder(folder) }
    }

    pub fn postgres() -> Self {
        let server = Server::shared();
        Self { url: server.database(), _keep: Keep::Server(server) }
    }

    /// A connection beside the registry's own.
    pub async fn side(&self) -> Side {
        if self.url.starts_with("sqlite:") {
            Side::Sqlite(SqliteConnection::connect(&self.url).await.expect("a connection"))
        } else {
            Side::Postgres(PgConnection::connect(&self.url).await.expect("a connection"))
        }
    }

    /// Makes the database refuse users of this name, as no validation of ours does.
    pub async fn refuse_users_named(&self, name: &'static str) {
        match self.side().await {
            Side::Sqlite(mut side) => {
                let sql = format!(
                    "CREATE TRIGGER refuse BEFORE INSERT ON users WHEN NEW.name = '{name}'
                     BEGIN SELECT RAISE(ABORT, 'refused'); END"
                );
                sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&mut side).await.expect("a trigger");
            }
            Side::Postgres(mut side) => {
                let sql = format!("ALTER TABLE users ADD CONSTRAINT refuse CHECK (name <> '{name}')");
                sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&mut side).await.expect("a constraint");
            }
        }
    }

    pub async fn store(&self) -> Store {
        Store::open_with(&self.url, timeouts()).await.expect("the database opens")
    }

    pub async fn registry(&self, clock: &Clock) -> Arc<Registry> {
        Registry::open(self.store().await, clock.clone(), Limits::default()).await.expect("the registry opens")
    }
}

/// A connection of either engine.
pub enum Side {
    Sqlite(SqliteConnection),
    Postgres(PgConnection),
}

impl Side {
    /// The one number that a question about `key` has for an answer.
    pub async fn number(&mut self, sql: &'static str, key: &str) -> Option<i64> {
        match self {
            Self::Sqlite(side) => sqlx::query_scalar(sql).bind(key).fetch_optional(side).await,
            Self::Postgres(side) => sqlx::query_scalar(sql).bind(key).fetch_optional(side).await,
        }
        .expect("an answer")
    }

    /// The texts that a question about `key` has for an answer.
    pub async fn texts(&mut self, sql: &'static str, key: &str) -> Vec<String> {
        match self {
            Self::Sqlite(side) => sqlx::query_scalar(sql).bind(key).fetch_all(side).await,
            Self::Postgres(side) => sqlx::query_scalar(sql).bind(key).fetch_all(side).await,
        }
        .expect("an answer")
    }

    /// Runs statements.
    pub async fn run(&mut self, sql: &str) {
        let sql = sqlx::raw_sql(sqlx::AssertSqlSafe(sql.to_owned()));
        match self {
            Self::Sqlite(side) => sql.execute(side).await.map(|_| ()),
            Self::Postgres(side) => sql.execute(side).await.map(|_| ()),
        }
        .expect("it runs");
    }
}

/// Short, so that what is lost is noticed while a test looks on.
pub fn timeouts() -> Timeouts {
    Timeouts { write: Duration::from_secs(2), ..Timeouts::default() }
}

/// Runs one test body on each engine.
macro_rules! on_both_engines {
    ($($(#[$doc:meta])* $name:ident,)*) => {$(
        mod $name {
            $(#[$doc])*
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn on_sqlite() {
                super::$name($crate::database::Database::sqlite()).await;
            }

            $(#[$doc])*
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn on_postgres() {
                super::$name($crate::database::Database::postgres()).await;
            }
        }
    )*};
}
pub(crate) use on_both_engines;
