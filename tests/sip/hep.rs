//! HEP mode: what real PBXs sent, replayed into the daemon; a call seen this way is a call, an offer and a record.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};
use tokio_rustls::client::TlsStream;

use crate::support::api::{Api, items, text};
use crate::support::daemon::Daemon;
use crate::support::events::Events;
use crate::support::folder::Folder;
use crate::support::hep::{at_chunk, compressed, message, recorded};
use crate::support::tls::Certificate;
use crate::support::wait::until;

/// The packets of `fixtures/hep/NAME.bin`. They were recorded on one host; here the PBX, known by its port, gets an
/// address of its own in the packets' headers, since in an office it has one.
fn packets(name: &str, pbx_port: u16) -> Vec<Vec<u8>> {
    recorded(name).iter().map(|packet| moved(packet, pbx_port)).collect()
}

fn moved(packet: &[u8], pbx_port: u16) -> Vec<u8> {
    let mut packet = packet.to_vec();
    let port_is = |packet: &[u8], kind: u8| {
        let at = at_chunk(packet, kind);
        packet[at..at + 2] == pbx_port.to_be_bytes()
    };
    for (port, address) in [(7, 3), (8, 4)] {
        // Calls to a TCP phone leave the PBX from a port of the moment; such a packet's other end is the phone's.
        let other = 15 - port;
        let ephemeral =
            !port_is(&packet, 7) && !port_is(&packet, 8) && !is_phone(&packet, port) && is_phone(&packet, other);
        if port_is(&packet, port) || ephemeral {
            let at = at_chunk(&packet, address);
            packet[at..at + 4].copy_from_slice(&PBX);
        }
    }
    packet
}

fn is_phone(packet: &[u8], kind: u8) -> bool {
    let at = at_chunk(packet, kind);
    [5083u16, 5183].iter().any(|port| packet[at..at + 2] == port.to_be_bytes())
}

/// A daemon that listens for HEP; `settings` are more lines of the listener.
async fn listening(folder: &Folder, settings: &str) -> Daemon {
    let more = format!("[listeners.hep]\nbind = [\"udp:127.0.0.1:0\", \"tcp:127.0.0.1:0\"]\n{settings}");
    let daemon = Daemon::start_with(folder, &more).await;
    let pbx = daemon.api().get("/v1/pbxs").await["items"][0].clone();
    daemon.api().patch(&format!("/v1/pbxs/{}", text(&pbx["id"])), json!({ "networks": ["192.0.2.1"] })).await;
    daemon
}

