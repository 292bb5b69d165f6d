//! An office with the recorded PBX, a daemon that listens to it, and two people at their phones.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::net::UdpSocket;

use crate::recorded::{frames, hep, stamp};
use crate::server::{EventSocket, Manners};
use crate::support::api::{Api, items, text};
use crate::support::daemon::Daemon;
use crate::support::events::Events;
use crate::support::folder::Folder;
use crate::support::wait::until;

/// See the module.
pub struct Office {
    pub pbx: EventSocket,
    pub daemon: Daemon,
    pub admin: Api,
    people: Vec<Person>,
    hep: Option<SocketAddr>,
    _folder: Folder,
}

struct Person {
    name: &'static str,
    id: String,
    screen: Events,
}

/// In what order things reach the daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// As they did.
    Recorded,
    /// Each up to 20 ms earlier or later, by this seed.
    Shuffled(u64),
}

impl Office {
    /// Starts all; `with_hep` = the daemon hears HEP as well.
    pub async fn open(name: &str, with_hep: bool) -> Self {
        Self::open_as(name, with_hep, Manners::default(), "secret = \"ClueCon\"").await
    }

    /// The same with a PBX of other manners and `settings` of the feed for it.
    pub async fn open_as(name: &str, with_hep: bool, manners: Manners, settings: &str) -> Self {
        let folder = Folder::new(&format!("esl-{name}"));
        let pbx = EventSocket::start(manners).await;
        let mut more = format!("[feeds.freeswitch]\naddress = \"{}\"\n{settings}\n", pbx.address);
        if with_hep {
            more.push_str("[listeners.hep]\nbind = [\"udp:127.0.0.1:0\"]\n");
        }
        let daemon = Daemon::start_with(&folder, &more).await;
        let admin = daemon.api();
        let hep = with_hep.then(|| daemon.listening("hep", "udp"));
        let mut office = Self { pbx, daemon, admin, people: Vec::new(), hep, _folder: folder };
        office.is_up().await;
        let account = office.admin.get("/v1/accounts").await["items"][0].clone();
        let plan = json!({ "number_plan": { "outside_prefix": "9" } });
        office.admin.patch(&format!("/v1/accounts/{}", text(&account["id"])), plan).await;
        office.sit_down().await;
        office
    }

    /// Waits until the feed is up.
    pub async fn is_up(&self) {
        let up = async || self.daemon.metric("hookswitch_feed_up", "feed=\"freeswitch\"").await > 0.0;
        until("the feed is up", async || up().await.then_some(())).await;
    }

    /// Ann has 201, Bob 202; both hear of calls to sales.
    async fn sit_down(&mut self) {
        let sales = self.queue("sales@default").await;
        for (name, extension) in [("Ann", "201"), ("Bob", "202")] {
            let device = self.admin.device(extension, "connected").await;
            let (id, api) = self.admin.agent(name).await;
            self.admin.link(&id, &device).await;
            self.admin.patch(&format!("/v1/users/{id}"), json!({ "queues": [sales["id"]] })).await;
            let screen = api.events("/v1/me/popups/stream").await;
            screen.wait("the stream begins with a snapshot", |event| event.kind == "snapshot").await;
            self.people.push(Person { name, id, screen });
        }
    }

    /// A queue, once it is there.
    pub async fn queue(&self, name: &str) -> Value {
        until(name, async || {
            let queues = self.admin.get("/v1/queues").await;
            items(&queues).iter().find(|queue| queue["name"] == name).cloned()
        })
        .await
    }

    /// `201 free 1, 202 logged_out paused 1`: the members of a queue.
    pub async fn members(&self, queue: &str) -> String {
        let (names, queue) = (self.names().await, self.queue(queue).await);
        let members = queue["members"].as_array().cloned().unwrap_or_default();
        let mut lines: Vec<String> = members
            .iter()
            .map(|member| {
                let paused = if member["paused"] == true { " paused" } else { "" };
                format!("{} {}{paused}", names[&text(&member["device"])], text(&member["state"]))
            })
            .collect();
        lines.sort();
        lines.join(", ")
    }

