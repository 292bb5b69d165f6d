//! A restart on sockets that stay open.

use std::net::SocketAddr;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};
use tokio::task::JoinSet;

use crate::kept::{Kept, configuration};
use crate::support::daemon::hookswitch;
use crate::support::folder::Folder;
use crate::support::phone::{Phone, request, status};
use crate::support::ports::Ports;
use crate::support::process::Process;
use crate::support::wait::{PATIENCE, until};

/// What clients have seen.
#[derive(Default)]
struct Seen {
    over: AtomicBool,
    /// REGISTERs, each sent once.
    sent: AtomicU32,
    answered: AtomicU32,
    stored: AtomicU32,
    connected: AtomicU32,
    refused: AtomicU32,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_under_load_loses_no_datagram_and_refuses_no_connection() {
    let folder = Folder::new("restart");
    let mut kept = Kept::open(&folder);
    kept.opened().await;
    let seen = Arc::new(Seen::default());
    let mut clients = JoinSet::new();
    // Each phone waits for its answer, so no more than so many datagrams wait at once: they fit into any buffer.
    for number in 0..PHONES {
        clients.spawn(registers(kept.registrar, format!("p{number}"), seen.clone()));
    }
    // The first datagram has opened the other sockets as well.
    until("the daemon is started", async || (!kept.daemons().is_empty()).then_some(())).await;
    let options = request("TCP", kept.registrar, "OPTIONS", "x", 1, "z9hG4bKx", "");
    clients.spawn(connects(kept.registrar, options, seen.clone()));
    for address in [kept.http, kept.ops] {
        clients.spawn(connects(address, "GET /livez HTTP/1.1\r\nHost: x\r\n\r\n".to_owned(), seen.clone()));
    }
    for round in 1..=RESTARTS {
        let enough = round * ENOUGH / (RESTARTS + 1);
        until("REGISTERs are answered", async || (seen.answered.load(Relaxed) >= enough).then_some(())).await;
        kept.restart().await;
    }
    until("all are answered", async || (seen.answered.load(Relaxed) >= ENOUGH).then_some(())).await;
    seen.over.store(true, Relaxed);
    while let Some(client) = clients.join_next().await {
        client.expect("a client lost something");
    }
    assert_eq!(kept.daemons().len(), RESTARTS as usize + 1, "{}", kept.output());
    let (sent, answered, stored) = (seen.sent.load(Relaxed), seen.answered.load(Relaxed), seen.stored.load(Relaxed));
    let (connected, refused) = (seen.connected.load(Relaxed), seen.refused.load(Relaxed));
    eprintln!("{answered} of {sent} REGISTERs answered, {stored} with 200; {connected} connections, {refused} refused");
    assert_eq!((sent, refused), (answered, 0));
    assert!(stored > ENOUGH / 2 && connected > 100, "{stored} stored, {connected} connections");
}

#[tokio::test]
async fn a_socket_that_nothing_is_configured_for_is_named_and_keeps_the_daemon_from_starting() {
    let folder = Folder::new("restart");
    let ports = Ports::take();
    let config = configuration(&folder, ports.address(0), ports.address(1), ports.address(2));
    let daemon = hookswitch(&folder.write("hookswitch.toml", config));
    let stray = ports.address(3);
    let mut activate = Command::new("systemd-socket-activate");
    activate.args(["--datagram", "--listen", &stray.to_string(), "--fdname=stray"]);
    activate.arg(daemon.get_program()).args(daemon.get_args());
    let mut process = Process::start("systemd-socket-activate", &mut activate, &folder.join("activate.log"));
    let client = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let ended = until("it has ended", async || {
        let _ = client.send_to(b"knock", stray).await;
        process.ended()
    })
    .await;
    let output = process.output();
    assert!(!ended.success(), "{output}");
    let line = output.lines().find(|line| line.starts_with("hookswitch: ")).unwrap_or_else(|| panic!("{output}"));
    assert!(line.contains(&format!("udp:{stray} (stray)")) && line.contains("listens there"), "{line}");
}

/// A phone that sends each REGISTER once and waits for its answer, until all is over.
async fn registers(registrar: SocketAddr, user: String, seen: Arc<Seen>) {
    let phone = Phone::near(registrar).await;
    for cseq in 1.. {
        if seen.over.load(Relaxed) {
            return;
        }
        seen.sent.fetch_add(1, Relaxed);
        phone.tell(registrar, &phone.register(&user, cseq, 3600)).await;
        let answer = phone.hear_for(PATIENCE).await.unwrap_or_else(|| panic!("REGISTER {cseq} of {user} was lost"));
        assert!(answer.contains(&format!("CSeq: {cseq} REGISTER")), "{answer}");
        seen.answered.fetch_add(1, Relaxed);
        if status(&answer).contains(" 200 ") {
            seen.stored.fetch_add(1, Relaxed);
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Connects again and again, and asks something each time. A daemon that ends may leave a question open, never a door closed.
async fn connects(address: SocketAddr, question: String, seen: Arc<Seen>) {
    while !seen.over.load(Relaxed) {
        match TcpStream::connect(address).await {
            Ok(mut stream) => {
                seen.connected.fetch_add(1, Relaxed);
                let _ = stream.write_all(question.as_bytes()).await;
                let _ = tokio::time::timeout(PATIENCE, stream.read(&mut [0; 1024])).await;
            }
            Err(error) => {
                eprintln!("{address}: {error}");
                seen.refused.fetch_add(1, Relaxed);
            }
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

const PHONES: u32 = 40;
const RESTARTS: u32 = 3;
/// REGISTERs in all.
const ENOUGH: u32 = 4_000;
