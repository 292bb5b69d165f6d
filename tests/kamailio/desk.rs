//! People at their desks: users linked to the office's phones, each with their screen's event stream open.

use serde_json::{Value, json};

use crate::office::Office;
use crate::support::api::{Api, items, text};
use crate::support::daemon::Daemon;
use crate::support::events::Events;
use crate::support::folder::Folder;
use crate::support::wait::until;

/// hookswitch beside the office, with Ann on phone 101 and Bob on phone 102.
#[derive(Debug)]
pub struct Scene {
    /// The office.
    pub office: Office,
    /// The daemon.
    pub daemon: Daemon,
    /// As the admin.
    pub admin: Api,
    /// Linked to 101 (UDP).
    pub ann: Person,
    /// Linked to 102 (TCP).
    pub bob: Person,
}

/// A user with a screen.
#[derive(Debug)]
pub struct Person {
    /// Their user id.
    pub id: String,
    /// Their device's id.
    pub device: String,
    screen: Events,
    api: Api,
}

impl Scene {
    /// Sets everything up. Kamailio relays registrations over `transport`.
    pub async fn open(folder: &Folder, transport: &str) -> Self {
        Self::open_beside(folder, Daemon::start(folder).await, transport, &[]).await
    }

    /// The same with switches of Kamailio's configuration set.
    pub async fn open_with(folder: &Folder, switches: &[&str]) -> Self {
        Self::open_beside(folder, Daemon::start(folder).await, "udp", switches).await
    }

    /// The same on a Postgres database.
    pub async fn open_on_postgres(folder: &Folder, url: &str) -> Self {
        let daemon = Daemon::start_with(folder, &format!("[database]\nurl = \"{url}\"\n")).await;
        Self::open_beside(folder, daemon, "udp", &[]).await
    }

    async fn open_beside(folder: &Folder, daemon: Daemon, transport: &str, switches: &[&str]) -> Self {
        let replica = format!("sip:{};transport={transport}", daemon.replica);
        let office = Office::open_with(folder, &replica, &format!("sip:{}", daemon.mirror), switches).await;
        let admin = daemon.api();
        let ann = Person::sits_down(&admin, "Ann", "101").await;
        let bob = Person::sits_down(&admin, "Bob", "102").await;
        Self { office, daemon, admin, ann, bob }
    }

    /// Restarts hookswitch under the running office, and reopens the screens.
    pub async fn restart(&mut self) {
        self.daemon.restart().await;
        self.ann.looks_again().await;
        self.bob.looks_again().await;
    }

    /// The newest call, once it has ended.
    pub async fn ended_call(&self) -> Value {
        until("the call has ended", async || {
            let calls = self.admin.get("/v1/calls").await;
            let call = items(&calls).first()?.clone();
            (call["state"] == "ended").then_some(call)
        })
        .await
    }

    /// The reasons in a call's trail about a user, in order.
    pub async fn trail(&self, call: &Value, person: &Person) -> Vec<String> {
        let trail = self.admin.get(&format!("/v1/calls/{}/trail", text(&call["id"]))).await;
        let about = items(&trail).iter().filter(|entry| entry["user"] == person.id.as_str());
        about.map(|entry| text(&entry["reason"])).collect()
    }

    /// Whether a person's device may be chosen in pickers.
    pub async fn is_assignable(&self, person: &Person) -> bool {
        let device = self.admin.get(&format!("/v1/devices/{}", person.device)).await;
        device["assignable"].as_bool().expect("a device says whether it is assignable")
    }
}

impl Person {
    /// A new user linked to the phone with this extension, once that is connected.
    pub async fn sits_down(admin: &Api, name: &str, extension: &str) -> Self {
        let device = admin.device(extension, "connected").await;
        let (id, api) = admin.agent(name).await;
        admin.link(&id, &device).await;
        Self::watches(&id, &device, api).await
    }

    /// A user who is linked to a device opens their screen.
    pub async fn watches(id: &str, device: &Value, api: Api) -> Self {
        let screen = api.events("/v1/me/popups/stream").await;
        screen.wait("the stream begins with a snapshot", |event| event.kind == "snapshot").await;
        Self { id: id.to_owned(), device: text(&device["id"]), screen, api }
    }

    /// Every offer the screen has shown, in order.
    pub fn offers(&self) -> Vec<Value> {
        self.screen.of("offer")
    }

    /// Opens the screen's stream again, as a browser does when it was cut.
    pub async fn looks_again(&mut self) {
        self.screen = self.api.events("/v1/me/popups/stream").await;
        self.screen.wait("the stream begins with a snapshot", |event| event.kind == "snapshot").await;
    }

    /// Waits until an offer on the screen is in `state`; the offer.
    pub async fn sees(&self, state: &str) -> Value {
        let what = format!("an offer is {state}");
        self.screen.wait(&what, |event| event.kind == "offer" && event.data["state"] == state).await.data
    }

    /// Every offer the screen has shown, as `state` or `state(reason)`, in order. Panics when there were several: one
    /// call is one offer.
    pub fn has_seen(&self) -> Vec<String> {
        let offers = self.offers();
        let first = offers.first().map(|offer| offer["id"].clone());
        assert!(offers.iter().all(|offer| Some(&offer["id"]) == first.as_ref()), "several offers: {offers:#?}");
        let shown = offers.iter().map(|offer| match offer["reason"].as_str() {
            Some(reason) => format!("{}({reason})", text(&offer["state"])),
            None => text(&offer["state"]),
        });
        shown.collect()
    }

    /// The offers in the last snapshot.
    pub fn snapshot(&self) -> Vec<Value> {
        let snapshots = self.screen.of("snapshot");
        let offers = snapshots.last().and_then(|snapshot| snapshot["offers"].as_array().cloned());
        offers.expect("the stream has begun with a snapshot")
    }
}

/// A queue named `sales` with number 600, recognised by the header the office's Kamailio adds; Ann's queues hold it,
/// Bob's do not.
pub async fn open_queue(scene: &Scene) -> String {
    let pbx = text(&items(&scene.admin.get("/v1/pbxs").await)[0]["id"]);
    let new = json!({ "pbx": pbx, "name": "sales", "number": "600" });
    let queue = text(&scene.admin.post("/v1/queues", new).await["id"]);
    let rules = json!([{ "match": "header", "name": "X-Queue", "value": null, "queue": null }]);
    scene.admin.patch(&format!("/v1/pbxs/{pbx}"), json!({ "queue_rules": rules })).await;
    scene.admin.patch(&format!("/v1/users/{}", scene.ann.id), json!({ "queues": [queue] })).await;
    queue
}
