//! A wall clock that jumps by an hour, as a machine's does that is set by hand, wakes up, or hears of NTP late: nothing ends
//! for that reason, neither now nor after a restart.
//!
//! libfaketime moves the daemon's `CLOCK_REALTIME` alone, as a step does; the monotonic clock goes on.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::ledger::Ledger;
use crate::load::Load;
use crate::support::daemon::Daemon;
use crate::support::folder::Folder;
use crate::support::phone::{Phone, status};
use crate::support::postgres::Server;
use crate::{CONFIGURATION, either, progress};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clock_steps_of_an_hour_end_no_registration_on_sqlite() {
    step_about("clock-sqlite", CONFIGURATION).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clock_steps_of_an_hour_end_no_registration_on_postgres() {
    let server = Server::shared();
    let url = server.database();
    step_about("clock-postgres", &format!("{CONFIGURATION}\n[database]\nurl = \"{url}\"")).await;
}

async fn step_about(name: &str, configuration: &str) {
    let folder = Folder::new(name);
    let offset = folder.write("offset", "+0s");
    let environment = vec![
        ("LD_PRELOAD", libfaketime().display().to_string()),
        ("FAKETIME_TIMESTAMP_FILE", offset.display().to_string()),
        ("FAKETIME_NO_CACHE", "1".to_owned()),
        ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
        ("FAKETIME_DONT_RESET", "1".to_owned()),
        ("NO_FAKE_STAT", "1".to_owned()),
    ];
    let mut daemon = Daemon::start_in(&folder, configuration, environment).await;
    let phones = either(100, 2000);
    let phone = Phone::near(daemon.registrar).await;
    for number in 0..phones {
        for (peer, user) in [(daemon.registrar, format!("s{number}")), (daemon.replica, format!("t{number}"))] {
            let answer = phone.ask(peer, &phone.register(&user, 1, EXPIRES_S)).await;
            assert_eq!(status(&answer), "SIP/2.0 200 OK");
        }
    }
    let (ledger, before) = (Arc::new(Ledger::default()), date(&phone, &daemon).await);
    for (round, hours) in either(&[1_i64, -1][..], &[1, 0, -1, 0, 1, -1]).iter().enumerate() {
        let load = Load::start(&daemon, &ledger, &format!("c{round}"), 8, 2);
        tokio::time::sleep(Duration::from_millis(300)).await;
        fs::write(&offset, format!("{:+}s", hours * 3600)).expect("the offset can be written");
        // Longer than the looks at deadlines are apart.
        tokio::time::sleep(Duration::from_secs(either(2, 10))).await;
        load.stop().await;
        let now = date(&phone, &daemon).await;
        assert!((now - before - hours * 3600).abs() < 600, "the daemon's clock did not move: {before}, {now}");
        ledger.check(&daemon).await;
        all_there(&daemon, &phone, phones).await;
        // What is stored must be right by the new clock as well.
        daemon.kill();
        daemon.start_again().await;
        ledger.check(&daemon).await;
        all_there(&daemon, &phone, phones).await;
        progress(name, &format!("clock at {hours:+} h: {}", ledger.summary()));
    }
    ledger.assert_answers_in_time();
}

/// None has ended, and none has been given more or much less time than it asked for.
async fn all_there(daemon: &Daemon, phone: &Phone, phones: u32) {
    for state in ["disconnected", "stale"] {
        let page = daemon.api().get(&format!("/v1/devices?state={state}&limit=500")).await;
        let gone = crate::support::api::items(&page).iter().filter_map(|device| device["extension"].as_str());
        let gone: Vec<&str> = gone.filter(|user| user.starts_with(['s', 't'])).collect();
        assert!(gone.is_empty(), "{} are {state}, {:?} …", gone.len(), gone[0]);
    }
    for number in (0..phones).step_by(10) {
        let answer = phone.ask(daemon.registrar, &phone.request("REGISTER", &format!("s{number}"), 9, "")).await;
        let left = answer.split_once(";expires=").map(|(_, left)| left.split(['\r', ';']).next().unwrap_or_default());
        let left: u32 = left.and_then(|left| left.parse().ok()).unwrap_or_else(|| panic!("not bound: {answer}"));
        assert!((EXPIRES_S - 300..=EXPIRES_S).contains(&left), "{left} s left of {EXPIRES_S}");
    }
}

/// The daemon's wall clock in seconds, as its answers show it (`Date`).
async fn date(phone: &Phone, daemon: &Daemon) -> i64 {
    let answer = phone.ask(daemon.registrar, &phone.request("REGISTER", "s0", 9, "")).await;
    let date = answer.lines().find_map(|line| line.strip_prefix("Date: ")).expect("a Date");
    jiff::fmt::rfc2822::parse(date).expect("a date").timestamp().as_second()
}

/// Debian's package `faketime` has it.
fn libfaketime() -> PathBuf {
    let folders = fs::read_dir("/usr/lib").into_iter().flatten().flatten().map(|entry| entry.path());
    let mut found = folders.map(|folder| folder.join("faketime/libfaketimeMT.so.1"));
    found.find(|path| path.exists()).expect("libfaketime is missing; .ci/tools installs it (Debian: faketime)")
}

/// Less than the steps, so that a deadline by the wall clock would have passed, or lie too far away.
const EXPIRES_S: u32 = 1800;
