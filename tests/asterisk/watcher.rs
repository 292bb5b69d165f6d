//! hookswitch beside the office: a daemon with its feeds, people at the phones, and what it makes of their calls.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::SocketAddr;

use serde_json::{Value, json};

use crate::record::{Feeds, lines_of};
use crate::support::api::{Api, items, text};
use crate::support::daemon::Daemon;
use crate::support::events::Events;
use crate::support::folder::Folder;
use crate::support::ports::Ports;
use crate::support::wait::until;

/// A daemon and the people on it.
#[derive(Debug)]
pub struct Watcher {
    /// What feeds it has.
    pub feeds: Feeds,
    /// The daemon.
    pub daemon: Daemon,
    /// As the admin.
    pub admin: Api,
    /// Where it takes HEP; for a daemon without that feed nothing comes there.
    pub hep: SocketAddr,
    /// In the order of [`STAFF`].
    pub people: Vec<Person>,
    _folder: Folder,
    _ports: Ports,
}

/// A user linked to a phone, with a screen.
#[derive(Debug)]
pub struct Person {
    /// Their name.
    pub name: &'static str,
    /// Their user id.
    pub id: String,
    /// What their screen shows.
    pub screen: Events,
}

impl Watcher {
    /// Starts a daemon with these feeds; it talks to the manager interface at `manager`.
    pub async fn start(name: &str, feeds: Feeds, manager: SocketAddr) -> Self {
        Self::start_as("hookswitch", name, feeds, manager).await
    }

    /// The same as another user of the manager interface.
    pub async fn start_as(user: &str, name: &str, feeds: Feeds, manager: SocketAddr) -> Self {
        let (folder, ports) = (Folder::new(&format!("{name}-{feeds:?}")), Ports::take());
        let hep = ports.address(0);
        let mut more = String::new();
        if feeds.has_hep() {
            let _ = write!(more, "[listeners.hep]\nbind = [\"udp:{hep}\"]\nkey = \"hepsecret\"\n");
        }
        if feeds.has_ami() {
            let _ = write!(
                more,
                "[feeds.office]\nkind = \"asterisk\"\naddress = \"{manager}\"\n\
                 user = \"{user}\"\nsecret = \"amisecret\"\n"
            );
        }
        let daemon = Daemon::start_with(&folder, &more).await;
        let admin = daemon.api();
        Self { feeds, daemon, admin, hep, people: Vec::new(), _folder: folder, _ports: ports }
    }

    /// Waits until its connection to the manager interface, if it is to have one, is up.
    pub async fn is_up(&self) {
        let up = async || self.daemon.metric("hookswitch_feed_up", "feed=\"office\"").await > 0.0;
        if self.feeds.has_ami() {
            until("the feed is up", async || up().await.then_some(())).await;
        }
    }

    /// The owners of these phones, which are registered, sit down; the queues of [`STAFF`] are set.
    pub async fn sit_down(&mut self, extensions: &[&str]) {
        let queues = self.queues().await;
        for (name, extension, theirs) in STAFF.iter().filter(|(_, extension, _)| extensions.contains(extension)) {
            let device = self.admin.device(extension, "connected").await;
            let (id, api) = self.admin.agent(name).await;
            self.admin.link(&id, &device).await;
            let ids: Vec<&String> = theirs.iter().map(|queue| &queues[*queue]).collect();
            self.admin.patch(&format!("/v1/users/{id}"), json!({ "queues": ids })).await;
            let screen = api.events("/v1/me/popups/stream").await;
            screen.wait("the stream begins with a snapshot", |event| event.kind == "snapshot").await;
            self.people.push(Person { name, id, screen });
        }
    }

    /// All calls, each as lines of text, in the order of these.
    pub async fn calls(&self) -> Vec<String> {
        let names = self.names().await;
        let mut calls = Vec::new();
        for call in items(&self.admin.get("/v1/calls").await) {
            let trail = self.admin.get(&format!("/v1/calls/{}/trail", text(&call["id"]))).await;
            calls.push(lines_of(call, items(&trail), &self.people, &names));
        }
        calls.sort();
        calls.concat()
    }

    /// `101 connected, 102 disconnected`: the phones of the office.
    pub async fn phones(&self) -> String {
        let devices = self.admin.get("/v1/devices").await;
        let mut shown: Vec<String> = items(&devices)
            .iter()
            .map(|device| format!("{} {}", text(&device["extension"]), text(&device["state"])))
            .collect();
        shown.sort();
        shown.join(", ")
    }

