//! Queues that are changed from here: what is asked of us is asked of the PBX, and is so when the PBX has said it.

use std::collections::BTreeMap;

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::pbx::{Pbx, Version};
use crate::record::Feeds;
use crate::scene::a_moment;
use crate::support::api::{Api, items, text};
use crate::support::baresip::{Account, Phone};
use crate::support::folder::Folder;
use crate::watcher::Watcher;

/// An Asterisk with phone 101, and a daemon that knows it by its manager interface.
struct Office {
    _phone: Phone,
    watcher: Watcher,
    pbx: Pbx,
    /// Phone 101.
    device: Value,
    /// Ids by queue name.
    queues: BTreeMap<String, String>,
    _folder: Folder,
}

impl Office {
    /// With the user whom docs/asterisk.md lets change queues.
    async fn open(name: &str, version: Version) -> Self {
        let folder = Folder::new(name);
        let pbx = Pbx::start_controlled(&folder, version, nobody()).await;
        Self::open_at(name, folder, pbx, "hookswitch").await
    }

    async fn open_at(name: &str, folder: Folder, pbx: Pbx, user: &str) -> Self {
        let watcher = Watcher::start_as(user, name, Feeds::Ami, pbx.manager).await;
        watcher.is_up().await;
        let (domain, proxy) = (pbx.address.to_string(), pbx.address);
        let account = Account { extension: "101", domain: &domain, proxy, transport: "udp", expires_s: 60 };
        let phone = Phone::start(&folder, account).await;
        let device = watcher.admin.device("101", "connected").await;
        let queues = watcher.admin.get("/v1/queues").await;
        let queues = items(&queues).iter().map(|queue| (text(&queue["name"]), text(&queue["id"]))).collect();
        Self { _phone: phone, watcher, pbx, device, queues, _folder: folder }
    }

    fn admin(&self) -> &Api {
        &self.watcher.admin
    }

    /// The PBX as we show it.
    async fn shown(&self) -> Value {
        items(&self.admin().get("/v1/pbxs").await)[0].clone()
    }

    async fn may_be_changed(&self, control: bool) {
        let path = format!("/v1/pbxs/{}", text(&self.shown().await["id"]));
        self.admin().patch(&path, json!({ "control": control })).await;
    }

    fn member(&self, queue: &str, device: &Value) -> String {
        format!("/v1/queues/{}/members/{}", self.queues[queue], text(&device["id"]))
    }

    /// Asks for a change of 101 in sales: the status, and which problem it is.
    async fn change(&self, method: Method, body: Value) -> (StatusCode, String) {
        self.change_of(&self.device, method, body).await
    }

    async fn change_of(&self, device: &Value, method: Method, body: Value) -> (StatusCode, String) {
        let body = (method != Method::DELETE).then_some(body);
        let (status, answer) = self.admin().send(method, &self.member("sales", device), body).await;
        let problem = answer["type"].as_str().and_then(|kind| kind.rsplit('/').next());
        (status, problem.unwrap_or_default().to_owned())
    }

    /// Who is in a queue, as Asterisk itself says.
    async fn members(&mut self, queue: &str) -> String {
        let fields = [("Queue", queue)];
        let listed = self.pbx.ami.list("QueueStatus", &fields, "QueueMember", "QueueStatusComplete").await;
        let mut shown: Vec<String> = listed
            .iter()
            .map(|member| {
                let paused = match (member.get("Paused"), member.get("PausedReason")) {
                    ("1", reason) => format!(" paused ({reason})"),
                    _ => String::new(),
                };
                let (interface, kind) = (member.get("Location"), member.get("Membership"));
                format!("{interface} {kind} {}{paused}", member.get("Penalty"))
            })
            .collect();
        shown.sort();
        shown.join(", ")
    }

