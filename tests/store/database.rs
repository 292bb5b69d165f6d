//! A fresh database of either engine.

use std::sync::Arc;
use std::time::Duration;

use hookswitch::clock::Clock;
use hookswitch::registry::{Limits, Registry};
use hookswitch::store::{Store, Timeouts};
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

    pub async fn store(&self) -> Store {
        Store::open_with(&self.url, timeouts()).await.expect("the database opens")
    }

    pub async fn registry(&self, clock: &Clock) -> Arc<Registry> {
        Registry::open(self.store().await, clock.clone(), Limits::default()).await.expect("the registry opens")
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