/// How packets get there.
enum Agent {
    Udp(UdpSocket, SocketAddr),
    Tcp(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Agent {
    async fn udp(daemon: &Daemon) -> Self {
        Self::Udp(UdpSocket::bind("127.0.0.1:0").await.unwrap(), daemon.listening("hep", "udp"))
    }

    async fn tcp(daemon: &Daemon) -> Self {
        Self::Tcp(TcpStream::connect(daemon.listening("hep", "tcp")).await.unwrap())
    }

    async fn send(&mut self, packets: &[Vec<u8>]) {
        match self {
            Self::Udp(socket, to) => {
                for packet in packets {
                    socket.send_to(packet, *to).await.unwrap();
                }
            }
            Self::Tcp(stream) => stream.write_all(&packets.concat()).await.unwrap(),
            Self::Tls(stream) => {
                stream.write_all(&packets.concat()).await.unwrap();
                stream.flush().await.unwrap();
            }
        }
    }
}

/// A new user at the phone with this extension, and their screen.
async fn sits_down(admin: &Api, extension: &str) -> (String, Events) {
    let device = admin.device(extension, "connected").await;
    let (id, api) = admin.agent("Ann").await;
    admin.link(&id, &device).await;
    let screen = api.events("/v1/me/popups/stream").await;
    screen.wait("the stream begins with a snapshot", |event| event.kind == "snapshot").await;
    (id, screen)
}

/// The phone registers, Ann links it, it is called and answers, the call ends, the phone unregisters.
async fn a_day(daemon: &Daemon, mut agent: Agent, packets: &[Vec<u8>], extension: &str) {
    let admin = daemon.api();
    agent.send(&packets[..4]).await;
    let (ann, screen) = sits_down(&admin, extension).await;
    for packet in &packets[4..] {
        agent.send(std::slice::from_ref(packet)).await;
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    screen.wait("the offer has ended", |event| event.kind == "offer" && event.data["state"] == "ended").await;
    let offers = screen.of("offer");
    let states: Vec<&Value> = offers.iter().map(|offer| &offer["state"]).collect();
    assert_eq!(states, ["offered", "answered", "ended"], "{offers:#?}");
    assert_eq!(offers[0]["caller"]["number"], "+14155550100");
    assert_eq!(offers[0]["caller"]["name"], "Jane Caller");
    let call = until("the call has ended", async || {
        let calls = admin.get("/v1/calls").await;
        assert!(items(&calls).len() <= 1, "both legs are one call: {calls:#}");
        items(&calls).first().filter(|call| call["state"] == "ended").cloned()
    })
    .await;
    assert_eq!((&call["direction"], &call["outcome"]), (&json!("inbound"), &json!("answered")), "{call:#}");
    assert_eq!((&call["users"][0]["user"], &call["users"][0]["action"]), (&json!(ann), &json!("answered")));
    admin.device(extension, "disconnected").await;
}

#[tokio::test]
async fn what_asterisk_sends_over_udp_is_a_device_a_popup_and_a_call() {
    let folder = Folder::new("hep");
    let settings = "key = \"hepsecret\"\npbx = \"nobody\"\n[listeners.hep.capture_ids]\n2001 = \"default\"";
    let daemon = listening(&folder, settings).await;
    let agent = Agent::udp(&daemon).await;
    a_day(&daemon, agent, &packets("asterisk-tcp-phone", 5070), "102").await;
}

#[tokio::test]
async fn a_pbx_that_shares_its_phones_address_is_told_from_them_by_the_registrations_it_accepts() {
    let folder = Folder::new("hep");
    let more = "[listeners.hep]\nbind = \"udp:127.0.0.1:0\"";
    let daemon = Daemon::start_with(&folder, more).await;
    let agent = Agent::udp(&daemon).await;
    a_day(&daemon, agent, &recorded("asterisk-tcp-phone"), "102").await;
}

#[tokio::test]
async fn what_freeswitch_sends_is_the_same_over_tcp() {
    let folder = Folder::new("hep");
    let daemon = listening(&folder, "").await;
    let agent = Agent::tcp(&daemon).await;
    a_day(&daemon, agent, &packets("freeswitch-tcp-phone", 5170), "202").await;
}

#[tokio::test]
async fn over_tls_it_is_the_same_and_the_key_is_not_in_clear() {
    let folder = Folder::new("hep");
    let certificate = Certificate::make(&folder);
    let more =
        format!("[listeners.hep]\nbind = [\"tls:127.0.0.1:0\"]\nkey = \"hepsecret\"\n{}", certificate.settings());
    let daemon = Daemon::start_with(&folder, &more).await;
    let agent = Agent::Tls(Box::new(certificate.connect(daemon.listening("hep", "tls")).await));
    a_day(&daemon, agent, &recorded("asterisk-tcp-phone"), "102").await;
}

#[tokio::test]
async fn compressed_payloads_are_read_and_those_that_swell_are_counted() {
    let folder = Folder::new("hep");
    let daemon = listening(&folder, "").await;
    let mut agent = Agent::udp(&daemon).await;
    let bomb = compressed(&packets("asterisk-register", 5070)[0], &vec![b' '; 10_000_000]);
    agent.send(&[bomb]).await;
    dropped(&daemon, "inflated", 1.0).await;
    let whole = packets("asterisk-tcp-phone", 5070);
    let sent: Vec<_> = whole.iter().map(|packet| compressed(packet, message(packet))).collect();
    assert!(sent.concat().len() < whole.concat().len());
    a_day(&daemon, agent, &sent, "102").await;
}

#[tokio::test]
async fn without_the_right_key_nothing_is_believed() {
    let folder = Folder::new("hep");
    let daemon = listening(&folder, "key = \"another\"").await;
    let mut agent = Agent::udp(&daemon).await;
    agent.send(&packets("asterisk-register", 5070)).await;
    agent.send(&packets("freeswitch-register", 5170)).await;
    agent.send(&[b"OPTIONS sip:a SIP/2.0\r\n\r\n".to_vec()]).await;
    dropped(&daemon, "key", 17.0).await;
    assert!(items(&daemon.api().get("/v1/devices").await).is_empty());
}

#[tokio::test]
async fn a_capture_id_of_a_pbx_that_is_not_there_belongs_to_nobody() {
    let folder = Folder::new("hep");
    let daemon = listening(&folder, "[listeners.hep.capture_ids]\n2001 = \"elsewhere\"").await;
    let mut agent = Agent::udp(&daemon).await;
    agent.send(&packets("asterisk-register", 5070)).await;
    dropped(&daemon, "no_pbx", 8.0).await;
    assert!(items(&daemon.api().get("/v1/devices").await).is_empty());
}

#[tokio::test]
async fn what_is_no_sip_is_counted_by_what_it_is_and_never_answered() {
    let folder = Folder::new("hep");
    let daemon = listening(&folder, "").await;
    let mut agent = Agent::udp(&daemon).await;
    let of_kind = |kind: u8, chunk: u8| {
        let body = [&[0, 0, 0, 11, 0, 7, kind, 0, 0, 0, chunk, 0, 8][..], b"{}"].concat();
        [b"HEP3\x00", &[u8::try_from(body.len() + 6).unwrap()][..], &body].concat()
    };
    for (packet, reason) in [
        (of_kind(5, 15), "rtcp"),
        (of_kind(100, 15), "log"),
        (of_kind(99, 15), "content"),
        (of_kind(1, 16), "zlib"),
        (of_kind(1, 15), "not_sip"),
        (b"HEP3\x01\x00".to_vec(), "truncated"),
        (b"HEP3\x00\x01".to_vec(), "length"),
    ] {
        agent.send(&[packet]).await;
        dropped(&daemon, reason, 1.0).await;
    }
    let Agent::Udp(socket, _) = &agent else { unreachable!() };
    assert!(socket.try_recv(&mut [0; 16]).is_err());
    let mut stream = TcpStream::connect(daemon.listening("hep", "tcp")).await.unwrap();
    stream.write_all(b"\r\n\r\nOPTIONS sip:a SIP/2.0\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    tokio::time::timeout(Duration::from_secs(3), stream.read_to_end(&mut answer)).await.expect("it is closed").ok();
    assert_eq!(answer, b"");
}

#[tokio::test]
async fn plain_sip_on_the_same_socket_is_a_copy_too() {
    let folder = Folder::new("hep");
    let daemon = listening(&folder, "").await;
    let mut agent = Agent::udp(&daemon).await;
    let sip: Vec<_> = packets("asterisk-register", 5070).iter().map(|packet| message(packet).to_vec()).collect();
    agent.send(&sip).await;
    let device = daemon.api().device("101", "connected").await;
    let bindings = daemon.api().get(&format!("/v1/devices/{}/bindings", text(&device["id"]))).await;
    assert!(!bindings.to_string().contains("Digest"), "{bindings:#}");
}

async fn dropped(daemon: &Daemon, reason: &str, count: f64) {
    let labels = format!("where=\"hep\",reason=\"{reason}\"");
    until(&labels, async || (daemon.metric("hookswitch_dropped_total", &labels).await >= count).then_some(())).await;
}

/// The PBX's address in replayed packets.
const PBX: [u8; 4] = [192, 0, 2, 1];
