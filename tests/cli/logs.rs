//! What the daemon logs, as somebody reads it who may not know whose calls these are.

use std::net::UdpSocket;
use std::process::Command;
use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::api::{Api, text};
use crate::support::daemon::Daemon;
use crate::support::folder::Folder;
use crate::support::wait::until;
use crate::{Running, beside};

/// The lines of the log, which are JSON when standard error is no terminal.
fn lines(daemon: &Daemon) -> Vec<Value> {
    daemon
        .output()
        .lines()
        .filter(|line| line.starts_with('{'))
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect()
}

#[tokio::test]
async fn a_flood_of_garbage_writes_some_lines_a_second_and_says_how_many_it_left_out() {
    let folder = Folder::new("cli-flood");
    let daemon = Daemon::start(&folder).await;
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let unreadable = "a message that can't be read was dropped";
    let before = lines(&daemon).len();
    let began = Instant::now();
    let mut sent = 0_u32;
    while began.elapsed() < Duration::from_secs(2) {
        for _ in 0..100 {
            // What finds no room in the socket is lost, which is the system's right.
            let _ = socket.send_to(b"GARBAGE s3cret-in-garbage\r\n\r\n", daemon.registrar);
            sent += 1;
        }
    }
    let counted = async || {
        let lines = lines(&daemon);
        let said = lines.iter().filter(|line| line["message"] == unreadable).count();
        let left_out: u64 = lines.iter().filter_map(|line| line["lines"].as_u64()).sum();
        let dropped = daemon.metric("hookswitch_sip_messages_total", "outcome=\"malformed\"").await;
        // All that was read has either a line or is counted among those left out.
        let known = u32::try_from(said as u64 + left_out).map_or(f64::MAX, f64::from);
        (left_out > 0 && known >= dropped).then_some((said, left_out))
    };
    let (said, left_out) = until("the lines that were left out are counted", counted).await;
    let seconds = began.elapsed().as_secs() + 1;
    println!("{sent} sent in 2 s: {said} lines, {left_out} left out");
    assert!(said as u64 <= 10 * seconds, "{said} lines in {seconds} s");
    let all = lines(&daemon).len() - before;
    assert!(all as u64 <= 12 * seconds, "{all} lines in {seconds} s");
    assert!(left_out > 1000, "it was no flood: {sent} sent, {left_out} left out");
    assert!(!daemon.output().contains("s3cret"), "what garbage says is not repeated");
    let line = lines(&daemon).into_iter().find(|line| line["message"] == unreadable).unwrap();
    assert_eq!((&line["level"], &line["listener"]), (&json!("INFO"), &json!("registrar")));
    assert_eq!(line["source"], socket.local_addr().unwrap().to_string());
}

#[tokio::test]
async fn neither_secrets_nor_numbers_are_logged_even_when_everything_is() {
    let folder = Folder::new("cli-secrets");
    let secret_file = folder.write("ami", "ami-s3cret-value\n");
    // Nobody listens at the feeds' addresses, so they fail again and again.
    let more = format!(
        "[feeds.asterisk]\naddress = \"127.0.0.1:9\"\nuser = \"me\"\nsecret_file = \"{}\"\n\
         [feeds.freeswitch]\naddress = \"127.0.0.1:9\"\nsecret = \"esl-s3cret-value\"\n",
        secret_file.display()
    );
    let level = vec![("HOOKSWITCH_LOG__LEVEL", "trace".to_owned())];
    let daemon = Daemon::start_in(&folder, &more, level).await;
    let api = daemon.api();
    let token = daemon.token();
    let (_, agent) = api.agent("Anna").await;
    let phone = beside(&daemon, &["phone", "102", "--token", &token]);
    let phone = Running::start(phone);
    phone.expect("it is linked to admin");
    let device = api.device("102", "connected").await;
    let path = format!("/v1/devices/{}/secret", text(&device["id"]));
    let (status, _) = api.send(Method::PUT, &path, Some(json!({ "password": "phone-s3cret-value" }))).await;
    assert_eq!(status, 204);
    let ring = ["ring", "102", "--from", "+14155550123", "--answer-after", "0", "--talk", "0"];
    let ring = beside(&daemon, &ring).output().unwrap();
    assert!(ring.status.success(), "{ring:?}");
    let calls = until("the call is kept", async || {
        let calls = api.get("/v1/calls").await;
        (calls["items"][0]["state"] == "ended").then_some(calls)
    })
    .await;
    assert!(calls.to_string().contains("+14155550123"), "the scenario has the number: {calls:#}");
    let stranger = Api::new(daemon.http, "hs_wrong-s3cret-token");
    assert_eq!(stranger.send(Method::GET, "/v1/users", None).await.0, 401);
    let _agent_sees = agent.get("/v1/me").await;
    let log = daemon.output();
    assert!(lines(&daemon).iter().any(|line| line["client"] == "127.0.0.1"), "the refused token is logged\n{log}");
    for secret in ["s3cret", token.as_str(), "4155550123", "5550123"] {
        let shown: Vec<&str> = log.lines().filter(|line| line.contains(secret)).collect();
        assert!(shown.is_empty(), "{secret} is in the log:\n{}", shown.join("\n"));
    }
}

#[tokio::test]
async fn on_a_terminal_lines_are_for_people() {
    let folder = Folder::new("cli-terminal");
    let config = folder.write(
        "hookswitch.toml",
        format!(
            "data_dir = \"{}\"\nhttp.listen = []\nops.listen = []\nlisteners = {{}}\n",
            folder.join("data").display()
        ),
    );
    let log = folder.join("typescript").display().to_string();
    let line = format!("timeout -s INT 3 {} --config {}", env!("CARGO_BIN_EXE_hookswitch"), config.display());
    // script(1) gives it a terminal.
    let status = Command::new("script").args(["-q", "-e", "-c", &line, &log]).output().expect("script is installed");
    let text = std::fs::read_to_string(&log).unwrap_or_default();
    assert!(text.contains("INFO") && !text.contains("{\"timestamp\""), "{status:?}\n{text}");
}
