//! What becomes of a phone's bindings when its connection is closed.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};

use crate::support::api::{items, text};
use crate::support::daemon::Daemon;
use crate::support::folder::Folder;
use crate::support::phone::{Phone, request, status};

/// A phone that says where it can be reached without its connection.
struct Line {
    stream: TcpStream,
    contact: &'static str,
}

impl Line {
    async fn open(address: SocketAddr, contact: &'static str) -> Self {
        Self { stream: TcpStream::connect(address).await.unwrap(), contact }
    }

    /// Registers and returns the contacts it is told of.
    async fn register(&mut self, user: &str, cseq: u32, call_id: &str) -> String {
        let local = self.stream.local_addr().unwrap();
        let contact = format!("Contact: <{}>\r\nExpires: 600\r\n", self.contact);
        let text = request("TCP", local, "REGISTER", user, cseq, &format!("z9hG4bK{call_id}{cseq}"), &contact);
        let text = text.replace(&format!("{user}@phone.example"), call_id);
        self.stream.write_all(text.as_bytes()).await.unwrap();
        let mut buffer = vec![0; 4096];
        let length = timeout(Duration::from_secs(5), self.stream.read(&mut buffer)).await.unwrap().unwrap();
        let answer = String::from_utf8(buffer[..length].to_vec()).unwrap();
        assert_eq!(status(&answer), "SIP/2.0 200 OK", "{answer}");
        answer
    }
}

async fn daemon(folder: &Folder, grace_s: u32) -> Daemon {
    Daemon::start_with(folder, &format!("[registrar]\nconnection_grace_s = {grace_s}\n")).await
}

const HOME: &str = "sip:101@192.0.2.7:5060;transport=tcp";

#[tokio::test]
async fn a_closed_connection_takes_its_bindings_along_after_the_grace_and_for_good() {
    let folder = Folder::new("sip");
    let mut daemon = daemon(&folder, 2).await;
    let admin = daemon.api();
    let events = admin.events("/v1/events").await;
    let mut line = Line::open(daemon.registrar, HOME).await;
    line.register("101", 1, "a").await;
    let device = admin.device("101", "connected").await;
    let closed = Instant::now();
    drop(line);
    admin.device("101", "disconnected").await;
    assert!(closed.elapsed() >= Duration::from_millis(1900), "not before its grace: {:?}", closed.elapsed());
    events.wait("admins are told", |event| event.kind == "device.down").await;
    let history = admin.get(&format!("/v1/devices/{}/history", text(&device["id"]))).await;
    assert_eq!(items(&history)[0]["cause"], json!("connection_closed"), "{history:#}");
    daemon.kill();
    daemon.start_again().await;
    admin.device("101", "disconnected").await;
}

#[tokio::test]
async fn a_fresh_register_within_the_grace_keeps_the_binding() {
    let folder = Folder::new("sip");
    let daemon = daemon(&folder, 2).await;
    let admin = daemon.api();
    // The same phone over a new connection, after a reboot, by a retransmission, and over UDP.
    let mut kept = Vec::new();
    for (user, cseq, call_id) in [("101", 2, "a"), ("102", 1, "b"), ("103", 1, "a")] {
        Line::open(daemon.registrar, HOME).await.register(user, 1, "a").await;
        let mut line = Line::open(daemon.registrar, HOME).await;
        line.register(user, cseq, call_id).await;
        kept.push(line);
    }
    let phone = Phone::near(daemon.registrar).await;
    Line::open(daemon.registrar, HOME).await.register("104", 1, "104@phone.example").await;
    let contact = format!("Contact: <{HOME}>\r\nExpires: 600\r\n");
    let answer = phone.ask(daemon.registrar, &phone.request("REGISTER", "104", 2, &contact)).await;
    assert_eq!(status(&answer), "SIP/2.0 200 OK", "{answer}");
    Line::open(daemon.registrar, HOME).await.register("105", 1, "a").await;
    admin.device("105", "disconnected").await;
    for user in ["101", "102", "103", "104"] {
        assert_eq!(admin.find_device(user).await.unwrap()["state"], "connected", "{user}");
    }
    // The newer connection holds them now.
    kept.remove(2);
    admin.device("103", "disconnected").await;
    assert_eq!(admin.find_device("101").await.unwrap()["state"], "connected");
}

#[tokio::test]
async fn other_bindings_of_the_device_and_what_a_proxy_brought_stay() {
    let folder = Folder::new("sip");
    let daemon = daemon(&folder, 0).await;
    let admin = daemon.api();
    let mut desk = Line::open(daemon.registrar, HOME).await;
    desk.register("101", 1, "desk").await;
    Line::open(daemon.registrar, "sip:101@192.0.2.8;transport=tcp").await.register("101", 1, "soft").await;
    let mut proxy = TcpStream::connect(daemon.registrar).await.unwrap();
    let local = proxy.local_addr().unwrap();
    let contact = "Via: SIP/2.0/UDP 192.0.2.9;branch=z9hG4bKb\r\nContact: <sip:102@192.0.2.9>\r\nExpires: 600\r\n";
    let text = request("TCP", local, "REGISTER", "102", 1, "z9hG4bKp", contact);
    proxy.write_all(text.as_bytes()).await.unwrap();
    admin.device("102", "connected").await;
    drop(proxy);
    let mut contacts = desk.register("101", 2, "desk").await;
    let started = Instant::now();
    while contacts.contains("192.0.2.8") {
        assert!(started.elapsed() < Duration::from_secs(5), "the closed one's binding stays: {contacts}");
        sleep(Duration::from_millis(100)).await;
        contacts = desk.register("101", 2, "desk").await;
    }
    assert!(contacts.contains("192.0.2.7"), "{contacts}");
    assert_eq!(admin.find_device("101").await.unwrap()["state"], "connected");
    sleep(Duration::from_millis(2200)).await;
    assert_eq!(
        admin.find_device("102").await.unwrap()["state"],
        "connected",
        "a proxy's connection is not the phone's"
    );
}

#[tokio::test]
async fn a_restart_ends_no_binding() {
    let folder = Folder::new("sip");
    let mut daemon = daemon(&folder, 0).await;
    let mut line = Line::open(daemon.registrar, HOME).await;
    line.register("101", 1, "a").await;
    daemon.restart().await;
    sleep(Duration::from_millis(1500)).await;
    assert_eq!(daemon.api().find_device("101").await.unwrap()["state"], "connected");
}
