//! The small commands a newcomer tries first.

mod database;
#[path = "../support/mod.rs"]
mod support;

mod configuration;
mod logs;

use std::cell::Cell;
use std::process::{Command, ExitStatus};
use std::time::{Duration, Instant};

use support::daemon::{Daemon, hookswitch};
use support::folder::Folder;
use support::process::Process;

/// A command that runs, and the lines it prints.
struct Running {
    process: Process,
    /// Lines that were looked at.
    read: Cell<usize>,
    _folder: Folder,
}

impl Running {
    fn start(mut command: Command) -> Self {
        let folder = Folder::new("cli-command");
        let process = Process::start("hookswitch", &mut command, &folder.join("command.log"));
        Self { process, read: Cell::new(0), _folder: folder }
    }

    /// Waits for a line that holds `text`; what was printed before it is skipped.
    fn expect(&self, text: &str) -> String {
        let started = Instant::now();
        while started.elapsed() < Duration::from_secs(20) {
            let output = self.process.output();
            // A line may be half written yet.
            let whole = &output[..output.rfind('\n').map_or(0, |end| end + 1)];
            let mut unread = whole.lines().enumerate().skip(self.read.get());
            if let Some((index, line)) = unread.find(|(_, line)| line.contains(text)) {
                self.read.set(index + 1);
                return line.to_owned();
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("{text:?} was never printed, but\n{}", self.rest());
    }

    /// What was printed and not looked at.
    fn rest(&self) -> String {
        let output = self.process.output();
        output.lines().skip(self.read.get()).collect::<Vec<_>>().join("\n")
    }

    fn interrupt(mut self) {
        self.process.signal("INT");
        assert!(self.ends().success());
    }

    fn ends(&mut self) -> ExitStatus {
        let asked = Instant::now();
        loop {
            if let Some(status) = self.process.ended() {
                return status;
            }
            assert!(asked.elapsed() < Duration::from_mins(1), "it does not end");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// A command that reads the daemon's own configuration, as one on the same host does.
fn beside(daemon: &Daemon, arguments: &[&str]) -> Command {
    let mut command = hookswitch(&daemon.config);
    command.args(arguments);
    command
}

#[tokio::test]
async fn the_three_printed_lines_end_in_a_popup() {
    let folder = Folder::new("cli");
    let daemon = Daemon::start(&folder).await;
    let token = daemon.token();
    let watch = Running::start(beside(&daemon, &["watch", "--token", &token]));
    watch.expect("watching for admin");
    let phone = Running::start(beside(&daemon, &["phone", "101", "--token", &token]));
    phone.expect("101 is registered");
    phone.expect("it is linked to admin");
    let ring = ["ring", "101", "--from", "+14155550100", "--answer-after", "1", "--talk", "1"];
    let ring = Running::start(beside(&daemon, &ring));
    watch.expect("POPUP    call from +14155550100");
    watch.expect("answered call from +14155550100");
    watch.expect("ended    call from +14155550100");
    ring.expect("hung up");
    let missed =
        Running::start(beside(&daemon, &["ring", "101", "--from", "+14155550101", "--answer-after", "1", "--missed"]));
    watch.expect("POPUP    call from +14155550101");
    watch.expect("closed   call from +14155550101: caller_hangup");
    missed.expect("the caller gave up");
    phone.interrupt();
    daemon.api().device("101", "disconnected").await;
    watch.interrupt();
}

#[tokio::test]
async fn why_says_of_the_latest_calls_of_a_phone_why_they_popped_or_did_not_also_to_the_agent_they_concern() {
    let folder = Folder::new("cli-why");
    let daemon = Daemon::start(&folder).await;
    let (api, token) = (daemon.api(), daemon.token());
    let (anna, _) = api.agent("Anna").await;
    let phone = Running::start(beside(&daemon, &["phone", "101", "--no-link"]));
    phone.expect("101 is registered");
    api.link(&anna, &api.device("101", "connected").await).await;
    let made =
        beside(&daemon, &["token", "create", "--scope", "agent", "--user", &anna, "--token", &token]).output().unwrap();
    let annas = String::from_utf8(made.stdout).unwrap();
    for caller in ["+14155550100", "102"] {
        let ring = ["ring", "101", "--from", caller, "--answer-after", "0", "--missed"];
        assert!(beside(&daemon, &ring).output().unwrap().status.success());
    }
    for token in [&token, annas.trim()] {
        let why = async |more: &[&str]| {
            let asked = beside(&daemon, &[&["why", "--token", token], more].concat()).output().unwrap();
            (asked.status.success(), String::from_utf8(asked.stdout).unwrap(), String::from_utf8(asked.stderr).unwrap())
        };
        let said = support::wait::until("both calls have their reasons", async || {
            let (done, said, complaint) = why(&["--extension", "101", "--last", "2"]).await;
            assert!(done, "{complaint}");
            let is_there = [
                "  Anna  caller_hangup  phone 101, ",
                "  Anna  internal_call  phone 101, ",
                "  internal  102 → 101  missed  ",
            ];
            is_there.iter().all(|line| said.contains(line)).then_some(said)
        })
        .await;
        assert!(said.contains("  inbound  +14155550100 → 101  missed  "), "{said}");
        assert!(said.contains("  Anna  no_session  phone 101, sessions 0: 180 Ringing, Call-ID "), "{said}");
        let call = said.lines().find(|line| line.contains("  internal  ")).and_then(|line| line.rsplit(' ').next());
        let (_, of_one, _) = why(&[call.unwrap()]).await;
        assert!(of_one.contains("internal_call") && !of_one.contains("inbound"), "{of_one}");
        let (done, _, complaint) = why(&["--extension", "777"]).await;
        assert!(!done && complaint.contains("no phone 777 is known"), "{complaint}");
    }
    phone.interrupt();
}

#[test]
fn the_demo_shows_popups_and_ends_by_itself() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hookswitch"));
    command.args(["demo", "--rounds", "1", "--pace", "100"]);
    let mut demo = Running::start(command);
    demo.expect("101 is new");
    demo.expect("calls Anna, who answers");
    demo.expect("Anna  POPUP    call from +14155550100");
    demo.expect("Anna  answered call from +14155550100");
    demo.expect("Ben   POPUP    call from +14155550101");
    demo.expect("Ben   closed   call from +14155550101: caller_hangup");
    demo.expect("pops for nobody");
    let next = demo.expect(" call");
    assert!(next.contains("the support queue") || next.contains("internal"), "{next}");
    demo.expect("calls the support queue");
    assert!(demo.ends().success());
    let rest = demo.rest();
    for expected in [
        "Ben   POPUP",
        "Cleo  POPUP",
        "Cleo  answered",
        "Ben   closed   call from +14155550102: answered_elsewhere",
        "Cleo  ended",
    ] {
        assert!(rest.contains(expected), "{expected}\n--\n{rest}");
    }
}

#[tokio::test]
async fn a_token_is_made_offline_only_while_the_daemon_is_stopped() {
    let folder = Folder::new("cli");
    let mut daemon = Daemon::start(&folder).await;
    let create = ["token", "create", "--scope", "admin"];
    let refused = beside(&daemon, &create).output().unwrap();
    assert!(!refused.status.success());
    let said = String::from_utf8(refused.stderr).unwrap();
    assert!(said.contains("give --token to ask the running daemon instead"), "{said}");
    let through = beside(&daemon, &create).env("HOOKSWITCH_TOKEN", daemon.token()).output().unwrap();
    assert!(String::from_utf8(through.stdout).unwrap().starts_with("hs_"));
    daemon.stop();
    let made = beside(&daemon, &create).output().unwrap();
    let secret = String::from_utf8(made.stdout).unwrap();
    assert!(made.status.success() && secret.starts_with("hs_"), "{secret}");
    daemon.start_again().await;
    let list = beside(&daemon, &["user", "list", "--token", secret.trim()]).output().unwrap();
    assert!(String::from_utf8(list.stdout).unwrap().contains("admin"), "the new token opens the API");
}

#[tokio::test]
async fn a_watch_that_lost_its_daemon_still_ends_on_ctrl_c() {
    let folder = Folder::new("cli");
    let mut daemon = Daemon::start(&folder).await;
    let watch = Running::start(beside(&daemon, &["watch", "--token", &daemon.token()]));
    watch.expect("watching for admin");
    daemon.stop();
    watch.expect("trying again");
    std::thread::sleep(Duration::from_millis(300));
    watch.interrupt();
}

#[test]
fn a_demo_that_is_terminated_takes_its_folder_along() {
    let mut demo = Command::new(env!("CARGO_BIN_EXE_hookswitch"));
    demo.args(["demo"]);
    let mut demo = Running::start(demo);
    let folder = demo.expect("(removed at the end)");
    let folder = folder.split_whitespace().nth(1).unwrap();
    demo.expect("round 1");
    assert!(std::path::Path::new(folder).exists());
    demo.process.signal("TERM");
    assert!(demo.ends().success());
    assert!(!std::path::Path::new(folder).exists(), "{folder}");
}

#[tokio::test]
async fn a_later_start_says_where_a_token_is_or_how_to_get_one() {
    let folder = Folder::new("cli");
    let mut daemon = Daemon::start(&folder).await;
    daemon.stop();
    let again = Running::start(beside(&daemon, &[]));
    again.expect("first admin token: in ");
    again.expect("watch --token \"$(cat ");
    again.interrupt();
    std::fs::remove_file(daemon.data.join("admin-token")).unwrap();
    let again = Running::start(beside(&daemon, &[]));
    again.expect("`hookswitch token create` makes one");
    again.interrupt();
}

#[tokio::test]
async fn a_refused_token_leaves_no_phone_behind() {
    let folder = Folder::new("cli");
    let daemon = Daemon::start(&folder).await;
    let phone = beside(&daemon, &["phone", "101", "--token", "hs_wrong"]).output().unwrap();
    let said = String::from_utf8(phone.stderr).unwrap();
    assert!(!phone.status.success() && said.contains("401"), "{said}");
    assert_eq!(String::from_utf8(phone.stdout).unwrap(), "", "it did not register");
}

#[tokio::test]
async fn a_ring_says_when_the_phone_is_unknown_or_nobodys() {
    let folder = Folder::new("cli");
    let daemon = Daemon::start(&folder).await;
    let ring = ["ring", "101", "--missed", "--answer-after", "0", "--token", &daemon.token()];
    let said = || String::from_utf8(beside(&daemon, &ring).output().unwrap().stdout).unwrap();
    assert!(said().contains("no phone 101 ever registered"), "{}", said());
    let phone = Running::start(beside(&daemon, &["phone", "101", "--no-link"]));
    phone.expect("is registered");
    assert!(said().contains("101 is linked to nobody"), "{}", said());
    drop(phone);
    let phone = Running::start(beside(&daemon, &["phone", "101", "--token", &daemon.token()]));
    phone.expect("is linked to admin");
    assert!(!said().contains("nobody"), "{}", said());
}

#[test]
fn a_ring_that_nobody_hears_is_said_so() {
    let nobody = std::net::UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let ring = ["ring", "101", "--missed", "--answer-after", "0", "--mirror", &nobody];
    let output = Command::new(env!("CARGO_BIN_EXE_hookswitch")).args(ring).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && said.contains("no mirror listens at"), "{said}");
}

#[test]
fn a_check_names_the_variables_that_mean_nothing() {
    let output = Command::new(env!("CARGO_BIN_EXE_hookswitch"))
        .arg("check")
        .env("HOOKSWITCH_LISTEN", "127.0.0.1:1")
        .output()
        .unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success() && said.contains("HOOKSWITCH_LISTEN"), "{said}");
}

#[test]
fn a_daemon_that_is_not_there_is_said_so() {
    let output = Command::new(env!("CARGO_BIN_EXE_hookswitch"))
        .args(["watch", "--url", "http://127.0.0.1:1", "--token", "x"])
        .output()
        .unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(
        said.starts_with("hookswitch: can't reach the API at http://127.0.0.1:1; is `hookswitch` running?"),
        "{said}"
    );
    let output =
        Command::new(env!("CARGO_BIN_EXE_hookswitch")).arg("watch").env_remove("HOOKSWITCH_TOKEN").output().unwrap();
    assert!(String::from_utf8(output.stderr).unwrap().contains("this needs a token: --token"));
}