    /// How often Asterisk said that somebody joined, left or was paused, or not any more.
    fn moves(&self) -> usize {
        let events = ["QueueMemberAdded", "QueueMemberRemoved", "QueueMemberPause"];
        events.iter().map(|event| self.pbx.ami.seen(event).len()).sum()
    }
}

/// Members are added, preferred, paused and removed through the API, on the Asterisk.
pub async fn changes(version: Version) {
    let mut office = Office::open("control", version).await;
    assert_eq!(office.change(Method::PUT, json!({})).await, (StatusCode::CONFLICT, "control-off".into()));
    assert_eq!(office.members("sales").await, "PJSIP/103 static 0");
    let since = office.shown().await["feeds"][0]["since"].clone();
    office.may_be_changed(true).await;
    let done = (StatusCode::OK, String::new());
    let steps = [
        (Method::PUT, json!({ "penalty": 2 }), "PJSIP/101 dynamic 2, PJSIP/103 static 0"),
        (Method::PATCH, json!({ "penalty": 5 }), "PJSIP/101 dynamic 5, PJSIP/103 static 0"),
        (
            Method::PATCH,
            json!({ "paused": true, "pause_reason": "lunch" }),
            "PJSIP/101 dynamic 5 paused (lunch), PJSIP/103 static 0",
        ),
        (
            Method::PUT,
            json!({ "paused": true, "pause_reason": "meeting" }),
            "PJSIP/101 dynamic 5 paused (meeting), PJSIP/103 static 0",
        ),
        (Method::PATCH, json!({ "paused": false, "penalty": 0 }), "PJSIP/101 dynamic 0, PJSIP/103 static 0"),
    ];
    for (method, body, members) in steps {
        assert_eq!(office.change(method, body.clone()).await, done, "{body}");
        assert_eq!(office.members("sales").await, members, "{body}");
    }
    assert_eq!(office.watcher.members("sales").await, "sales: 101, 103");
    // Who stands in the configuration can be preferred and paused, and not taken out.
    let carol = office.admin().find_device("103").await.expect("a member is a device");
    let preferred = json!({ "penalty": 1, "paused": true, "pause_reason": "gone" });
    assert_eq!(office.change_of(&carol, Method::PATCH, preferred).await, done);
    let refused = office.change_of(&carol, Method::DELETE, Value::Null).await;
    assert_eq!(refused, (StatusCode::CONFLICT, "pbx-refused".into()));
    assert_eq!(office.members("sales").await, "PJSIP/101 dynamic 0, PJSIP/103 static 1 paused (gone)");
    let removed = office.change(Method::DELETE, Value::Null).await;
    assert_eq!(removed, (StatusCode::NO_CONTENT, String::new()));
    assert_eq!(office.members("sales").await, "PJSIP/103 static 1 paused (gone)");
    assert_eq!(office.watcher.members("sales").await, "sales: 103 paused (gone)");
    assert_eq!(office.shown().await["feeds"][0]["since"], since, "all over one connection");
    office.may_be_changed(false).await;
    assert_eq!(office.change(Method::PUT, json!({})).await, (StatusCode::CONFLICT, "control-off".into()));
}

