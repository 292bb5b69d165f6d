//! What a service manager is told (`sd_notify(3)`), over a real socket.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tokio::net::UnixDatagram;

use crate::support::daemon::Daemon;
use crate::support::folder::Folder;
use crate::support::phone::{Phone, status};
use crate::support::postgres::Server;

/// The end of a service manager at which it hears.
pub struct Manager {
    socket: UnixDatagram,
    path: PathBuf,
    _folder: tempfile::TempDir,
}

impl Manager {
    pub fn open() -> Self {
        // The path of a socket may have no more than 108 bytes.
        let folder = tempfile::tempdir().expect("a folder for the socket");
        let path = folder.path().join("notify");
        Self { socket: UnixDatagram::bind(&path).expect("the socket"), path, _folder: folder }
    }

    /// What a daemon started with these variables is told; `watchdog` is `WatchdogSec=`.
    pub fn environment(&self, watchdog: Duration) -> Vec<(&'static str, String)> {
        let path = Path::display(&self.path).to_string();
        vec![("NOTIFY_SOCKET", path), ("WATCHDOG_USEC", watchdog.as_micros().to_string())]
    }

    /// The next message.
    pub async fn hear(&self) -> String {
        let mut buffer = [0; 4096];
        let heard = tokio::time::timeout(HEARD_WITHIN, self.socket.recv(&mut buffer)).await;
        let length = heard.expect("the daemon tells something").expect("the socket is open");
        String::from_utf8(buffer[..length].to_vec()).expect("a text")
    }

    /// The next message with this line.
    pub async fn wait(&self, line: &str) -> String {
        let end = Instant::now() + HEARD_WITHIN;
        loop {
            let heard = self.hear().await;
            if heard.lines().any(|one| one == line) {
                return heard;
            }
            assert!(Instant::now() < end, "{line} was never told");
        }
    }

    /// How many times the watchdog was fed since it was asked last.
    pub fn fed(&self) -> usize {
        let mut buffer = [0; 4096];
        let heard =
            std::iter::from_fn(|| self.socket.try_recv(&mut buffer).ok().map(|length| buffer[..length].to_vec()));
        heard.filter(|heard| heard == b"WATCHDOG=1\n").count()
    }
}

#[tokio::test]
async fn the_manager_is_told_of_start_life_reload_and_end_in_their_order() {
    let (folder, manager) = (Folder::new("told"), Manager::open());
    let mut daemon = Daemon::start_in(&folder, "", manager.environment(Duration::from_millis(900))).await;
    let first = manager.hear().await;
    assert_eq!(first, "READY=1\nSTATUS=serving\n");
    for _ in 0..3 {
        assert_eq!(manager.hear().await, "WATCHDOG=1\n");
    }
    daemon.reload();
    let reloading = manager.wait("RELOADING=1").await;
    let since = reloading.lines().find_map(|line| line.strip_prefix("MONOTONIC_USEC=")).expect("systemd 253 needs it");
    assert!(since.parse::<u64>().is_ok(), "{reloading}");
    manager.wait("READY=1").await;
    manager.wait("WATCHDOG=1").await;
    daemon.stop();
    manager.wait("STOPPING=1").await;
}

#[tokio::test]
async fn a_daemon_that_stands_still_is_not_fed_for() {
    let (folder, manager) = (Folder::new("told"), Manager::open());
    let daemon = Daemon::start_in(&folder, "", manager.environment(Duration::from_millis(300))).await;
    manager.wait("WATCHDOG=1").await;
    daemon.freeze();
    tokio::time::sleep(Duration::from_millis(100)).await;
    manager.fed();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(manager.fed(), 0);
    daemon.thaw();
    manager.wait("WATCHDOG=1").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_stands_still_is_told_of_and_the_watchdog_is_fed_all_the_while() {
    let (folder, manager) = (Folder::new("told"), Manager::open());
    let server = Server::start_new();
    let more = format!("[database]\nurl = \"{}\"\n", server.database());
    let mut daemon = Daemon::start_in(&folder, &more, manager.environment(Duration::from_secs(3))).await;
    let phone = Phone::near(daemon.registrar).await;
    assert_eq!(status(&phone.ask(daemon.registrar, &phone.register("101", 1, 3600)).await), "SIP/2.0 200 OK");
    manager.wait("WATCHDOG=1").await;
    server.freeze();
    let refused = phone.ask(daemon.registrar, &phone.register("101", 2, 3600)).await;
    assert!(status(&refused).contains(" 503 "), "{refused}");
    // Until a try to write has run out of time, and then on.
    let mut fed = 0;
    loop {
        let heard = manager.hear().await;
        fed += usize::from(heard == "WATCHDOG=1\n");
        if heard == "STATUS=serving without the database: what changes waits in memory\n" {
            break;
        }
    }
    assert!(fed >= 3, "{fed}");
    manager.wait("WATCHDOG=1").await;
    server.thaw();
    manager.wait("STATUS=serving").await;
    daemon.stop();
}

/// A write that is not confirmed is given up after ten seconds.
const HEARD_WITHIN: Duration = Duration::from_secs(40);
