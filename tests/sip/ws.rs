//! SIP over WebSocket and secure WebSocket (RFC 7118), spoken by a client library.

use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::json;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::handshake::client::Response;
use tokio_tungstenite::tungstenite::protocol::frame::Frame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};
use tokio_tungstenite::tungstenite::{Error, Message};

use crate::keepalive::answer;
use crate::support::api::text;
use crate::support::daemon::Daemon;
use crate::support::folder::Folder;
use crate::support::phone::{request, status};
use crate::support::tls::Certificate;
use crate::support::wait::until;

/// A daemon whose extra registrar `web` speaks both; `more` goes below it.
async fn web(folder: &Folder, certificate: &Certificate, more: &str) -> Daemon {
    let listener = "[listeners.web]\nmode = \"registrar\"\nbind = [\"ws:127.0.0.1:0\", \"wss:127.0.0.1:0\"]";
    Daemon::start_with(folder, &format!("{listener}\n{}{more}", certificate.settings())).await
}

/// Upgrades `stream`, offering `protocol`, from a page of `origin`.
async fn upgrade<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    protocol: &str,
    origin: Option<&str>,
) -> Result<(WebSocketStream<S>, Response), Error> {
    let mut request = "ws://pbx.example/any/path".into_client_request().unwrap();
    let headers = request.headers_mut();
    if !protocol.is_empty() {
        headers.insert("Sec-WebSocket-Protocol", protocol.parse().unwrap());
    }
    if let Some(origin) = origin {
        headers.insert("Origin", origin.parse().unwrap());
    }
    tokio_tungstenite::client_async(request, stream).await
}

async fn plain(daemon: &Daemon) -> WebSocketStream<TcpStream> {
    let stream = TcpStream::connect(daemon.listening("web", "ws")).await.unwrap();
    upgrade(stream, "sip", None).await.unwrap().0
}

/// What a phone in a browser sends: it knows no address of its own.
fn register(transport: &str, user: &str, cseq: u32) -> String {
    let nowhere = "127.0.0.1:1".parse().unwrap();
    let contact = format!("Contact: <sip:{user}@df7jal23ls0d.invalid;transport=ws>\r\nExpires: 600\r\n");
    let text = request(transport, nowhere, "REGISTER", user, cseq, &format!("z9hG4bKw{cseq}"), &contact);
    text.replace("127.0.0.1:1;rport", "df7jal23ls0d.invalid")
}

