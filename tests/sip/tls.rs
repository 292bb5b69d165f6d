//! SIP over TLS: the same as over TCP once hands are shaken; who can't shake them is cut off in time.

use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::support::api::text;
use crate::support::daemon::Daemon;
use crate::support::folder::Folder;
use crate::support::phone::request;
use crate::support::tls::{Authority, Certificate};
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

#[tokio::test]
async fn a_changed_certificate_is_shown_without_a_restart_and_a_broken_one_is_not() {
    let folder = Folder::new("sip");
    let (old, new) = (Certificate::make(&folder), Certificate::make_as(&folder, "new"));
    let daemon = secure(&folder, &old, "[limits]\ncertificate_check_s = 1\n").await;
    let address = daemon.listening("secure", "tls");
    let mut before = old.connect(address).await;
    // The certificate alone, without its key, is no use.
    std::fs::copy(&new.chain, &old.chain).unwrap();
    reloaded(&daemon, "failed", 1.0).await;
    assert!(daemon.output().contains("tls.key is not the key of"), "{}", daemon.output());
    old.connect(address).await;
    std::fs::copy(&new.key, &old.key).unwrap();
    reloaded(&daemon, "loaded", 1.0).await;
    new.connect(address).await;
    assert!(old.try_connect(address).await.is_err(), "the old one is shown no more");
    before.write_all(b"\r\n\r\n").await.unwrap();
    assert_eq!(heard(&mut before).await, "\r\n", "who was connected stays so");
    std::fs::remove_file(&old.chain).unwrap();
    reloaded(&daemon, "failed", 2.0).await;
    new.connect(address).await;
    // It says so once, not at every look.
    tokio::time::sleep(Duration::from_millis(2500)).await;
    reloaded(&daemon, "failed", 2.0).await;
}

#[tokio::test]
async fn a_hangup_signal_has_the_certificate_read_at_once() {
    let folder = Folder::new("sip");
    let (old, new) = (Certificate::make(&folder), Certificate::make_as(&folder, "new"));
    let daemon = secure(&folder, &old, "[limits]\ncertificate_check_s = 86400\n").await;
    let address = daemon.listening("secure", "tls");
    old.connect(address).await;
    std::fs::copy(&new.chain, &old.chain).unwrap();
    std::fs::copy(&new.key, &old.key).unwrap();
    daemon.reload();
    reloaded(&daemon, "loaded", 1.0).await;
    new.connect(address).await;
}

#[tokio::test]
async fn with_a_client_ca_only_those_it_has_signed_are_let_in() {
    let folder = Folder::new("sip");
    let certificate = Certificate::make(&folder);
    let (ours, other) = (Authority::make(&folder, "ca.crt"), Authority::make(&folder, "other.crt"));
    let daemon = secure(&folder, &certificate, &format!("tls_client_ca = \"{}\"\n", ours.file)).await;
    let address = daemon.listening("secure", "tls");
    let mut known = certificate.connect_as(&ours, address).await.unwrap();
    known.write_all(b"\r\n\r\n").await.unwrap();
    assert_eq!(heard(&mut known).await, "\r\n");
    // With TLS 1.3 a client learns that it was refused when it reads.
    for stranger in [certificate.try_connect(address).await, certificate.connect_as(&other, address).await] {
        let Ok(mut stranger) = stranger else { continue };
        let _ = stranger.write_all(b"\r\n\r\n").await;
        assert!(!matches!(stranger.read(&mut [0; 16]).await, Ok(1..)), "it was let in");
    }
    let labels = "where=\"sip_tls\",reason=\"handshake\"";
    until(labels, async || (daemon.metric("hookswitch_dropped_total", labels).await >= 2.0).then_some(())).await;
}

/// Waits until certificates were read again so often with this outcome, and no more often.
async fn reloaded(daemon: &Daemon, outcome: &str, times: f64) {
    let labels = format!("listener=\"secure\",outcome=\"{outcome}\"");
    let name = "hookswitch_certificate_reloads_total";
    until(&labels, async || (daemon.metric(name, &labels).await >= times).then_some(())).await;
    assert!(daemon.metric(name, &labels).await <= times, "{labels}");
}

async fn dropped(daemon: &Daemon, place: &str, reason: &str) {
    let labels = format!("where=\"{place}\",reason=\"{reason}\"");
    until(&labels, async || (daemon.metric("hookswitch_dropped_total", &labels).await >= 1.0).then_some(())).await;
}
