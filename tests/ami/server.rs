//! A scripted Asterisk on a real socket, and an office that follows it.

use std::collections::HashMap;
use std::sync::Arc;

use hookswitch::clock::Clock;
use hookswitch::config::{Feed, Kind, Subscriptions, Tls};
use hookswitch::ingest::feeds;
use hookswitch::ingest::site::Sites;
use hookswitch::model::{AccountId, Call, CallState, PbxId};
use hookswitch::registry::{FeedState, FeedStatus, Limits, Registry};
use hookswitch::store::{CallFilter, Store};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::support::wait::until;

/// Listens where an Asterisk would.
pub struct Server {
    listener: TcpListener,
}

/// One connection to it.
pub struct Peer {
    pub stream: TcpStream,
    read: Vec<u8>,
    /// Everything the other side has sent.
    pub heard: Vec<u8>,
}

/// One action.
pub type Asked = HashMap<String, String>;

impl Server {
    pub async fn listen() -> Self {
        Self { listener: TcpListener::bind("127.0.0.1:0").await.expect("a free port") }
    }

    pub fn address(&self) -> String {
        self.listener.local_addr().expect("it is bound").to_string()
    }

    /// The next connection.
    pub async fn accept(&self) -> Peer {
        let (stream, _) = self.listener.accept().await.expect("somebody connects");
        stream.set_nodelay(true).expect("a socket");
        Peer { stream, read: Vec::new(), heard: Vec::new() }
    }

    /// The next connection, greeted and let in.
    pub async fn let_in(&self) -> Peer {
        let mut peer = self.accept().await;
        peer.send("Asterisk Call Manager/11.0.0\r\n").await;
        let challenge = peer.asked().await;
        peer.answer(&challenge, "Success", "Challenge: 123456789\r\n").await;
        let login = peer.asked().await;
        assert_eq!(login["Action"], "Login");
        peer.answer(&login, "Success", "Message: Authentication accepted\r\n").await;
        peer
    }
}

impl Peer {
    pub async fn send(&mut self, text: impl AsRef<[u8]>) {
        self.stream.write_all(text.as_ref()).await.expect("the other side is there");
    }

    /// The next action; panics when the connection ends instead.
    pub async fn asked(&mut self) -> Asked {
        self.next_asked().await.expect("an action and not the end")
    }

    /// The next action; none when the connection ended.
    pub async fn next_asked(&mut self) -> Option<Asked> {
        loop {
            if let Some(end) = self.read.windows(4).position(|four| four == b"\r\n\r\n") {
                let text: Vec<u8> = self.read.drain(..end + 4).collect();
                let text = String::from_utf8(text).expect("what we send is text");
                let fields = text.lines().filter_map(|line| line.split_once(": "));
                return Some(fields.map(|(key, value)| (key.to_owned(), value.to_owned())).collect());
            }
            let mut chunk = [0; 4096];
            let length = self.stream.read(&mut chunk).await.ok().filter(|length| *length > 0)?;
            self.read.extend_from_slice(&chunk[..length]);
            self.heard.extend_from_slice(&chunk[..length]);
        }
    }

    pub async fn answer(&mut self, asked: &Asked, response: &str, more: &str) {
        let id = &asked["ActionID"];
        self.send(format!("Response: {response}\r\nActionID: {id}\r\n{more}\r\n")).await;
    }

    /// Answers one action as an Asterisk does on which nothing goes on; `channels` is its list of channels.
    pub async fn obey(&mut self, asked: &Asked, channels: &str) {
        let id = &asked["ActionID"];
        match asked["Action"].as_str() {
            "Ping" => self.answer(asked, "Success", "Ping: Pong\r\n").await,
            "PJSIPShowContacts" => self.answer(asked, "Error", "Message: No Contacts found\r\n").await,
            "SIPpeers" => self.answer(asked, "Error", "Message: Invalid/unknown command: SIPpeers.\r\n").await,
            "CoreShowChannels" => {
                self.answer(asked, "Success", "EventList: start\r\n").await;
                self.send(format!("{channels}Event: CoreShowChannelsComplete\r\nActionID: {id}\r\n\r\n")).await;
            }
            "QueueStatus" => {
                self.answer(asked, "Success", "EventList: start\r\n").await;
                self.send(format!("Event: QueueStatusComplete\r\nActionID: {id}\r\n\r\n")).await;
            }
            _ => self.answer(asked, "Success", "").await,
        }
    }