/// The next message, as text; `None` when the peer has closed.
async fn heard<S: AsyncRead + AsyncWrite + Unpin>(socket: &mut WebSocketStream<S>) -> Option<String> {
    match timeout(Duration::from_secs(5), socket.next()).await.expect("it neither answers nor closes") {
        Some(Ok(Message::Text(text))) => Some(text.to_string()),
        Some(Ok(Message::Pong(payload))) => Some(format!("pong {}", String::from_utf8_lossy(&payload))),
        Some(Ok(Message::Close(_)) | Err(_)) | None => None,
        Some(Ok(other)) => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_phone_in_a_browser_registers_over_both_and_its_binding_says_so() {
    let folder = Folder::new("sip");
    let certificate = Certificate::make(&folder);
    let daemon = web(&folder, &certificate, "").await;
    let stream = certificate.connect(daemon.listening("web", "wss")).await;
    let (mut secure, response) = upgrade(stream, "xmpp, sip", None).await.unwrap();
    assert_eq!(response.headers()["Sec-WebSocket-Protocol"], "sip");
    secure.send(Message::text(register("WSS", "102", 1))).await.unwrap();
    assert_eq!(status(&heard(&mut secure).await.unwrap()), "SIP/2.0 200 OK");
    let mut socket = plain(&daemon).await;
    // A text and a binary message, and one in pieces with a ping between them (RFC 6455 §5.4).
    socket.send(Message::text(register("WS", "101", 1))).await.unwrap();
    let answer = heard(&mut socket).await.unwrap();
    assert!(answer.contains("Via: SIP/2.0/WS df7jal23ls0d.invalid;branch=z9hG4bKw1;received=127.0.0.1"), "{answer}");
    socket.send(Message::binary(register("WS", "101", 2).into_bytes())).await.unwrap();
    assert_eq!(status(&heard(&mut socket).await.unwrap()), "SIP/2.0 200 OK");
    let pieces = register("WS", "101", 3).into_bytes();
    let (first, second) = pieces.split_at(100);
    let first = Frame::message(first.to_vec(), OpCode::Data(Data::Text), false);
    socket.send(Message::Frame(first)).await.unwrap();
    socket.send(Message::Ping("here".into())).await.unwrap();
    assert_eq!(heard(&mut socket).await.unwrap(), "pong here");
    let second = Frame::message(second.to_vec(), OpCode::Data(Data::Continue), true);
    socket.send(Message::Frame(second)).await.unwrap();
    assert_eq!(status(&heard(&mut socket).await.unwrap()), "SIP/2.0 200 OK");
    // What keeps it alive where pings can't be sent (RFC 5626 §4.4.1).
    socket.send(Message::text("\r\n\r\n")).await.unwrap();
    assert_eq!(heard(&mut socket).await.unwrap(), "\r\n");
    for (user, transport) in [("101", "ws"), ("102", "wss")] {
        let device = daemon.api().device(user, "connected").await;
        let bindings = daemon.api().get(&format!("/v1/devices/{}/bindings", text(&device["id"]))).await;
        assert!(bindings.to_string().contains(&format!("\"transport\":\"{transport}\"")), "{bindings:#}");
    }
}

#[tokio::test]
async fn a_closed_socket_takes_its_bindings_along() {
    let folder = Folder::new("sip");
    let daemon = web(&folder, &Certificate::make(&folder), "[registrar]\nconnection_grace_s = 0\n").await;
    for kindly in [true, false] {
        let mut socket = plain(&daemon).await;
        socket.send(Message::text(register("WS", "101", 1))).await.unwrap();
        assert_eq!(status(&heard(&mut socket).await.unwrap()), "SIP/2.0 200 OK");
        daemon.api().device("101", "connected").await;
        if kindly {
            socket.close(None).await.unwrap();
            assert_eq!(heard(&mut socket).await, None, "the close is answered");
        }
        drop(socket);
        daemon.api().device("101", "disconnected").await;
    }
}

#[tokio::test]
async fn a_phone_in_a_browser_is_asked_over_its_connection_whether_it_lives() {
    let folder = Folder::new("sip");
    let certificate = Certificate::make(&folder);
    let daemon = web(&folder, &certificate, "[registrar]\nkeepalive_s = 1\nkeepalive_misses = 0\n").await;
    let stream = certificate.connect(daemon.listening("web", "wss")).await;
    let mut socket = upgrade(stream, "sip", None).await.unwrap().0;
    socket.send(Message::text(register("WSS", "101", 1))).await.unwrap();
    assert_eq!(status(&heard(&mut socket).await.unwrap()), "SIP/2.0 200 OK");
    let device = daemon.api().device("101", "connected").await;
    until("it is asked, and its answer shows in its health", async || {
        let options = heard(&mut socket).await.unwrap();
        assert_eq!(status(&options), "OPTIONS sip:101@df7jal23ls0d.invalid;transport=ws SIP/2.0");
        socket.send(Message::text(answer(&options, "200 OK"))).await.unwrap();
        let health = daemon.api().get(&format!("/v1/devices/{}/health", text(&device["id"]))).await;
        (health["reachable"] == true).then_some(())
    })
    .await;
}

#[tokio::test]
async fn only_sip_and_only_known_pages_are_let_in() {
    let folder = Folder::new("sip");
    let daemon = web(&folder, &Certificate::make(&folder), "ws_origins = [\"https://crm.example\"]\n").await;
    let cases = [
        ("", None, Some(400)),
        ("mqtt", None, Some(400)),
        ("sip", Some("https://evil.example"), Some(403)),
        ("sip", Some("null"), Some(403)),
        ("sip", Some("https://CRM.example"), None),
        ("mqtt, sip", None, None),
    ];
    for (protocol, origin, refused) in cases {
        let stream = TcpStream::connect(daemon.listening("web", "ws")).await.unwrap();
        let status = match upgrade(stream, protocol, origin).await {
            Ok(_) => None,
            Err(Error::Http(response)) => Some(response.status().as_u16()),
            Err(error) => panic!("{protocol} {origin:?}: {error}"),
        };
        assert_eq!(status, refused, "{protocol} {origin:?}");
    }
    dropped(&daemon, "sip_ws", "subprotocol", 2.0).await;
    dropped(&daemon, "sip_ws", "origin", 2.0).await;
}

#[tokio::test]
async fn halves_and_too_much_end_a_socket_in_time() {
    let folder = Folder::new("sip");
    let limits = "[limits]\nmessage_wait_s = 1\nconnection_idle_s = 4\n";
    let daemon = web(&folder, &Certificate::make(&folder), limits).await;
    let started = Instant::now();
    // Half an upgrade; no HTTP at all.
    let mut half = TcpStream::connect(daemon.listening("web", "ws")).await.unwrap();
    half.write_all(b"GET / HTTP/1.1\r\nUpgrade: websocket\r\n").await.unwrap();
    assert!(timeout(Duration::from_secs(5), half.read_to_end(&mut Vec::new())).await.is_ok());
    dropped(&daemon, "sip_ws", "handshake_wait", 1.0).await;
    let mut garbage = TcpStream::connect(daemon.listening("web", "ws")).await.unwrap();
    garbage.write_all(b"REGISTER sip:pbx.example SIP/2.0\r\n\r\n").await.unwrap();
    assert!(timeout(Duration::from_secs(5), garbage.read_to_end(&mut Vec::new())).await.is_ok());
    dropped(&daemon, "sip_ws", "handshake", 1.0).await;
    // A message in pieces that never ends; pings do not start its time again.
    let (mut idle, mut slow) = (plain(&daemon).await, plain(&daemon).await);
    let begun = Instant::now();
    let mut opcode = OpCode::Data(Data::Text);
    while slow.send(Message::Frame(Frame::message("x", opcode, false))).await.is_ok() {
        opcode = OpCode::Data(Data::Continue);
        if slow.send(Message::Ping("x".into())).await.is_err() {
            break;
        }
        sleep(Duration::from_millis(50)).await;
        assert!(begun.elapsed() < Duration::from_secs(4), "the slow message is waited for for ever");
    }
    dropped(&daemon, "sip_tcp", "message_wait", 1.0).await;
    // Too long a message.
    let mut long = plain(&daemon).await;
    let _ = long.send(Message::text("x".repeat(70_000))).await;
    assert_eq!(heard(&mut long).await, None);
    dropped(&daemon, "sip_tcp", "framing", 1.0).await;
    assert_eq!(heard(&mut idle).await, None);
    dropped(&daemon, "sip_tcp", "idle", 1.0).await;
    assert!(started.elapsed() > Duration::from_secs(4), "not before its time");
}

#[tokio::test]
async fn a_replica_takes_what_a_pbx_relays_over_it() {
    let folder = Folder::new("sip");
    let listener = "[listeners.web]\nmode = \"replica\"\nbind = [\"ws:127.0.0.1:0\"]\n";
    let daemon = Daemon::start_with(&folder, listener).await;
    let mut socket = plain(&daemon).await;
    socket.send(Message::text(register("WS", "101", 1))).await.unwrap();
    assert_eq!(status(&heard(&mut socket).await.unwrap()), "SIP/2.0 200 OK");
    let device = daemon.api().device("101", "connected").await;
    assert_eq!(device["bindings"]["count"].as_u64().unwrap_or(1), 1, "{device:#}");
    drop(socket);
    sleep(Duration::from_millis(2500)).await;
    assert_eq!(daemon.api().find_device("101").await.unwrap()["state"], json!("connected"), "it is the PBX's to end");
}

async fn dropped(daemon: &Daemon, place: &str, reason: &str, times: f64) {
    let labels = format!("where=\"{place}\",reason=\"{reason}\"");
    until(&labels, async || (daemon.metric("hookswitch_dropped_total", &labels).await >= times).then_some(())).await;
}