    /// `sales: 101, 103 paused (lunch)`: who is in a queue.
    pub async fn members(&self, queue: &str) -> String {
        let names = self.names().await;
        let queues = self.admin.get("/v1/queues").await;
        let found = items(&queues).iter().find(|found| found["name"] == queue);
        let members = found.and_then(|found| found["members"].as_array().cloned()).unwrap_or_default();
        let mut shown: Vec<String> = members
            .iter()
            .map(|member| {
                let paused = match (member["paused"] == true, member["pause_reason"].as_str()) {
                    (false, _) => String::new(),
                    (true, None) => " paused".to_owned(),
                    (true, Some(reason)) => format!(" paused ({reason})"),
                };
                format!("{}{paused}", names.get(&text(&member["device"])).map_or("?", String::as_str))
            })
            .collect();
        shown.sort();
        if shown.is_empty() { format!("{queue}: nobody") } else { format!("{queue}: {}", shown.join(", ")) }
    }

    /// What a device's history says, oldest first.
    pub async fn history(&self, extension: &str) -> String {
        let Some(device) = self.admin.find_device(extension).await else { return String::new() };
        let page = self.admin.get(&format!("/v1/devices/{}/history", text(&device["id"]))).await;
        let mut entries: Vec<(i64, String)> =
            items(&page).iter().map(|entry| (entry["at"].as_i64().unwrap_or_default(), text(&entry["kind"]))).collect();
        entries.sort_by_key(|(at, _)| *at);
        entries.into_iter().map(|(_, kind)| kind).collect::<Vec<_>>().join(" ")
    }

    /// How many offers are open.
    pub async fn open_offers(&self) -> usize {
        let calls = self.admin.get("/v1/calls").await;
        let offers = items(&calls).iter().flat_map(|call| call["offers"].as_array().cloned().unwrap_or_default());
        offers.filter(|offer| offer["state"] == "offered" || offer["state"] == "answered").count()
    }

    /// Ids by queue name. With AMI the PBX tells them; with HEP alone an admin has said which numbers lead to them.
    async fn queues(&self) -> BTreeMap<String, String> {
        if !self.feeds.has_ami() {
            let pbx = text(&items(&self.admin.get("/v1/pbxs").await)[0]["id"]);
            let mut rules = Vec::new();
            for (name, numbers) in [("sales", &["600", "601", "+14155550600"][..]), ("support", &["603"])] {
                let new = json!({ "pbx": pbx, "name": name });
                let queue = self.admin.post("/v1/queues", new).await["id"].clone();
                rules.extend(
                    numbers.iter().map(|number| json!({ "match": "dialled", "number": number, "queue": queue })),
                );
            }
            self.admin.patch(&format!("/v1/pbxs/{pbx}"), json!({ "queue_rules": rules })).await;
        }
        until("the queues are known", async || {
            let queues = self.admin.get("/v1/queues").await;
            let named: BTreeMap<_, _> =
                items(&queues).iter().map(|queue| (text(&queue["name"]), text(&queue["id"]))).collect();
            (named.contains_key("sales") && named.contains_key("support")).then_some(named)
        })
        .await
    }

    /// What ids stand for: devices' extensions, users' and queues' names.
    async fn names(&self) -> BTreeMap<String, String> {
        let (devices, queues) = (self.admin.get("/v1/devices").await, self.admin.get("/v1/queues").await);
        let devices = items(&devices).iter().map(|device| (text(&device["id"]), text(&device["extension"])));
        let queues = items(&queues).iter().map(|queue| (text(&queue["id"]), text(&queue["name"])));
        let people = self.people.iter().map(|person| (person.id.clone(), person.name.to_owned()));
        devices.chain(queues).chain(people).collect()
    }
}

impl Person {
    /// What their screen showed about a call, in order, as `state` or `state(reason)`. A second offer is set apart.
    pub fn saw(&self, call: &Value) -> String {
        let mut shown: Vec<String> = Vec::new();
        let mut last = None;
        for offer in self.screen.of("offer").iter().filter(|offer| offer["call"] == call["id"]) {
            if last.as_ref().is_some_and(|last| last != &offer["id"]) {
                shown.push("| ANOTHER OFFER".to_owned());
            }
            last = Some(offer["id"].clone());
            shown.push(match offer["reason"].as_str() {
                Some(reason) => format!("{}({reason})", text(&offer["state"])),
                None => text(&offer["state"]),
            });
        }
        shown.join(" ")
    }
}

/// Name, extension, the queues whose calls may pop.
pub const STAFF: [(&str, &str, &[&str]); 3] =
    [("Ann", "101", &["sales", "support"]), ("Bob", "102", &["sales"]), ("Carol", "103", &[])];
