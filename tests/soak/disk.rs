//! A full disk under `SQLite`: what can't be stored is refused, what was acknowledged stays, nothing is corrupt, and with
//! room again all goes on by itself.
//!
//! The disk is a small tmpfs in a mount namespace of its own, so that it is really full, really small, and gone with the test.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sqlx::{Connection as _, SqliteConnection};

use crate::ledger::Ledger;
use crate::load::Load;
use crate::support::daemon::Daemon;
use crate::support::folder::Folder;
use crate::support::process::Process;
use crate::support::wait::until;
use crate::{CONFIGURATION, either, progress};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_refuses_cleanly_and_corrupts_nothing() {
    let folder = Folder::new("disk");
    let disk = Disk::mount(&folder).await;
    let mut daemon = Daemon::start_through(&folder, CONFIGURATION, disk.enter(), disk.data.clone()).await;
    let ledger = Arc::new(Ledger::default());
    for round in 0..either(1, 5) {
        let mut load = Load::start(&daemon, &ledger, &format!("d{round}"), either(16, 64), 4);
        load.probe(&daemon, &ledger);
        tokio::time::sleep(Duration::from_secs(1)).await;

        disk.fill();
        until("the disk is full", async || (ledger.counts().1 > 0).then_some(())).await;
        tokio::time::sleep(Duration::from_secs(either(2, 10))).await;
        progress("disk", &format!("full: {}", ledger.summary()));
        until("the operator is told", async || (daemon.metric("hookswitch_database_up", "").await < 0.5).then_some(()))
            .await;

        // A crash with no room left: it says why it can't serve, or serves what it has.
        daemon.kill();
        load.stop().await;
        daemon.launch_again();
        tokio::time::sleep(Duration::from_secs(1)).await;
        let serves = daemon.ended().is_none();
        progress("disk", if serves { "serves after a crash" } else { "says why it can't start" });
        disk.free();
        if !serves {
            daemon.launch_again();
        }
        daemon.serves().await;
        ledger.check(&daemon).await;

        // And with room again while it runs.
        let mut load = Load::start(&daemon, &ledger, &format!("e{round}"), either(16, 64), 4);
        load.probe(&daemon, &ledger);
        tokio::time::sleep(Duration::from_millis(500)).await;
        let refused = ledger.counts().1;
        disk.fill();
        until("the disk is full again", async || (ledger.counts().1 > refused).then_some(())).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        disk.free();
        let (back, acknowledged) = (Instant::now(), ledger.counts().0);
        until("writes are acknowledged again", async || (ledger.counts().0 > acknowledged + 50).then_some(())).await;
        progress(
            "disk",
            &format!("round {}, back after {} ms: {}", round + 1, back.elapsed().as_millis(), ledger.summary()),
        );
        load.stop().await;
        ledger.check(&daemon).await;
        daemon.kill();
        disk.is_sound().await;
        daemon.start_again().await;
        ledger.check(&daemon).await;
    }
    ledger.assert_answers_in_time();
    daemon.stop();
    disk.is_sound().await;
}

/// A small disk that only its own processes see at its place.
struct Disk {
    holder: Process,
    /// The mounted folder as seen from here.
    data: PathBuf,
}

impl Disk {
    async fn mount(folder: &Folder) -> Self {
        let place = folder.join("data");
        fs::create_dir_all(&place).expect("the folder can be made");
        let mut unshare = Command::new("unshare");
        unshare.arg("--mount");
        if !is_root() {
            unshare.arg("--map-root-user");
        }
        let script = r#"mount -t tmpfs -o size="$1" hookswitch "$0" && echo mounted && exec sleep 3600"#;
        unshare.args(["sh", "-c", script]).arg(&place).arg(format!("{SIZE}"));
        let mut holder = Process::start("unshare", &mut unshare, &folder.join("disk.log"));
        until("the disk is mounted (by root, or in a user namespace)", async || {
            holder.assert_runs();
            holder.output().contains("mounted").then_some(())
        })
        .await;
        let inside = Path::new("/proc").join(holder.id().to_string()).join("root");
        let data = inside.join(place.strip_prefix("/").expect("target/tmp is absolute"));
        Self { holder, data }
    }

    /// How to start something that sees it at its place.
    fn enter(&self) -> Vec<String> {
        let mut words = vec!["nsenter".to_owned(), format!("--target={}", self.holder.id()), "--mount".to_owned()];
        if !is_root() {
            words.extend(["--user", "--preserve-credentials"].map(str::to_owned));
        }
        words.push("--".to_owned());
        words
    }

    /// Takes all the room there is.
    fn fill(&self) {
        let mut filler = OpenOptions::new().create(true).append(true).open(self.data.join("filler")).expect("a file");
        for size in [1 << 16, 1 << 12, 1] {
            while filler.write(&vec![1; size]).is_ok_and(|written| written > 0) {}
        }
    }

    fn free(&self) {
        let _ = fs::remove_file(self.data.join("filler"));
    }

    /// `SQLite`'s own opinion.
    async fn is_sound(&self) {
        // SQLite follows the link in /proc to where the disk is not to be seen, so it is shown a copy.
        let copy = tempfile::TempDir::with_prefix("hookswitch-disk-").expect("a temporary folder");
        for name in ["hookswitch.db", "hookswitch.db-wal"] {
            let there = self.data.join(name);
            if there.exists() {
                fs::copy(there, copy.path().join(name)).expect("the database can be copied");
            }
        }
        let url = format!("sqlite:{}", copy.path().join("hookswitch.db").display());
        let mut database = SqliteConnection::connect(&url).await.expect("the database opens");
        let opinion: Vec<String> =
            sqlx::query_scalar("PRAGMA integrity_check").fetch_all(&mut database).await.expect("an opinion");
        assert_eq!(opinion, ["ok"]);
        database.close().await.expect("closed");
    }
}

fn is_root() -> bool {
    Command::new("id").arg("-u").output().is_ok_and(|output| output.stdout.trim_ascii() == b"0")
}

/// Room for the database and its journal, in bytes.
const SIZE: u64 = 64 << 20;
