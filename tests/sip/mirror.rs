//! Mirror mode: copies of what others say. It never says anything.

use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::support::daemon::Daemon;
use crate::support::folder::Folder;
use crate::support::phone::Phone;
use crate::support::wait::until;

/// A REGISTER of 101 at 10.0.0.5 as siptrace copies it, and the registrar's answer to it.
fn registration(status: &str) -> (String, String) {
    let headers = "Via: SIP/2.0/UDP 10.0.0.5:5060;branch=z9hG4bKm\r\nFrom: <sip:101@pbx.example>;tag=1\r\n\
                   To: <sip:101@pbx.example>\r\nCall-ID: m1@10.0.0.5\r\nCSeq: 1 REGISTER\r\n";
    let request = format!(
        "REGISTER sip:pbx.example SIP/2.0\r\nX-Siptrace-Fromip: udp:203.0.113.9:4711\r\n\
         X-Siptrace-Toip: udp:192.0.2.1:5060\r\nX-Siptrace-Dir: in\r\n{headers}\
         Contact: <sip:101@10.0.0.5>\r\nExpires: 600\r\nUser-Agent: Desk 3000\r\n\
         Authorization: Digest username=\"101\", response=\"dontkeep\"\r\nContent-Length: 0\r\n\r\n"
    );
    let response =
        format!("SIP/2.0 {status}\r\n{headers}Contact: <sip:101@10.0.0.5>;expires=300\r\nContent-Length: 0\r\n\r\n");
    (request, response)
}

#[tokio::test]
async fn nothing_is_ever_answered_over_udp_or_tcp() {
    let folder = Folder::new("sip");
    let tcp = "[listeners.copies]\nmode = \"mirror\"\nbind = \"tcp:127.0.0.1:0\"";
    let daemon = Daemon::start_with(&folder, tcp).await;
    let mirror = daemon.mirror;
    let copier = Phone::near(mirror).await;
    let mut everything = String::new();
    for method in ["REGISTER", "INVITE", "ACK", "BYE", "CANCEL", "OPTIONS", "NOTIFY", "JUGGLE"] {
        let message = copier.request(method, "101", 1, "");
        copier.tell(mirror, &message).await;
        copier.tell(mirror, &message.replace("CSeq: 1", "CSeq: x")).await;
        everything.push_str(&message);
    }
    for garbage in ["", "\r\n\r\n", "GET / HTTP/1.1\r\n\r\n", "SIP/2.0 200 OK\r\n\r\n"] {
        copier.tell(mirror, garbage).await;
    }
    assert_eq!(copier.hear_for(Duration::from_millis(500)).await, None);
    assert!(
        daemon
            .metric("hookswitch_sip_messages_total", "listener=\"mirror\",method=\"none\",outcome=\"malformed\"")
            .await
            >= 1.0
    );

    let mut stream = tokio::net::TcpStream::connect(daemon.listening("copies", "tcp")).await.unwrap();
    stream.write_all(format!("\r\n\r\n{everything}INVITE sip:a SIP/2.0\r\n\r\n").as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    let closed = tokio::time::timeout(Duration::from_secs(3), stream.read_to_end(&mut answer)).await;
    assert!(closed.is_ok(), "a stream that can't be followed is closed");
    assert_eq!(answer, b"");
}

#[tokio::test]
async fn a_binding_comes_from_the_2xx_only_with_what_its_request_said() {
    let folder = Folder::new("sip");
    let daemon = Daemon::start(&folder).await;
    let mirror = daemon.mirror;
    let copier = Phone::near(mirror).await;
    let (request, refused) = registration("401 Unauthorized");
    copier.tell(mirror, &request).await;
    copier.tell(mirror, &refused).await;
    settled(&daemon, "ignored").await;
    assert!(daemon.api().find_device("101").await.is_none(), "a request and a refusal bind nothing");
    copier.tell(mirror, &registration("200 OK").1).await;
    settled(&daemon, "applied").await;
    let device = daemon.api().find_device("101").await.expect("the 2xx binds");
    assert_eq!(device["state"], "connected");
    assert_eq!(device["address"], "203.0.113.9:4711");
    assert_eq!(device["user_agent"], "Desk 3000");
    let bindings = daemon.api().get(&format!("/v1/devices/{}/bindings", device["id"].as_str().unwrap())).await;
    assert!(!bindings.to_string().contains("dontkeep"), "{bindings}");
}

#[tokio::test]
async fn exact_duplicates_are_dropped_and_counted() {
    let folder = Folder::new("sip");
    let daemon = Daemon::start(&folder).await;
    let mirror = daemon.mirror;
    let copier = Phone::near(mirror).await;
    let message = copier.request("INVITE", "101", 1, "");
    for _ in 0..3 {
        copier.tell(mirror, &message).await;
    }
    settled(&daemon, "duplicate").await;
    let seen = "listener=\"mirror\",method=\"INVITE\",outcome=\"observed\"";
    assert!((daemon.metric(MESSAGES, seen).await - 1.0).abs() < f64::EPSILON);
}

#[tokio::test]
async fn what_one_pbx_sent_another_is_seen_for_each_of_them() {
    let folder = Folder::new("sip");
    let daemon = Daemon::start(&folder).await;
    let api = daemon.api();
    let first = api.get("/v1/pbxs").await["items"][0].clone();
    let branch =
        json!({"name": "branch", "site": first["site"], "domain": "branch.example", "networks": ["127.0.0.2"]});
    api.post("/v1/pbxs", branch).await;
    let copier = Phone::near(daemon.mirror).await;
    let of_branch = tokio::net::UdpSocket::bind("127.0.0.2:0").await.unwrap();
    let message = copier.request("INVITE", "101", 1, "");
    copier.tell(daemon.mirror, &message).await;
    of_branch.send_to(message.as_bytes(), daemon.mirror).await.unwrap();
    let seen = "listener=\"mirror\",method=\"INVITE\",outcome=\"observed\"";
    until("both copies", async || (daemon.metric(MESSAGES, seen).await >= 2.0).then_some(())).await;
}

/// Waits until the mirror has counted this outcome.
async fn settled(daemon: &Daemon, outcome: &str) {
    let labels = format!("outcome=\"{outcome}\"");
    until(&labels, async || (daemon.metric(MESSAGES, &labels).await > 0.0).then_some(())).await;
}

const MESSAGES: &str = "hookswitch_sip_messages_total";
