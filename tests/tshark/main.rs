//! Wireshark's decoder reads what we answer, and has no complaint: somebody else's opinion on our SIP.

#[path = "../support/mod.rs"]
mod support;

mod capture;

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use capture::{Decoded, decode};
use support::daemon::Daemon;
use support::folder::Folder;

/// Every SIP sample, by file name.
fn samples() -> Vec<(String, Vec<u8>)> {
    let folder = std::fs::read_dir("fixtures/sip").expect("the samples are there").flatten();
    let mut samples: Vec<_> = folder
        .filter(|entry| entry.path().extension().is_some_and(|extension| extension == "sip"))
        .map(|entry| {
            let bytes = std::fs::read(entry.path()).expect("a sample can be read");
            (entry.file_name().to_string_lossy().into_owned(), bytes)
        })
        .collect();
    samples.sort();
    samples
}

/// What `address` answers on a connection of its own; empty when nothing.
async fn answer(address: SocketAddr, message: &[u8]) -> Vec<u8> {
    let mut connection = TcpStream::connect(address).await.expect("it listens");
    connection.write_all(message).await.expect("it reads");
    let mut answer = vec![0; 65_536];
    let read = tokio::time::timeout(Duration::from_secs(2), connection.read(&mut answer)).await;
    answer.truncate(read.ok().and_then(Result::ok).unwrap_or(0));
    answer
}

async fn answers(address: SocketAddr) -> Vec<(String, Vec<u8>)> {
    let mut asking = JoinSet::new();
    for (name, message) in samples() {
        asking.spawn(async move { (name, answer(address, &message).await) });
    }
    let mut answers = asking.join_all().await;
    // The Call-ID of this one is copied as it came (RFC 3261 §8.2.6.2), and Wireshark says what it thinks of it.
    answers.retain(|(name, answer)| answer.starts_with(b"SIP/2.0 ") && name != "nul_in_call_id.sip");
    answers.sort();
    answers
}

async fn decodes(folder: &Folder, address: SocketAddr) {
    let answers = answers(address).await;
    assert!(answers.len() > 30, "only {} samples were answered", answers.len());
    let packets: Vec<&[u8]> = answers.iter().map(|(_, answer)| answer.as_slice()).collect();
    let decoded = decode(folder, &packets);
    assert_eq!(decoded.len(), answers.len());
    let mut bad = Vec::new();
    for ((name, answer), Decoded { status, complaints }) in answers.iter().zip(decoded) {
        let text = String::from_utf8_lossy(answer);
        if text.split(' ').nth(1) != Some(status.as_str()) || !complaints.is_empty() {
            bad.push(format!("the answer to {name}: {status} {complaints}\n{text}"));
        }
    }
    assert!(bad.is_empty(), "{}", bad.join("\n"));
}

#[tokio::test]
async fn every_answer_of_registrar_and_replica_is_good_sip_to_wireshark() {
    let folder = Folder::new("tshark");
    let daemon = Daemon::start(&folder).await;
    decodes(&folder, daemon.registrar).await;
    decodes(&folder, daemon.replica).await;
}

#[test]
fn wireshark_does_complain_about_bad_sip() {
    let folder = Folder::new("tshark-bad");
    let bad = b"SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bKa\r\nCall-ID: a\0b\r\n\r\n";
    let decoded = decode(&folder, &[bad]);
    assert!(!decoded[0].complaints.is_empty());
}
