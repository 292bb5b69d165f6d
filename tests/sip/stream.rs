//! SIP over TCP: framing, keepalives, limits.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{Instant, sleep, timeout};

use crate::support::daemon::Daemon;
use crate::support::folder::Folder;
use crate::support::phone::{request, status};
use crate::support::wait::until;

async fn connect(address: SocketAddr) -> TcpStream {
    TcpStream::connect(address).await.unwrap()
}

/// What arrives until `done` is content or the peer closes.
async fn read(stream: &mut TcpStream, done: impl Fn(&str) -> bool) -> String {
    let mut text = String::new();
    let mut buffer = [0; 4096];
    while !done(&text) {
        match timeout(Duration::from_secs(5), stream.read(&mut buffer)).await.expect("it neither answers nor closes") {
            Ok(0) | Err(_) => break,
            Ok(length) => text.push_str(std::str::from_utf8(&buffer[..length]).unwrap()),
        }
    }
    text
}

fn register(stream: &TcpStream, user: &str) -> String {
    let local = stream.local_addr().unwrap();
    let contact = format!("Contact: <sip:{user}@{local};transport=tcp>\r\nExpires: 600\r\n");
    request("TCP", local, "REGISTER", user, 1, "z9hG4bKt", &contact)
}

/// Whether the peer has closed.
async fn is_closed(stream: &mut TcpStream, within: Duration) -> bool {
    let mut byte = [0; 1];
    matches!(timeout(within, stream.read(&mut byte)).await, Ok(Ok(0) | Err(_)))
}

#[tokio::test]
async fn more_phones_connect_than_the_soft_limit_of_open_files_lets() {
    let folder = Folder::new("sip");
    let low = ["sh", "-c", "ulimit -S -n 64; exec \"$@\"", "sh"].map(String::from);
    let daemon = Daemon::start_through(&folder, "", low.into(), folder.join("data")).await;
    let mut streams = Vec::new();
    for number in 0..150 {
        let mut stream = connect(daemon.registrar).await;
        let text = register(&stream, &format!("{}", 100 + number));
        stream.write_all(text.as_bytes()).await.unwrap();
        let answer = read(&mut stream, |text| text.ends_with("\r\n\r\n")).await;
        assert_eq!(status(&answer), "SIP/2.0 200 OK", "connection {number}: {answer}");
        streams.push(stream);
    }
}

#[tokio::test]
async fn messages_are_framed_however_the_stream_is_cut_on_both_families() {
    let folder = Folder::new("sip");
    let daemon = Daemon::start(&folder).await;
    for v6 in [false, true] {
        let address = if v6 { daemon.registrar6 } else { daemon.registrar };
        for step in [1, 7, 100, 100_000] {
            let mut stream = connect(address).await;
            stream.set_nodelay(true).unwrap();
            let text = format!("\r\n\r\n{}\r\n\r\n{}", register(&stream, "101"), register(&stream, "102"));
            for piece in text.as_bytes().chunks(step) {
                stream.write_all(piece).await.unwrap();
                if step > 1 {
                    tokio::task::yield_now().await;
                }
            }
            let answers =
                read(&mut stream, |text| text.matches("SIP/2.0 200 OK").count() == 2 && text.ends_with("\r\n\r\n"))
                    .await;
            assert!(answers.starts_with("\r\n"), "the ping's pong comes first: {answers}");
            assert_eq!(answers.matches("SIP/2.0 200 OK").count(), 2, "{answers}");
            assert!(answers.contains("<sip:102@"), "{answers}");
        }
    }
}

#[tokio::test]
async fn without_a_content_length_the_sender_is_told_and_the_stream_closed() {
    let folder = Folder::new("sip");
    let daemon = Daemon::start(&folder).await;
    let mut stream = connect(daemon.registrar).await;
    let text = register(&stream, "101").replace("Content-Length: 0\r\n", "");
    stream.write_all(text.as_bytes()).await.unwrap();
    let answer = read(&mut stream, |_| false).await;
    assert_eq!(status(&answer), "SIP/2.0 400 Missing Content-Length");
    assert!(daemon.api().find_device("101").await.is_none());
}

#[tokio::test]
async fn garbage_closes_its_own_stream_and_no_other() {
    let folder = Folder::new("sip");
    let daemon = Daemon::start(&folder).await;
    let address = daemon.registrar;
    let mut good = connect(address).await;
    for garbage in [b"GET / HTTP/1.1\r\n\r\n".to_vec(), vec![0xff; 40_000], vec![b'a'; 200_000]] {
        let mut bad = connect(address).await;
        // The daemon may close before it has read all of it.
        let _ = bad.write_all(&garbage).await;
        assert!(is_closed(&mut bad, Duration::from_secs(3)).await);
    }
    let text = register(&good, "101");
    good.write_all(text.as_bytes()).await.unwrap();
    assert!(read(&mut good, |text| text.ends_with("\r\n\r\n")).await.contains("200 OK"));
}

/// A daemon with these limits, and an address of each of three of its listeners: the limits are those of all together.
async fn limited(folder: &Folder, limits: &str) -> (Daemon, [SocketAddr; 3]) {
    let more = "[listeners.more]\nmode = \"registrar\"\nbind = [\"tcp:127.0.0.1:0\"]\n";
    let daemon = Daemon::start_with(folder, &format!("{more}[limits]\n{limits}\n")).await;
    let addresses = [daemon.registrar, daemon.replica, daemon.listening("more", "tcp")];
    (daemon, addresses)
}

