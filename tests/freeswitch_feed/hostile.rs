//! Peers that are no event socket, or none any more: each costs little, is said, and hurts nobody else.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::office::{Office, Order};
use crate::recorded::frames;
use crate::support::api::text;
use crate::support::daemon::Daemon;
use crate::support::folder::Folder;
use crate::support::wait::until;

/// A daemon whose feed talks to `address`, and what the feed says when it has given up.
async fn error_with(name: &str, address: SocketAddr) -> (Daemon, Folder, String) {
    let folder = Folder::new(&format!("esl-hostile-{name}"));
    let more = format!("[feeds.freeswitch]\naddress = \"{address}\"\nsecret = \"ClueCon\"\nanswer_s = 1\n");
    let daemon = Daemon::start_with(&folder, &more).await;
    let error = until("it says what is wrong", async || {
        daemon.output().lines().find(|line| line.contains("a feed broke")).map(str::to_owned)
    })
    .await;
    (daemon, folder, error)
}

/// Serves every connection with `peer`.
async fn serving<F: Future<Output = ()> + Send + 'static>(peer: fn(TcpStream) -> F) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(peer(stream));
        }
    });
    address
}

async fn stays(mut stream: TcpStream, bytes: &[u8]) {
    let _ = stream.write_all(bytes).await;
    let mut rest = [0; 1024];
    while stream.read(&mut rest).await.is_ok_and(|read| read > 0) {}
}

async fn endless_line(mut stream: TcpStream) {
    while stream.write_all(&[b'a'; 4096]).await.is_ok() {}
}

async fn garbage(mut stream: TcpStream) {
    let noise: Vec<u8> = (0..100_000_u32).map(|n| u8::try_from(n.wrapping_mul(2_654_435_761) >> 24).unwrap()).collect();
    let _ = stream.write_all(&noise).await;
}

async fn silence(stream: TcpStream) {
    stays(stream, b"").await;
}

async fn another_protocol(stream: TcpStream) {
    stays(stream, b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n").await;
}

async fn refuses(stream: TcpStream) {
    let mut stream = stream;
    let text = b"Content-Type: text/rude-rejection\nContent-Length: 24\n\nAccess Denied, go away.\n";
    let _ = stream.write_all(text).await;
}

/// Lets anybody in and then says no more.
async fn falls_silent(mut stream: TcpStream) {
    let _ = stream.write_all(b"Content-Type: auth/request\n\n").await;
    let reply = b"Content-Type: command/reply\nReply-Text: +OK\n\n";
    let mut rest = [0; 1024];
    for _ in 0..2 {
        let _ = stream.read(&mut rest).await;
        let _ = stream.write_all(reply).await;
    }
    while stream.read(&mut rest).await.is_ok_and(|read| read > 0) {}
}

/// Lets anybody in, announces more than there is in the world.
async fn boasts(mut stream: TcpStream) {
    let _ = stream.write_all(b"Content-Type: auth/request\n\n").await;
    let mut rest = [0; 1024];
    let _ = stream.read(&mut rest).await;
    stays(stream, b"Content-Type: text/event-json\nContent-Length: 99999999999\n\n").await;
}

#[tokio::test]
async fn what_is_no_event_socket_is_left_with_a_word_that_says_so() {
    let rows = [
        ("endless-line", serving(endless_line).await, "without an empty line"),
        ("garbage", serving(garbage).await, ""),
        ("silence", serving(silence).await, "says nothing"),
        ("http", serving(another_protocol).await, "no event socket"),
        ("refuses", serving(refuses).await, "apply-inbound-acl"),
        ("falls-silent", serving(falls_silent).await, "did not answer"),
        ("boasts", serving(boasts).await, "impossible length"),
        ("nobody", "127.0.0.1:1".parse().unwrap(), "nothing listens"),
    ];
    for (name, address, expected) in rows {
        let (daemon, _folder, error) = error_with(name, address).await;
        assert!(error.contains(expected), "{name}: {error}");
        let memory = daemon.metric("process_resident_memory_bytes", "").await;
        assert!(memory < 300e6, "{name}: {memory}");
    }
}

#[tokio::test]
async fn a_flood_of_events_leaves_the_others_their_time() {
    let office = Office::open("flood", true).await;
    let events: Vec<Vec<u8>> = frames("json", "agent-status")
        .into_iter()
        .filter(|(_, frame)| crate::recorded::stamp(frame).is_some())
        .map(|(bytes, _)| bytes)
        .collect();
    // Lines of the log cost next to nothing to read, so that even a slow machine meets the pace.
    let lines = b"Content-Type: log/data\nContent-Length: 1\n\n.".repeat(20_000);
    let flood = [events.concat().repeat(4), lines].concat();
    let flooding = async {
        let end = Instant::now() + Duration::from_secs(3);
        while Instant::now() < end {
            office.pbx.send(&flood).await;
        }
    };
    let others = async {
        let mut slowest = Duration::ZERO;
        for _ in 0..10 {
            let before = Instant::now();
            office.admin.get("/v1/devices").await;
            slowest = slowest.max(before.elapsed());
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        slowest
    };
    let ((), slowest) = tokio::join!(flooding, others);
    assert!(slowest < Duration::from_secs(3), "{slowest:?}");
    let slowed = async || office.daemon.metric("hookswitch_dropped_total", "slowed").await;
    assert!(slowed().await > 0.0, "it was slowed down");
    until("what was sent has been read", async || {
        let before = slowed().await;
        tokio::time::sleep(Duration::from_millis(300)).await;
        (slowed().await <= before).then_some(())
    })
    .await;
    office.play("json", "direct-answered", Order::Recorded).await;
    assert_eq!(office.calls(1).await[0], "inbound +14155550100 > 201: answered", "it still follows");
    assert!(text(&office.queue("sales@default").await["name"]).starts_with("sales"));
}
