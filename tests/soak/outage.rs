//! Promise 4: a Postgres that is stopped, killed, or cut off in the middle of a commit never freezes SIP, costs bounded
//! memory, and is taken up again by itself; promise 1 holds meanwhile.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use tokio::task::block_in_place;

use crate::ledger::Ledger;
use crate::load::Load;
use crate::proxy::Proxy;
use crate::support::daemon::Daemon;
use crate::support::folder::Folder;
use crate::support::postgres::Server;
use crate::{CONFIGURATION, either, progress};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_postgres_that_is_stopped_under_load_freezes_nothing_and_loses_nothing() {
    let scene = Scene::start("stopped", None).await;
    scene.without_database(Server::freeze, Server::thaw, either(3, 30)).await;
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_postgres_that_is_killed_under_load_is_taken_up_again_with_all_that_was_acknowledged() {
    let scene = Scene::start("killed", None).await;
    for _ in 0..either(1, 5) {
        scene.without_database(Server::kill, Server::start, either(1, 6)).await;
    }
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_cut_in_mid_commit_under_load_lose_and_invent_nothing() {
    let scene = Scene::start("cut", Some(either(5, 11))).await;
    for second in 0..either(4, 60) {
        tokio::time::sleep(Duration::from_secs(1)).await;
        if second % 2 == 0 {
            block_in_place(|| scene.server.psql("postgres", TERMINATE));
        }
        if second % 5 == 4 {
            progress("cut", &scene.ledger.summary());
        }
    }
    let cuts = scene.proxy.as_ref().map(|proxy| proxy.cuts.clone()).expect("there is one");
    let cuts = cuts.each_ref().map(|cut| cut.load(Relaxed));
    progress(
        "cut",
        &format!("{} before a COMMIT, {} after it, {} with a server that did not notice", cuts[0], cuts[1], cuts[2]),
    );
    assert!(cuts.iter().all(|cut| *cut >= either(1, 10)), "{cuts:?}");
    scene.end().await;
}

/// A daemon under load on a Postgres of its own.
struct Scene {
    name: &'static str,
    server: Server,
    proxy: Option<Proxy>,
    daemon: Daemon,
    ledger: Arc<Ledger>,
    load: Load,
    _folder: Folder,
}

impl Scene {
    /// With `cut_every`, through a [`Proxy`].
    async fn start(name: &'static str, cut_every: Option<u32>) -> Self {
        let folder = Folder::new(name);
        let server = Server::start_new();
        let mut url = server.database();
        let proxy = match cut_every {
            Some(every) => Some(Proxy::start(server.address(), every).await),
            None => None,
        };
        if let Some(proxy) = &proxy {
            url = url.replace(&server.address().to_string(), &proxy.address.to_string());
        }
        let daemon = Daemon::start_with(&folder, &format!("{CONFIGURATION}\n[database]\nurl = \"{url}\"")).await;
        let ledger = Arc::new(Ledger::default());
        let mut load = Load::start(&daemon, &ledger, name, either(16, 128), 4);
        load.flood(&daemon, either(500, 5000), either(200, 1000));
        load.probe(&daemon, &ledger);
        // Until every phone of the flood is known, so that what comes on top of this is the outage's.
        tokio::time::sleep(Duration::from_secs(either(2, 8))).await;
        progress(name, &format!("before: {}", ledger.summary()));
        assert!(ledger.counts().0 > 0, "nothing was acknowledged");
        Self { name, server, proxy, daemon, ledger, load, _folder: folder }
    }

    /// Takes the database away for `seconds`, and waits until writes are acknowledged again.
    async fn without_database(&self, take: impl Fn(&Server), give: impl Fn(&Server), seconds: u64) {
        let before_kib = self.daemon.resident_kib();
        let (_, refused, _) = self.ledger.counts();
        block_in_place(|| take(&self.server));
        let mut most_kib = before_kib;
        let began = Instant::now();
        while began.elapsed() < Duration::from_secs(seconds) {
            tokio::time::sleep(Duration::from_millis(500)).await;
            most_kib = most_kib.max(self.daemon.resident_kib());
            if began.elapsed().subsec_millis() < 500 && began.elapsed().as_secs().is_multiple_of(5) {
                progress(self.name, &format!("away: {}", self.ledger.summary()));
            }
        }
        assert!(self.ledger.counts().1 > refused, "nobody was refused, so nothing was away");
        block_in_place(|| give(&self.server));
        let (back, acknowledged) = (Instant::now(), self.ledger.counts().0);
        // What was in flight when the server came back is not yet a recovery.
        while self.ledger.counts().0 < acknowledged + 100 {
            assert!(back.elapsed() < RECOVERY, "not recovered after {RECOVERY:?}: {}", self.daemon.output());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        progress(
            self.name,
            &format!(
                "back after {} ms; memory {} MiB before, at most {} MiB; {}",
                back.elapsed().as_millis(),
                before_kib >> 10,
                most_kib >> 10,
                self.ledger.summary()
            ),
        );
        assert!(most_kib < before_kib + GROWTH_KIB, "{before_kib} KiB before, {most_kib} KiB in the outage");
        tokio::time::sleep(Duration::from_secs(1)).await;
    }

    /// Ends the load, and holds memory and, after a crash, the database against what was acknowledged.
    async fn end(mut self) {
        self.load.stop().await;
        self.ledger.check(&self.daemon).await;
        self.daemon.kill();
        self.daemon.start_again().await;
        self.ledger.check(&self.daemon).await;
        progress(self.name, &format!("after: {}", self.ledger.summary()));
        self.ledger.assert_answers_in_time();
    }
}

/// From the moment the server runs again; our last attempt to connect may just have begun.
const RECOVERY: Duration = Duration::from_secs(20);
/// Most that an outage may add: some megabytes of waiting replies and changed keys, and the allocator's slack.
const GROWTH_KIB: u64 = 48 << 10;
const TERMINATE: &str =
    "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name LIKE 'hookswitch%'";
