//! The manager interface as an administrator's script uses it. It shares no code with hookswitch's own.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::task::JoinHandle;

use crate::support::wait::until;

/// A connection that is logged in.
#[derive(Debug)]
pub struct Ami {
    write: OwnedWriteHalf,
    seen: Arc<Mutex<Vec<Packet>>>,
    reader: JoinHandle<()>,
    actions: u32,
}

/// An event or a response.
#[derive(Clone, Debug)]
pub struct Packet {
    /// When it was read.
    pub at: Instant,
    fields: Vec<(String, String)>,
}

impl Ami {
    /// Connects and logs in; none when nothing listens there yet.
    pub async fn log_in(address: SocketAddr, user: &str, secret: &str) -> Option<Self> {
        let (read, write) = TcpStream::connect(address).await.ok()?.into_split();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let reader = tokio::spawn(keep(read, Arc::clone(&seen)));
        let mut ami = Self { write, seen, reader, actions: 0 };
        ami.act("Login", &[("Username", user), ("Secret", secret)]).await;
        Some(ami)
    }

    /// Sends an action and waits until it has succeeded.
    pub async fn act(&mut self, action: &str, fields: &[(&str, &str)]) {
        self.actions += 1;
        let id = format!("test-{}", self.actions);
        let mut text = format!("Action: {action}\r\nActionID: {id}\r\n");
        for (name, value) in fields {
            let _ = write!(text, "{name}: {value}\r\n");
        }
        text.push_str("\r\n");
        self.write.write_all(text.as_bytes()).await.expect("the manager interface is open");
        let answer =
            self.packet(action, |packet| packet.get("ActionID") == id && !packet.get("Response").is_empty()).await;
        assert_eq!(answer.get("Response"), "Success", "{action} {fields:?}: {answer:?}");
    }

    /// Asks for a list; its items, which are the events `item` before the event `end`.
    pub async fn list(&mut self, action: &str, fields: &[(&str, &str)], item: &str, end: &str) -> Vec<Packet> {
        self.act(action, fields).await;
        let id = format!("test-{}", self.actions);
        self.event(end, &[("ActionID", &id)]).await;
        let mut items = self.seen(item);
        items.retain(|packet| packet.get("ActionID") == id);
        items
    }

    /// The events of this name, since the login or the last [`Ami::forget`].
    pub fn seen(&self, event: &str) -> Vec<Packet> {
        let seen = self.seen.lock().expect("nobody panics with it");
        seen.iter().filter(|packet| packet.get("Event") == event).cloned().collect()
    }

    /// Waits for an event with these fields, among all since the login or the last [`Ami::forget`].
    pub async fn event(&self, name: &str, fields: &[(&str, &str)]) -> Packet {
        let matches = |packet: &Packet| fields.iter().all(|(name, value)| packet.get(name) == *value);
        self.packet(name, |packet| packet.get("Event") == name && matches(packet)).await
    }

    /// Forgets what has come so far.
    pub fn forget(&self) {
        self.seen.lock().expect("nobody panics with it").clear();
    }

    async fn packet(&self, what: &str, matches: impl Fn(&Packet) -> bool) -> Packet {
        let seen = || self.seen.lock().expect("nobody panics with it").iter().find(|packet| matches(packet)).cloned();
        until(&format!("Asterisk says {what}"), async || seen()).await
    }
}

impl Drop for Ami {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

impl Packet {
    /// A field's value; empty when it is not there.
    pub fn get(&self, name: &str) -> &str {
        self.fields.iter().find(|(field, _)| field == name).map_or("", |(_, value)| value)
    }
}

async fn keep(socket: OwnedReadHalf, seen: Arc<Mutex<Vec<Packet>>>) {
    let (mut lines, mut fields, mut line) = (BufReader::new(socket), Vec::new(), Vec::new());
    while lines.read_until(b'\n', &mut line).await.is_ok_and(|count| count > 0) {
        let text = String::from_utf8_lossy(&line).trim_end().to_owned();
        line.clear();
        if let Some((name, value)) = text.split_once(": ") {
            fields.push((name.to_owned(), value.to_owned()));
        } else if text.is_empty() {
            let packet = Packet { at: Instant::now(), fields: std::mem::take(&mut fields) };
            seen.lock().expect("nobody panics with it").push(packet);
        }
    }
}