    /// Plays a recording, on the event socket and, where the daemon listens for it, HEP: in its timing, but with pauses of
    /// half a second at most.
    pub async fn play(&self, format: &str, name: &str, order: Order) {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let mut late = 0;
        let events = frames(format, name).into_iter().filter_map(|(bytes, frame)| {
            // A socket is looked at every 20 ms, and keeps the order.
            late = late.max(stamp(&frame)? + 12_000);
            Some((late, bytes, true))
        });
        let packets = hep(name).into_iter().map(|(at, packet)| (at, packet, false));
        let mut acts: Vec<(i64, Vec<u8>, bool)> = events.chain(packets).collect();
        let mut random = match order {
            Order::Recorded => None,
            Order::Shuffled(seed) => Some(seed),
        };
        for act in &mut acts {
            if let Some(random) = &mut random {
                *random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                act.0 += i64::try_from((*random >> 33) % 40_000).unwrap() - 20_000;
            }
        }
        acts.sort_by_key(|(at, _, _)| *at);
        let mut before = acts[0].0;
        for (at, bytes, is_event) in acts {
            let pause = Duration::from_micros(u64::try_from(at - before).unwrap_or(0)).min(PAUSE_MAX);
            before = at;
            if pause > Duration::from_millis(1) {
                tokio::time::sleep(pause).await;
            }
            match (is_event, self.hep) {
                (true, _) => self.pbx.send(&bytes).await,
                (false, Some(to)) => drop(socket.send_to(&bytes, to).await.unwrap()),
                (false, None) => {}
            }
        }
    }

    /// The calls as lines of text, once they have all ended and are so many.
    pub async fn calls(&self, count: usize) -> Vec<String> {
        let names = self.names().await;
        let calls = until("the calls have ended", async || {
            let calls = items(&self.admin.get("/v1/calls").await).to_vec();
            let over = calls.len() >= count && calls.iter().all(|call| call["state"] == "ended");
            over.then_some(calls)
        })
        .await;
        let mut lines = Vec::new();
        for call in calls {
            let trail = until("the trail is stored", async || {
                let trail = self.admin.get(&format!("/v1/calls/{}/trail", text(&call["id"]))).await;
                let rows = items(&trail).to_vec();
                (!rows.is_empty()).then_some(rows)
            })
            .await;
            lines.extend(self.lines_of(&call, &trail, &names));
        }
        lines
    }

    async fn names(&self) -> BTreeMap<String, String> {
        let mut names = BTreeMap::new();
        for (path, name) in [("/v1/devices", "extension"), ("/v1/queues", "name")] {
            for item in items(&self.admin.get(path).await) {
                names.insert(text(&item["id"]), text(&item[name]));
            }
        }
        names
    }

    fn lines_of(&self, call: &Value, trail: &[Value], names: &BTreeMap<String, String>) -> Vec<String> {
        let name = |id: &Value| id.as_str().and_then(|id| names.get(id)).map_or("?", String::as_str);
        let number = |party: &Value| party["number"].as_str().unwrap_or("withheld").to_owned();
        let mut first =
            format!("{} {} > {}", text(&call["direction"]), number(&call["caller"]), number(&call["callee"]));
        if !call["queue"].is_null() {
            let _ = write!(first, " in {}", name(&call["queue"]));
        }
        let _ = write!(first, ": {}", text(&call["outcome"]));
        let legs = call["legs"].as_array().cloned().unwrap_or_default();
        let mut legs: Vec<String> = legs
            .iter()
            .map(|leg| {
                let device = if leg["device"].is_null() { String::new() } else { format!(" {}", name(&leg["device"])) };
                let status = leg["end"]["status"].as_u64().map(|status| format!(" {status}")).unwrap_or_default();
                format!("{}{device} {}{status}", text(&leg["role"]), text(&leg["end"]["how"]))
            })
            .collect();
        legs.sort();
        let mut lines = vec![first, format!("legs: {}", legs.join(", "))];
        for person in &self.people {
            let mine = |value: &&Value| value["user"] == person.id.as_str();
            let users = call["users"].as_array().cloned().unwrap_or_default();
            let did = users.iter().find(mine).map_or("nothing".to_owned(), |user| text(&user["action"]));
            let offers = person.screen.of("offer").into_iter().filter(|offer| offer["call"] == call["id"]);
            let saw: Vec<String> = offers
                .map(|offer| match offer["reason"].as_str() {
                    Some(reason) => format!("{}({reason})", text(&offer["state"])),
                    None => text(&offer["state"]),
                })
                .collect();
            let why: Vec<String> = trail.iter().filter(mine).map(|entry| text(&entry["reason"])).collect();
            if did != "nothing" || !saw.is_empty() || !why.is_empty() {
                lines.push(format!("{}: {did}; saw {}; {}", person.name, saw.join(" "), why.join(" ")));
            }
        }
        lines
    }
}

const PAUSE_MAX: Duration = Duration::from_millis(500);
