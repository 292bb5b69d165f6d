//! SIP over TLS: the same as over TCP once hands are shaken; who can't shake them is cut off in time.

use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::support::api::text;
use crate::support::daemon::Daemon;
use crate::support::folder::Folder;
use crate::support::phone::request;
use crate::support::tls::Certificate;
use crate::support::wait::until;

/// A daemon whose extra registrar `secure` speaks TLS; `more` goes below it.
async fn secure(folder: &Folder, certificate: &Certificate, more: &str) -> Daemon {
    let listener = "[listeners.secure]\nmode = \"registrar\"\nbind = [\"tls:127.0.0.1:0\"]";
    Daemon::start_with(folder, &format!("{listener}\n{}{more}", certificate.settings())).await
}

async fn heard(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut buffer = vec![0; 4096];
    let read = timeout(Duration::from_secs(5), stream.read(&mut buffer)).await.expect("it neither answers nor closes");
    String::from_utf8(buffer[..read.unwrap()].to_vec()).unwrap()
}

/// Whether the peer closes, whatever it says before.
async fn is_closed(stream: &mut (impl AsyncRead + Unpin)) -> bool {
    timeout(Duration::from_secs(5), stream.read_to_end(&mut Vec::new())).await.is_ok()
}

#[tokio::test]
async fn a_phone_registers_over_tls_and_its_binding_says_so() {
    let folder = Folder::new("sip");
    let certificate = Certificate::make(&folder);
    let daemon = secure(&folder, &certificate, "").await;
    let mut stream = certificate.connect(daemon.listening("secure", "tls")).await;
    let local = stream.get_ref().0.local_addr().unwrap();
    let contact = format!("Contact: <sip:101@{local};transport=tls>\r\nExpires: 600\r\n");
    for cseq in 1..=2 {
        let register = request("TLS", local, "REGISTER", "101", cseq, &format!("z9hG4bKt{cseq}"), &contact);
        // However records cut it.
        for piece in register.as_bytes().chunks(100) {
            stream.write_all(piece).await.unwrap();
            stream.flush().await.unwrap();
        }
        let answer = heard(&mut stream).await;
        assert!(answer.starts_with("SIP/2.0 200 OK"), "{answer}");
    }
    stream.write_all(b"\r\n\r\n").await.unwrap();
    assert_eq!(heard(&mut stream).await, "\r\n");
    let device = daemon.api().device("101", "connected").await;
    let bindings = daemon.api().get(&format!("/v1/devices/{}/bindings", text(&device["id"]))).await;
    assert!(bindings.to_string().contains("\"transport\":\"tls\""), "{bindings:#}");
}

#[tokio::test]
async fn an_end_is_told_from_a_cut() {
    let folder = Folder::new("sip");
    let certificate = Certificate::make(&folder);
    let daemon = secure(&folder, &certificate, "").await;
    let mut stream = certificate.connect(daemon.listening("secure", "tls")).await;
    stream.write_all(b"no sip at all, which can't be followed\r\n\r\n").await.unwrap();
    // Without close_notify this would be an error.
    let end = timeout(Duration::from_secs(5), stream.read_to_end(&mut Vec::new())).await.expect("it is closed");
    assert_eq!(end.unwrap(), 0);
}

#[tokio::test]
async fn who_speaks_no_tls_or_says_nothing_is_cut_off_and_counted() {
    let folder = Folder::new("sip");
    let certificate = Certificate::make(&folder);
    let daemon = secure(&folder, &certificate, "[limits]\nmessage_wait_s = 1\nconnections_per_source_max = 3\n").await;
    let address = daemon.listening("secure", "tls");
    let mut plain = TcpStream::connect(address).await.unwrap();
    plain.write_all(b"OPTIONS sip:a SIP/2.0\r\n\r\n").await.unwrap();
    assert!(is_closed(&mut plain).await);
    dropped(&daemon, "sip_tls", "handshake").await;
    let mut silent = TcpStream::connect(address).await.unwrap();
    assert!(is_closed(&mut silent).await);
    dropped(&daemon, "sip_tls", "handshake_wait").await;
    // Those who shake hands count towards the limits too.
    let mut crowd = Vec::new();
    for _ in 0..4 {
        crowd.push(TcpStream::connect(address).await.unwrap());
    }
    dropped(&daemon, "sip_tcp", "connections_per_source").await;
}

async fn dropped(daemon: &Daemon, place: &str, reason: &str) {
    let labels = format!("where=\"{place}\",reason=\"{reason}\"");
    until(&labels, async || (daemon.metric("hookswitch_dropped_total", &labels).await >= 1.0).then_some(())).await;
}
