//! Promise 1: a 200 OK to REGISTER, and a 2xx to an API write, mean that the change is on disk, whenever the power goes.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use crate::ledger::Ledger;
use crate::load::Load;
use crate::support::daemon::Daemon;
use crate::support::folder::Folder;
use crate::support::postgres::Server;
use crate::{CONFIGURATION, either, progress};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kill_9_loses_nothing_that_was_acknowledged_on_sqlite() {
    lose_nothing("kill-sqlite", CONFIGURATION).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kill_9_loses_nothing_that_was_acknowledged_on_postgres() {
    let server = Server::shared();
    let url = server.database();
    lose_nothing("kill-postgres", &format!("{CONFIGURATION}\n[database]\nurl = \"{url}\"")).await;
}

async fn lose_nothing(name: &str, configuration: &str) {
    let folder = Folder::new(name);
    let mut daemon = Daemon::start_with(&folder, configuration).await;
    let ledger = Arc::new(Ledger::default());
    for round in 0..either(3, 20) {
        let load = Load::start(&daemon, &ledger, &format!("r{round}"), either(16, 64), 4);
        // Another moment of the commit's cycle in every round.
        tokio::time::sleep(Duration::from_millis(400 + 37 * round)).await;
        daemon.kill();
        load.stop().await;
        daemon.start_again().await;
        ledger.check(&daemon).await;
        progress(name, &format!("round {}: {}", round + 1, ledger.summary()));
    }
    let acknowledged = ledger.acknowledged.load(Relaxed);
    assert!(
        acknowledged > either(100, 5000),
        "only {acknowledged} changes were acknowledged: too few to prove anything"
    );
}
