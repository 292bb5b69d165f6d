//! A real phone of the web over both kinds of WebSocket: `JsSIP`, as `tests/jssip` runs it.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::digest::provide;
use crate::support::api::{items, text};
use crate::support::daemon::Daemon;
use crate::support::folder::Folder;
use crate::support::process::Process;
use crate::support::tls::Certificate;
use crate::support::wait::until;

/// One page with one phone.
struct Softphone {
    process: Process,
}

impl Softphone {
    /// Opens a page of `origin`, whose phone `user` registers over `protocol` for as short a time as `JsSIP` knows.
    fn open_on(folder: &Folder, daemon: &Daemon, user: &str, protocol: &str, origin: &str) -> Self {
        let modules = Path::new(env!("CARGO_TARGET_TMPDIR")).join("../jssip/node_modules");
        assert!(modules.join("jssip").is_dir(), "JsSIP is not in {}; .ci/tools installs it", modules.display());
        let mut node = Command::new("node");
        node.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/jssip/phone.js"));
        node.arg(format!("{protocol}://{}", daemon.listening("web", protocol)));
        node.args([&format!("sip:{user}@pbx.example"), &format!("pw{user}"), "10", origin]);
        node.env("NODE_PATH", modules).env("NODE_EXTRA_CA_CERTS", folder.join("tls.crt"));
        let name = format!("jssip-{user}");
        Self { process: Process::start(&name, &mut node, &folder.join(format!("{name}.log"))) }
    }

    fn open(folder: &Folder, daemon: &Daemon, user: &str, protocol: &str) -> Self {
        Self::open_on(folder, daemon, user, protocol, PAGE)
    }

    /// Waits until it has said `line` so many times.
    async fn says(&mut self, line: &str, times: usize) {
        until(&format!("the phone says {line:?}"), async || {
            self.process.assert_runs();
            (self.said(line) >= times).then_some(())
        })
        .await;
    }

    fn said(&self, line: &str) -> usize {
        self.process.output().lines().filter(|said| *said == line).count()
    }
}

/// A daemon that asks everybody for a password and lets [`PAGE`] in.
async fn web(folder: &Folder, registrar: &str) -> Daemon {
    let certificate = Certificate::make(folder);
    let listener = format!(
        "[listeners.web]\nmode = \"registrar\"\nauth = \"digest\"\nbind = [\"ws:127.0.0.1:0\", \"wss:127.0.0.1:0\"]\n\
         ws_origins = [\"{PAGE}\"]\n{}[registrar]\nexpires_min_s = 10\n{registrar}",
        certificate.settings()
    );
    let daemon = Daemon::start_with(folder, &listener).await;
    for (user, _) in PHONES {
        provide(&daemon, user, &format!("pw{user}")).await;
    }
    daemon
}

/// The only binding of a device.
async fn binding(daemon: &Daemon, device: &Value) -> Value {
    let bindings = daemon.api().get(&format!("/v1/devices/{}/bindings", text(&device["id"]))).await;
    let bindings = items(&bindings);
    assert_eq!(bindings.len(), 1, "{bindings:#?}");
    bindings[0].clone()
}

/// Why its bindings came and went, the latest first.
async fn causes(daemon: &Daemon, device: &Value) -> Vec<Value> {
    let history = daemon.api().get(&format!("/v1/devices/{}/history", text(&device["id"]))).await;
    items(&history).iter().map(|transition| transition["cause"].clone()).collect()
}

#[tokio::test]
async fn jssip_registers_with_its_password_over_both_answers_refreshes_and_unregisters() {
    let folder = Folder::new("jssip");
    let daemon = web(&folder, "keepalive_s = 1\nkeepalive_misses = 0\n").await;
    let mut phones = PHONES.map(|(user, protocol)| Softphone::open(&folder, &daemon, user, protocol));
    for ((user, protocol), phone) in PHONES.iter().zip(&mut phones) {
        phone.says("registered 200", 1).await;
        let device = daemon.api().device(user, "connected").await;
        let first = binding(&daemon, &device).await;
        assert_eq!(first["transport"], *protocol, "{first:#}");
        until("it answers when it is asked whether it lives", async || {
            let health = daemon.api().get(&format!("/v1/devices/{}/health", text(&device["id"]))).await;
            (health["reachable"] == true).then_some(())
        })
        .await;
        until("it refreshes by itself", async || {
            let later = binding(&daemon, &device).await;
            assert_eq!(later["contact"], first["contact"]);
            (later["refreshed_at"].as_i64() > first["refreshed_at"].as_i64()).then_some(())
        })
        .await;
        let status = phone.process.stop();
        assert!(status.success(), "{status}: {}", phone.process.output());
        assert_eq!((phone.said("unregistered 200"), phone.said("connected")), (1, 1), "over one connection");
        let device = daemon.api().device(user, "disconnected").await;
        assert_eq!(causes(&daemon, &device).await[0], json!("unregistered"));
    }
}

#[tokio::test]
async fn a_page_that_is_closed_loses_its_binding_after_the_grace() {
    let folder = Folder::new("jssip");
    let daemon = web(&folder, "connection_grace_s = 2\n").await;
    for (user, protocol) in PHONES {
        let mut phone = Softphone::open(&folder, &daemon, user, protocol);
        phone.says("registered 200", 1).await;
        daemon.api().device(user, "connected").await;
        let closed = Instant::now();
        phone.process.kill();
        let device = daemon.api().device(user, "disconnected").await;
        assert!(closed.elapsed() >= Duration::from_millis(1900), "not before its grace: {:?}", closed.elapsed());
        assert_eq!(causes(&daemon, &device).await[0], json!("connection_closed"));
    }
}

#[tokio::test]
async fn a_phone_whose_connection_breaks_comes_back_within_the_grace_and_was_never_gone() {
    let folder = Folder::new("jssip");
    let daemon = web(&folder, "connection_grace_s = 60\n").await;
    let mut phones = PHONES.map(|(user, protocol)| Softphone::open(&folder, &daemon, user, protocol));
    for ((user, _), phone) in PHONES.iter().zip(&mut phones) {
        phone.says("registered 200", 1).await;
        phone.process.signal("USR2");
        phone.says("disconnected", 1).await;
        phone.says("registered 200", 2).await;
        let device = daemon.api().device(user, "connected").await;
        binding(&daemon, &device).await;
        assert_eq!(causes(&daemon, &device).await, [json!("registered")]);
    }
}

#[tokio::test]
async fn a_page_from_elsewhere_and_a_wrong_password_stay_outside() {
    let folder = Folder::new("jssip");
    let daemon = web(&folder, "").await;
    let mut elsewhere = Softphone::open_on(&folder, &daemon, "201", "wss", "https://evil.example");
    elsewhere.says("disconnected", 1).await;
    assert_eq!(elsewhere.said("connected"), 0);
    provide(&daemon, "203", "another").await;
    let mut guesser = Softphone::open(&folder, &daemon, "203", "ws");
    guesser.says("refused 401 Authentication Error", 1).await;
    for user in ["201", "203"] {
        daemon.api().device(user, "disconnected").await;
    }
    let refused = daemon.metric("hookswitch_dropped_total", "where=\"sip_ws\",reason=\"origin\"").await;
    assert!(refused >= 1.0, "{refused}");
}

const PHONES: [(&str, &str); 2] = [("201", "ws"), ("202", "wss")];
const PAGE: &str = "https://crm.example";
