//! Asterisk sends HEP to one address only. This hands each packet on to everybody who wants it, and looks inside.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use tokio::net::UdpSocket;
use tokio::task::JoinHandle;

use crate::support::ports::Ports;

/// A running tee.
#[derive(Debug)]
pub struct Tee {
    /// Where it takes packets.
    pub address: SocketAddr,
    seen: Arc<Mutex<Vec<Mirrored>>>,
    targets: Arc<Mutex<Vec<SocketAddr>>>,
    reader: JoinHandle<()>,
    _ports: Ports,
}

/// A SIP message as Asterisk mirrored it.
#[derive(Clone, Debug)]
pub struct Mirrored {
    /// When its packet was read.
    pub at: Instant,
    /// The message.
    pub text: String,
}

impl Tee {
    /// Opens one that hands packets on to nobody yet.
    pub async fn open() -> Self {
        let ports = Ports::take();
        let address = ports.address(0);
        let socket = UdpSocket::bind(address).await.expect("the port is ours");
        let (seen, targets) = (Arc::new(Mutex::new(Vec::new())), Arc::new(Mutex::new(Vec::new())));
        let reader = tokio::spawn(hand_on(socket, Arc::clone(&targets), Arc::clone(&seen)));
        Self { address, seen, targets, reader, _ports: ports }
    }

    /// Hands packets on to this address as well from now on.
    pub fn feed(&self, target: SocketAddr) {
        self.targets.lock().expect("nobody panics with it").push(target);
    }

    /// The SIP messages that have come so far.
    pub fn seen(&self) -> Vec<Mirrored> {
        self.seen.lock().expect("nobody panics with it").clone()
    }
}

impl Mirrored {
    /// A header's value.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.text.split("\r\n").find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }

    /// Whether it is an answer with this status to a request of this method.
    pub fn answers(&self, method: &str, status: u16) -> bool {
        let is_to = self.header("CSeq").is_some_and(|value| value.ends_with(method));
        is_to && self.text.starts_with(&format!("SIP/2.0 {status} "))
    }
}

impl Drop for Tee {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

async fn hand_on(socket: UdpSocket, targets: Arc<Mutex<Vec<SocketAddr>>>, seen: Arc<Mutex<Vec<Mirrored>>>) {
    let mut buffer = vec![0; 65_536];
    while let Ok(length) = socket.recv(&mut buffer).await {
        let packet = &buffer[..length];
        let at = Instant::now();
        let targets = targets.lock().expect("nobody panics with it").clone();
        for target in targets {
            // A daemon that is stopped takes none.
            let _ = socket.send_to(packet, target).await;
        }
        if let Some(payload) = payload(packet) {
            let text = String::from_utf8_lossy(payload).into_owned();
            seen.lock().expect("nobody panics with it").push(Mirrored { at, text });
        }
    }
}

/// The SIP in a HEP 3 packet.
fn payload(packet: &[u8]) -> Option<&[u8]> {
    let mut rest = packet.strip_prefix(b"HEP3")?.get(2..)?;
    let (mut is_sip, mut payload) = (false, None);
    while let [_, _, kind_high, kind_low, length_high, length_low, ..] = *rest {
        let length = usize::from(u16::from_be_bytes([length_high, length_low]));
        let body = rest.get(6..length)?;
        match u16::from_be_bytes([kind_high, kind_low]) {
            11 => is_sip = body == [1],
            15 => payload = Some(body),
            _ => {}
        }
        rest = &rest[length..];
    }
    payload.filter(|_| is_sip)
}