    /// Answers a whole snapshot.
    pub async fn snapshot(&mut self, channels: &str) {
        loop {
            let asked = self.asked().await;
            let last = asked["ActionID"] == "hookswitch-snapshot-end";
            self.obey(&asked, channels).await;
            if last {
                return;
            }
        }
    }

    /// Goes on answering until the other side goes away.
    pub async fn obey_on(mut self) {
        while let Some(asked) = self.next_asked().await {
            self.obey(&asked, "").await;
        }
    }
}

/// An office with its registry and site, and no PBX but those that are followed.
pub struct Office {
    pub registry: Arc<Registry>,
    pub account: AccountId,
    pub pbx: PbxId,
    pub clock: Clock,
    pub sites: Sites,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Office {
    pub async fn open() -> Self {
        let clock = Clock::system();
        let store = Store::open("sqlite::memory:").await.expect("a database in memory");
        let registry = Registry::open(store, clock.clone(), Limits::default()).await.expect("an empty registry");
        let account = registry.ensure_defaults().expect("defaults").account;
        let pbx = registry.pbx_named(None).expect("a PBX");
        let phone = registry.resolve(pbx, "101", "").expect("its domain is ours");
        registry.ensure_device(&phone, clock.now()).expect("there is room for a phone");
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let sites = Sites::new(registry.clone(), &tasks, &stop, &Handle::current());
        Self { registry, account, pbx, clock, sites, tasks, stop }
    }

    /// Follows an Asterisk at this address from now on.
    pub fn follow(&self, name: &str, address: &str, tls: Tls) {
        let config = Feed {
            name: name.to_owned(),
            kind: Kind::Asterisk,
            pbx: None,
            address: address.to_owned(),
            user: Some("hookswitch".to_owned()),
            secret: SECRET.into(),
            tls,
            snapshot_s: 300,
            subscriptions: Subscriptions::default(),
            poll_s: 20,
            answer_s: 15,
        };
        feeds::start(&[config], &self.registry, &self.sites, &self.clock, &self.tasks, &self.stop);
    }

    /// Says whether the PBX may be changed.
    pub fn may_be_changed(&self, control: bool) {
        let changed = self.registry.update_pbx(self.pbx, None, |pbx| {
            pbx.control = control;
            Ok(())
        });
        changed.expect("a PBX can be edited");
    }

    pub fn feed(&self, name: &str) -> Option<FeedStatus> {
        let feeds = self.registry.feeds.of(self.pbx, self.clock.now());
        feeds.into_iter().find(|feed| *feed.name == *name)
    }

    /// Waits until a feed is up.
    pub async fn up(&self, name: &str) -> FeedStatus {
        until("the feed is up", async || self.feed(name).filter(|feed| feed.state == FeedState::Up)).await
    }

    /// Waits until a feed has given up for now; what it says of that.
    pub async fn failed(&self, name: &str) -> (String, i64) {
        let feed = until("the feed broke", async || self.feed(name).filter(|feed| feed.last_error.is_some())).await;
        let wait = feed.retry_at.map_or(0, |at| at - self.clock.now().unix);
        (feed.last_error.unwrap_or_default(), wait)
    }

    /// All calls it knows, those that ended as well.
    pub async fn calls(&self) -> Vec<Call> {
        let page = self.registry.calls_page(self.account, &CallFilter::default(), None, 50).await;
        page.expect("the history can be read").items
    }

    /// Waits for a call in this state.
    pub async fn call(&self, state: CallState) -> Call {
        until("such a call", async || self.calls().await.into_iter().find(|call| call.state == state)).await
    }
}

impl Drop for Office {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

pub const SECRET: &str = "a secret nobody may see";
