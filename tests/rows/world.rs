//! An office on the real binary: phones that register, a PBX that mirrors its calls, people, and who looks on.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::net::UdpSocket;
use tokio::time::timeout;

use crate::support::api::{Api, items, text};
use crate::support::daemon::Daemon;
use crate::support::events::Events;
use crate::support::folder::Folder;
use crate::support::postgres::Server;
use crate::support::wait::until;
use crate::wire::Invite;

/// Where the data is kept.
#[derive(Clone, Copy, Debug)]
pub enum Engine {
    Sqlite,
    Postgres,
}

/// One office, alone on its daemon and database. All of it ends with this value.
pub struct World {
    /// The API, as the first admin.
    pub api: Api,
    pub daemon: Daemon,
    /// The default PBX.
    pub pbx: String,
    socket: UdpSocket,
    registers: AtomicU32,
    _folder: Folder,
    _database: Database,
}

/// A person with a screen.
pub struct Agent {
    pub id: String,
    /// The API as they see it.
    pub api: Api,
}

/// A call from outside through a proxy, which sends it on to one or more phones.
pub struct Inbound {
    pub outer: Invite,
    pub legs: Vec<Invite>,
}

/// Runs each row on both engines.
macro_rules! on_both_engines {
    ($($(#[$doc:meta])* $name:ident,)*) => {$(
        mod $name {
            use crate::world::Engine;

            $(#[$doc])*
            #[tokio::test]
            async fn sqlite() {
                super::$name(Engine::Sqlite).await;
            }

            $(#[$doc])*
            #[tokio::test]
            async fn postgres() {
                super::$name(Engine::Postgres).await;
            }
        }
    )*};
}
pub(crate) use on_both_engines;

impl World {
    /// An office that has never been opened before; `row` names its folder.
    pub async fn open(row: &str, engine: Engine) -> Self {
        let database = Database::new(engine);
        let folder = Folder::new(row);
        let daemon = Daemon::start_with(&folder, &database.configuration()).await;
        let api = daemon.api();
        let pbx = text(&items(&api.get("/v1/pbxs").await)[0]["id"]);
        let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a free port");
        Self { api, daemon, pbx, socket, registers: AtomicU32::new(1), _folder: folder, _database: database }
    }

    /// Registers the phone with this extension for an hour and answers the device.
    pub async fn phone(&self, extension: &str) -> Value {
        self.register(extension, 3_600, "").await;
        self.device(extension).await
    }

    /// Registers it at the registrar (0 seconds: takes its binding away), which must accept.
    pub async fn register(&self, extension: &str, expires_s: u32, headers: &str) {
        let cseq = self.registers.fetch_add(1, Ordering::Relaxed);
        let local = self.socket.local_addr().expect("bound");
        let request = register(local, extension, cseq, &format!("Expires: {expires_s}\r\n{headers}"));
        let answer = ask(&self.socket, self.daemon.registrar, &request).await;
        assert!(answer.starts_with("SIP/2.0 200 "), "{request}\n{answer}");
    }

    /// The device with this extension.
    pub async fn device(&self, extension: &str) -> Value {
        let devices = self.api.get(&format!("/v1/devices?q={extension}")).await;
        let found = items(&devices).iter().find(|device| device["extension"] == extension);
        found.unwrap_or_else(|| panic!("no device {extension}: {devices:#}")).clone()
    }

    /// A new enabled user with a screen and these phones.
    pub async fn agent(&self, name: &str, devices: &[&Value]) -> Agent {
        let (id, api) = self.api.agent(name).await;
        for device in devices {
            self.api.link(&id, device).await;
        }
        Agent { id, api }
    }

    /// A queue on the default PBX with these phones in it.
    pub async fn queue(&self, name: &str, number: &str, members: &[&Value]) -> Value {
        let queue = json!({ "pbx": self.pbx, "name": name, "number": number });
        let mut queue = self.api.post("/v1/queues", queue).await;
        for device in members {
            let path = format!("/v1/queues/{}/members/{}", text(&queue["id"]), text(&device["id"]));
            let (status, answer) = self.api.send(reqwest::Method::PUT, &path, Some(json!({}))).await;
            assert!(status.is_success(), "{answer:#}");
            queue = answer;
        }
        queue
    }

    /// Edits by merge patch.
    pub async fn edit(&self, kind: &str, id: &Value, change: Value) -> Value {
        self.api.patch(&format!("/v1/{kind}/{}", text(id)), change).await
    }

    /// The PBX mirrors these messages.
    pub async fn see(&self, messages: &[String]) {
        for message in messages {
            self.socket.send_to(message.as_bytes(), self.daemon.mirror).await.expect("loopback takes it");
        }
    }

    /// The outside number calls and its call rings these phones, in this order.
    pub async fn ring(&self, call_id: &str, number: &str, dialled: &str, extensions: &[&str]) -> Inbound {
        self.ring_with(call_id, number, dialled, extensions, &[]).await
    }

    /// The same, with more headers on each phone's INVITE.
    pub async fn ring_with(
        &self,
        call_id: &str,
        number: &str,
        dialled: &str,
        extensions: &[&str],
        headers: &[&str],
    ) -> Inbound {
        let outer = Invite::from_trunk(call_id, number, dialled);
        let leg = |extension: &&str| headers.iter().fold(outer.proxied_to(extension), |leg, header| leg.with(header));
        let legs: Vec<Invite> = extensions.iter().map(leg).collect();
        let mut messages = vec![outer.text(), outer.response(100, "")];
        messages.extend(legs.iter().map(Invite::text));
        messages.extend(legs.iter().enumerate().map(|(at, leg)| leg.response(180, &tag(at))));
        self.see(&messages).await;
        self.call(call_id, "ringing").await;
        Inbound { outer, legs }
    }

    /// A phone calls and hangs up once `target` (a phone's extension, or an outside URI) has answered.
    pub async fn phone_calls(&self, call_id: &str, extension: &str, dialled: &str, target: Option<&str>) -> Value {
        let outer = Invite::from_phone(call_id, extension, dialled);
        let inner = match target {
            Some(uri) if uri.starts_with("sip:") => Some(outer.proxied(uri, "out")),
            Some(extension) => Some(outer.proxied_to(extension)),
            None => None,
        };
        let hops: Vec<&Invite> = inner.iter().chain([&outer]).collect();
        let mut messages = vec![outer.text()];
        messages.extend(inner.iter().map(Invite::text));
        for status in [180, 200] {
            messages.extend(hops.iter().map(|hop| hop.response(status, "far")));
        }
        messages.extend(hops.iter().map(|hop| hop.ack("far")));
        messages.extend(hops.iter().map(|hop| hop.bye("far")));
        self.see(&messages).await;
        self.call(call_id, "ended").await
    }

    /// The call with this Call-ID, once it is in `state` and written down.
    pub async fn call(&self, call_id: &str, state: &str) -> Value {
        until(&format!("call {call_id} is {state}"), async || {
            let calls = self.api.get("/v1/calls?limit=500").await;
            let is_it = |call: &&Value| call["legs"].as_array().into_iter().flatten().any(|l| l["call_key"] == call_id);
            let call = items(&calls).iter().find(is_it)?.clone();
            (call["state"] == state).then_some(call)
        })
        .await
    }

    /// The whole trail of a call.
    pub async fn trail(&self, call: &Value) -> Vec<Value> {
        items(&self.api.get(&format!("/v1/calls/{}/trail", text(&call["id"]))).await).to_vec()
    }

    /// What the trail of a call says about one user, in order.
    pub async fn reasons(&self, call: &Value, agent: &Agent) -> Vec<String> {
        let path = format!("/v1/calls/{}/trail?user={}", text(&call["id"]), agent.id);
        items(&self.api.get(&path).await).iter().map(|entry| text(&entry["reason"])).collect()
    }

    /// Stops the daemon as systemd would and starts it again.
    pub async fn restart(&mut self) {
        self.daemon.restart().await;
    }

    /// `kill -9`, and starts it again.
    pub async fn crash(&mut self) {
        self.daemon.kill();
        self.daemon.start_again().await;
    }
}

impl Agent {
    /// Their popups now, oldest first.
    pub async fn screen(&self) -> Vec<Value> {
        items(&self.api.get("/v1/me/popups").await).to_vec()
    }

    /// Opens a tab; it is connected when this returns.
    pub async fn tab(&self) -> Events {
        let tab = self.api.events("/v1/me/popups/stream").await;
        tab.wait("the snapshot", |event| event.kind == "snapshot").await;
        tab
    }
}

impl Inbound {
    /// The phone at `winner` answers; the others are told who won.
    pub fn answered(&self, winner: usize) -> Vec<String> {
        let tag = tag(winner);
        let mut messages = vec![self.legs[winner].response(200, &tag), self.outer.response(200, &tag)];
        for (at, leg) in self.legs.iter().enumerate().filter(|(at, _)| *at != winner) {
            messages.push(leg.cancel("SIP;cause=200;text=\"Call completed elsewhere\""));
            messages.push(leg.response(487, &self::tag(at)));
        }
        messages.extend([self.outer.ack(&tag), self.legs[winner].ack(&tag)]);
        messages
    }

    /// The caller hangs up on who answered.
    pub fn hung_up(&self, winner: usize) -> Vec<String> {
        let tag = tag(winner);
        vec![self.outer.bye(&tag), self.legs[winner].bye(&tag)]
    }

    /// The caller gives up before anybody answers.
    pub fn given_up(&self) -> Vec<String> {
        let mut messages = vec![self.outer.cancel("")];
        for (at, leg) in self.legs.iter().enumerate() {
            messages.extend([leg.cancel(""), leg.response(487, &tag(at))]);
        }
        messages.push(self.outer.response(487, "proxy"));
        messages
    }
}

/// A REGISTER of the phone with this extension, as it comes from `local`.
pub fn register(local: SocketAddr, extension: &str, cseq: u32, headers: &str) -> String {
    format!(
        "REGISTER sip:pbx.example SIP/2.0\r\nVia: SIP/2.0/UDP {local};rport;branch=z9hG4bK-r-{extension}-{cseq}\r\n\
         Max-Forwards: 70\r\nFrom: <sip:{extension}@pbx.example>;tag=r{extension}\r\nTo: <sip:{extension}@pbx.example>\r\n\
         Call-ID: r-{extension}@{host}\r\nCSeq: {cseq} REGISTER\r\nContact: <sip:{extension}-x@{host}:5060>\r\n{headers}\
         Content-Length: 0\r\n\r\n",
        host = phone_host(extension)
    )
}

/// Sends a request and waits for its answer.
pub async fn ask(socket: &UdpSocket, to: SocketAddr, request: &str) -> String {
    socket.send_to(request.as_bytes(), to).await.expect("loopback takes it");
    let mut buffer = vec![0; 65_536];
    let heard = timeout(Duration::from_secs(10), socket.recv_from(&mut buffer)).await;
    let (length, _) = heard.unwrap_or_else(|_| panic!("no answer to\n{request}")).expect("loopback gives it");
    String::from_utf8_lossy(&buffer[..length]).into_owned()
}

/// Where the phone with this extension lives.
pub fn phone_host(extension: &str) -> String {
    format!("192.0.2.{}", extension.parse::<u32>().expect("a number") % 250)
}

/// One field of each item.
pub fn each(items: &[Value], field: &str) -> Vec<String> {
    items.iter().map(|item| text(&item[field])).collect()
}

fn tag(at: usize) -> String {
    format!("phone{at}")
}

/// A database of one's own. The Postgres server is shared, and stays while any test of this process runs.
struct Database(Option<String>);

struct Shared {
    users: usize,
    server: Option<Arc<Server>>,
}

impl Database {
    fn new(engine: Engine) -> Self {
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        let url = match engine {
            Engine::Sqlite => None,
            Engine::Postgres => Some(shared.server.get_or_insert_with(Server::shared).database()),
        };
        shared.users += 1;
        Self(url)
    }

    fn configuration(&self) -> String {
        self.0.as_ref().map_or_else(String::new, |url| format!("[database]\nurl = \"{url}\"\n"))
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        shared.users -= 1;
        if shared.users == 0 {
            shared.server = None;
        }
    }
}

static SHARED: Mutex<Shared> = Mutex::new(Shared { users: 0, server: None });
