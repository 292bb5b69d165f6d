//! Every case of RFC 4475 and RFC 5118 is answered as fixtures/sip/torture/README.md says, by a running registrar.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use hookswitch::sip::{Reply, Salt, scan};

use crate::support::daemon::Daemon;
use crate::support::folder::Folder;
use crate::support::phone::{Phone, status};

/// One row of the table: `rfc4475/wsinv`, and a status or `silence`.
struct Case {
    name: String,
    answer: String,
}

#[tokio::test]
async fn every_torture_message_is_answered_as_its_table_says() {
    let folder = Folder::new("torture");
    let daemon = Daemon::start(&folder).await;
    let cases = cases();
    assert_eq!(cases.len(), 49 + 12, "RFC 4475 has 49 messages, RFC 5118 has 12");
    let mut wrong = Vec::new();
    for (index, case) in cases.iter().enumerate() {
        let bytes = std::fs::read(ours().join(&case.name).with_extension("sip")).unwrap();
        check(&daemon, case, &bytes, index, &mut wrong).await;
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test]
async fn the_rfcs_own_bytes_are_answered_the_same() {
    let Some(theirs) = theirs() else {
        eprintln!("skipped: neither ../shared/torture nor HOOKSWITCH_TORTURE has the RFCs' own messages");
        return;
    };
    let folder = Folder::new("torture");
    let daemon = Daemon::start(&folder).await;
    let mut wrong = Vec::new();
    for (index, case) in cases().iter().enumerate() {
        let path = theirs.join(&case.name);
        let bytes = std::fs::read(path.with_extension("dat")).or_else(|_| std::fs::read(&path)).unwrap();
        check(&daemon, case, &bytes, index, &mut wrong).await;
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Sends the bytes from an address of their own, at the port where RFC 3261 §18.2.2 sends the answer; then a question
/// that is always answered, so that silence shows at once.
async fn check(daemon: &Daemon, case: &Case, bytes: &[u8], index: usize, wrong: &mut Vec<String>) {
    let process = std::process::id().to_be_bytes();
    let host = Ipv4Addr::new(127, 64 + process[2] % 128, process[3], u8::try_from(index + 1).unwrap());
    let socket = tokio::net::UdpSocket::bind((host, port(bytes))).await.unwrap();
    let local = socket.local_addr().unwrap();
    let phone = Phone { socket, local };
    phone.socket.send_to(bytes, daemon.registrar).await.unwrap();
    let first = match case.answer.as_str() {
        "silence" => phone.ask(daemon.registrar, &phone.request("OPTIONS", "ping", 1, "")).await,
        _ => heard(&phone).await,
    };
    let is_ping = first.contains("Call-ID: ping@phone.example");
    let answer = if is_ping { "silence" } else { first.split(' ').nth(1).unwrap_or_default() };
    if answer != case.answer {
        wrong.push(format!("{}: {} instead of {}", case.name, status(&first), case.answer));
    }
    if case.answer == "420" {
        let refused = first.lines().find_map(|line| line.strip_prefix("Unsupported: ")).unwrap_or_default();
        assert!(refused.to_ascii_lowercase().starts_with("no") && refused.split(", ").count() == 2, "{first}");
    }
}

async fn heard(phone: &Phone) -> String {
    let mut buffer = vec![0; 65_535];
    let answer = tokio::time::timeout(std::time::Duration::from_secs(3), phone.socket.recv_from(&mut buffer)).await;
    let length = answer.map_or(0, |received| received.unwrap().0);
    String::from_utf8_lossy(&buffer[..length]).into_owned()
}

fn port(bytes: &[u8]) -> u16 {
    let source: SocketAddr = "127.0.0.1:0".parse().unwrap();
    let message = scan(bytes).ok();
    let reply = message.as_ref().and_then(|message| Reply::to(message, source, &Salt([0; 16])).ok());
    reply.map_or(5_060, |reply| reply.destination().port())
}

fn cases() -> Vec<Case> {
    let table = std::fs::read_to_string(ours().join("README.md")).unwrap();
    let rows = table.lines().filter(|line| line.starts_with("| `rfc"));
    rows.map(|line| {
        let cells: Vec<&str> = line.split('|').map(|cell| cell.trim().trim_matches('`')).collect();
        Case { name: cells[1].to_owned(), answer: cells[5].to_owned() }
    })
    .collect()
}

fn ours() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/sip/torture")
}

fn theirs() -> Option<PathBuf> {
    let named = std::env::var_os("HOOKSWITCH_TORTURE").map(PathBuf::from);
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/torture");
    named.or(Some(beside)).filter(|folder| folder.join("rfc4475").is_dir())
}
