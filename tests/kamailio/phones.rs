//! Phones that come and go at the office's Kamailio, as hookswitch sees them through `t_replicate`.

use crate::office::{DOMAIN, Office};
use crate::support::api::{Api, items, text};
use crate::support::baresip::{Account, Phone};
use crate::support::daemon::Daemon;
use crate::support::folder::Folder;
use crate::support::kamailio::Kamailio;
use crate::support::wait::until;

async fn scene(folder: &Folder, transport: &str) -> (Office, Daemon, Api) {
    let daemon = Daemon::start(folder).await;
    let replica = format!("sip:{};transport={transport}", daemon.replica);
    let office = Office::open(folder, &replica, &format!("sip:{}", daemon.mirror)).await;
    let api = daemon.api();
    (office, daemon, api)
}

/// What a device's history says, oldest first.
async fn history(api: &Api, device: &str) -> Vec<String> {
    let page = api.get(&format!("/v1/devices/{device}/history")).await;
    let mut entries: Vec<(i64, String)> =
        items(&page).iter().map(|entry| (entry["at"].as_i64().unwrap_or_default(), text(&entry["kind"]))).collect();
    entries.sort_by_key(|(at, _)| *at);
    entries.into_iter().map(|(_, kind)| kind).collect()
}

async fn come_and_go(transport: &str) {
    let folder = Folder::new("phones");
    let (mut office, mut daemon, api) = scene(&folder, transport).await;
    let device = api.device("101", "connected").await;
    assert_eq!(device["bindings"], 1);
    assert!(text(&device["user_agent"]).starts_with("baresip"), "{device:#}");
    let over_tcp = api.device("102", "connected").await;
    assert_eq!(over_tcp["bindings"], 1);
    daemon.restart().await;
    api.device("101", "connected").await;
    office.p101.switch_off();
    let device = api.device("101", "disconnected").await;
    api.device("102", "connected").await;
    let id = text(&device["id"]);
    let kinds = until("both transitions are stored", async || {
        let kinds = history(&api, &id).await;
        (kinds.len() >= 2).then_some(kinds)
    })
    .await;
    assert_eq!(kinds, ["up", "down"], "one coming, one going, and no refresh");
}

#[tokio::test]
async fn phones_come_and_go_as_kamailio_relays_it_over_udp() {
    come_and_go("udp").await;
}

#[tokio::test]
async fn phones_come_and_go_as_kamailio_relays_it_over_tcp() {
    come_and_go("tcp").await;
}

#[tokio::test]
async fn an_unplugged_phone_is_stale_once_its_time_is_over_and_connected_when_it_is_back() {
    let folder = Folder::new("phone-unplugged");
    let daemon = Daemon::start(&folder).await;
    let api = daemon.api();
    let (replica, mirror) = (format!("sip:{}", daemon.replica), format!("sip:{}", daemon.mirror));
    let kamailio = Kamailio::start(&folder, &replica, &mirror).await;
    let proxy = kamailio.address;
    let account = Account { extension: "103", domain: DOMAIN, proxy, transport: "udp", expires_s: 3 };
    let mut phone = Phone::start(&folder, account).await;
    api.device("103", "connected").await;
    phone.unplug();
    api.device("103", "stale").await;
    drop(phone);
    let _back = Phone::start(&folder, account).await;
    api.device("103", "connected").await;
}