/// An explicit logout and login move an agent whose setting says so; nothing else moves anybody.
pub async fn sessions(version: Version) {
    let mut office = Office::open("control-sessions", version).await;
    office.may_be_changed(true).await;
    let (id, ann) = office.admin().agent("Ann").await;
    office.admin().link(&id, &office.device).await;
    assert_eq!(office.change(Method::PUT, json!({ "penalty": 2 })).await.0, StatusCode::OK);
    let (sales, support) = ("PJSIP/101 dynamic 2, PJSIP/103 static 0", "PJSIP/101 static 0");
    assert_eq!((office.members("sales").await.as_str(), office.members("support").await.as_str()), (sales, support));
    office.pbx.ami.forget();
    let manual = ann.post("/v1/me/logout", json!({})).await;
    assert_eq!((&manual["queue_login"], &manual["queues"]), (&json!("manual"), &json!([])));
    office.admin().patch(&format!("/v1/users/{id}"), json!({ "queue_login": "session" })).await;
    // The window is closed, the daemon starts again, and loses its power.
    let window = ann.events("/v1/me/popups/stream").await;
    window.wait("the stream begins with a snapshot", |event| event.kind == "snapshot").await;
    drop(window);
    let window = ann.events("/v1/me/popups/stream").await;
    office.watcher.daemon.restart().await;
    drop(window);
    office.watcher.is_up().await;
    office.watcher.daemon.kill();
    office.watcher.daemon.start_again().await;
    office.watcher.is_up().await;
    a_moment().await;
    assert_eq!((office.members("sales").await.as_str(), office.members("support").await.as_str()), (sales, support));
    assert_eq!(office.moves(), 0, "nobody was even moved and put back");
    let actions = |answer: &Value| -> Vec<String> {
        assert_eq!(answer["done"], true, "{answer:#}");
        let steps = answer["queues"].as_array().expect("what was done").iter();
        let mut actions: Vec<_> =
            steps.map(|step| format!("{} {}", text(&step["name"]), text(&step["action"]))).collect();
        actions.sort();
        actions
    };
    assert_eq!(actions(&ann.post("/v1/me/logout", json!({})).await), ["sales left", "support paused"]);
    let out = ("PJSIP/103 static 0", "PJSIP/101 static 0 paused (logged out)");
    assert_eq!((office.members("sales").await.as_str(), office.members("support").await.as_str()), out);
    // What is to be given back outlives the daemon, and is not given back by its start.
    office.watcher.daemon.kill();
    office.watcher.daemon.start_again().await;
    office.watcher.is_up().await;
    assert_eq!((office.members("sales").await.as_str(), office.members("support").await.as_str()), out);
    assert_eq!(actions(&ann.post("/v1/me/login", json!({})).await), ["sales joined", "support resumed"]);
    assert_eq!((office.members("sales").await.as_str(), office.members("support").await.as_str()), (sales, support));
    assert_eq!(actions(&ann.post("/v1/me/login", json!({})).await), [""; 0], "in is in");
}

#[tokio::test]
async fn members_are_added_preferred_paused_and_removed_from_here() {
    changes(Version::TwentyTwo).await;
}

#[tokio::test]
async fn q13_an_agent_logs_out_of_the_queues_and_back_in() {
    sessions(Version::TwentyTwo).await;
}

#[tokio::test]
async fn a_user_who_may_only_watch_is_refused_by_asterisk() {
    let folder = Folder::new("control-watching");
    let pbx = Pbx::start(&folder, Version::TwentyTwo, nobody()).await;
    let mut office = Office::open_at("control-watching", folder, pbx, "hookswitch").await;
    office.may_be_changed(true).await;
    assert_eq!(office.change(Method::PUT, json!({})).await, (StatusCode::CONFLICT, "pbx-refused".into()));
    assert_eq!(office.members("sales").await, "PJSIP/103 static 0");
}

#[tokio::test]
async fn what_asterisk_has_done_and_not_told_is_not_confirmed() {
    let folder = Folder::new("control-deaf");
    let pbx = Pbx::start(&folder, Version::TwentyTwo, nobody()).await;
    let mut office = Office::open_at("control-deaf", folder, pbx, "deaf").await;
    office.may_be_changed(true).await;
    let unsure = office.change(Method::PUT, json!({})).await;
    assert_eq!(unsure, (StatusCode::GATEWAY_TIMEOUT, "not-confirmed".into()));
    assert_eq!(office.members("sales").await, "PJSIP/101 dynamic 0, PJSIP/103 static 0");
    assert_eq!(office.watcher.members("sales").await, "sales: 103", "its answer alone changes nothing here");
}

fn nobody() -> std::net::SocketAddr {
    "127.0.0.1:9".parse().expect("an address")
}