#[tokio::test]
async fn connections_are_bounded_by_source_and_in_all_over_all_listeners() {
    for (key, reason) in [("connections_per_source_max", "connections_per_source"), ("connections_max", "connections")]
    {
        let folder = Folder::new("sip");
        let (daemon, [first, second, third]) = limited(&folder, &format!("{key} = 2")).await;
        let mut kept = Vec::new();
        for address in [first, second] {
            let mut stream = connect(address).await;
            let text = register(&stream, "101");
            stream.write_all(text.as_bytes()).await.unwrap();
            assert!(read(&mut stream, |text| text.ends_with("\r\n\r\n")).await.contains("200 OK"));
            kept.push(stream);
        }
        let mut surplus = connect(third).await;
        assert!(is_closed(&mut surplus, Duration::from_secs(3)).await, "{key}");
        let labels = format!("where=\"sip_tcp\",reason=\"{reason}\"");
        assert!(daemon.metric("hookswitch_dropped_total", &labels).await >= 1.0, "{key}");
        drop(kept);
        // A place that is free again is given away.
        let started = Instant::now();
        while is_closed(&mut connect(third).await, Duration::from_millis(100)).await {
            assert!(started.elapsed() < Duration::from_secs(5), "{key}: closed connections never free their place");
            sleep(Duration::from_millis(20)).await;
        }
    }
}

#[tokio::test]
async fn silence_and_half_messages_end_a_connection_in_time() {
    let folder = Folder::new("sip");
    let daemon = Daemon::start_with(&folder, "[limits]\nconnection_idle_s = 2\nmessage_wait_s = 1").await;
    let address = daemon.registrar;
    let (mut idle, mut half) = (connect(address).await, connect(address).await);
    let started = Instant::now();
    let text = register(&half, "101");
    let dripped = async {
        // A byte now and then does not start its time again.
        for byte in text.as_bytes() {
            if half.write_all(&[*byte]).await.is_err() {
                break;
            }
            if is_closed(&mut half, Duration::from_millis(100)).await {
                break;
            }
        }
        started.elapsed()
    };
    let elapsed = timeout(Duration::from_secs(10), dripped).await.expect("the half message is waited for for ever");
    assert!(elapsed >= Duration::from_millis(900) && elapsed < Duration::from_secs(4), "{elapsed:?}");
    assert!(is_closed(&mut idle, Duration::from_secs(5)).await);
    assert!(daemon.metric("hookswitch_dropped_total", "where=\"sip_tcp\",reason=\"message_wait\"").await >= 1.0);
    assert!(daemon.metric("hookswitch_dropped_total", "where=\"sip_tcp\",reason=\"idle\"").await >= 1.0);
}

#[tokio::test]
async fn halves_are_bounded_in_number_and_in_bytes_over_all_listeners_and_whole_messages_are_not() {
    let cases = [
        ("unfinished_per_source_max = 2", "unfinished_per_source", 10),
        ("unfinished_max = 2", "unfinished", 10),
        ("held_kib_per_source_max = 5", "held_bytes_per_source", 2000),
        ("held_kib_max = 5", "held_bytes", 2000),
    ];
    for (setting, reason, length) in cases {
        let folder = Folder::new("sip");
        let (daemon, addresses) = limited(&folder, setting).await;
        let mut halves = Vec::new();
        for address in addresses {
            let mut stream = connect(address).await;
            let head = format!("OPTIONS sip:a@b SIP/2.0\r\nSubject: {}", "x".repeat(length));
            stream.write_all(head.as_bytes()).await.unwrap();
            sleep(Duration::from_millis(50)).await;
            halves.push(stream);
        }
        assert!(is_closed(&mut halves[2], Duration::from_secs(3)).await, "{setting}");
        assert!(!is_closed(&mut halves[0], Duration::from_millis(100)).await, "{setting}: who came first stays");
        let labels = format!("where=\"sip_tcp\",reason=\"{reason}\"");
        assert!(daemon.metric("hookswitch_dropped_total", &labels).await >= 1.0, "{setting}");
        let mut whole = connect(daemon.registrar).await;
        let text = register(&whole, "101");
        whole.write_all(text.as_bytes()).await.unwrap();
        assert!(read(&mut whole, |text| text.ends_with("\r\n\r\n")).await.contains("200 OK"), "{setting}");
        // Room is free again with the connection that took it.
        drop(halves);
        sleep(Duration::from_millis(100)).await;
        whole.write_all(b"OPTIONS sip:a@b").await.unwrap();
        assert!(!is_closed(&mut whole, Duration::from_millis(200)).await, "{setting}");
    }
}

#[tokio::test]
async fn what_a_peer_does_not_read_counts_as_held() {
    let folder = Folder::new("sip");
    let (daemon, _) = limited(&folder, "held_kib_per_source_max = 2").await;
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let mut deaf = socket.connect(daemon.registrar).await.unwrap();
    let local = deaf.local_addr().unwrap();
    let questions = request("TCP", local, "OPTIONS", "101", 1, "z9hG4bKd", "").repeat(20);
    let asking = async { while deaf.write_all(questions.as_bytes()).await.is_ok() {} };
    timeout(Duration::from_secs(20), asking).await.expect("it goes on answering");
    let labels = "where=\"sip_tcp\",reason=\"held_bytes_per_source\"";
    until(labels, async || (daemon.metric("hookswitch_dropped_total", labels).await >= 1.0).then_some(())).await;
    let mut other = connect(daemon.registrar).await;
    let text = register(&other, "101");
    other.write_all(text.as_bytes()).await.unwrap();
    assert!(read(&mut other, |text| text.ends_with("\r\n\r\n")).await.contains("200 OK"), "its room is free again");
}
