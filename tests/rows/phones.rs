//! Rows about devices: how they appear, what they are called by, and how they are.

use serde_json::{Value, json};
use tokio::net::UdpSocket;

use crate::support::api::{items, text};
use crate::support::wait::until;
use crate::world::{Engine, World, ask, each, on_both_engines, phone_host, register};

on_both_engines! {
    t4_a_device_becomes_assignable_by_an_external_call_and_not_by_an_internal_one,
    t8_a_device_is_recognised_by_label_extension_user_agent_last_caller_and_last_seen,
    q11_a_device_is_switched_on_and_off_has_a_caller_id_and_shows_its_registration,
    x1_devices_appear_by_themselves_from_any_pbx_and_changes_need_no_restart,
}

const OUTSIDE: &str = "+14155550100";
const TRUNK: &str = "sip:+14155550199@198.51.100.7:5060";

async fn t4_a_device_becomes_assignable_by_an_external_call_and_not_by_an_internal_one(engine: Engine) {
    let mut world = World::open("t4", engine).await;
    for extension in ["101", "102", "103", "104"] {
        world.phone(extension).await;
    }
    let ann = world.agent("Ann", &[]).await;
    let assignable = async |world: &World| {
        let listed = world.api.get("/v1/devices?assignable=true").await;
        let choices = ann.api.get("/v1/me/devices/choices").await;
        assert_eq!(each(items(&listed), "id"), each(items(&choices), "id"), "admin and agent choose among the same");
        each(items(&listed), "extension")
    };

    let inside = world.phone_calls("inside", "101", "102", Some("102")).await;
    assert_eq!((&inside["direction"], &inside["outcome"]), (&json!("internal"), &json!("answered")));
    world.phone_calls("feature", "101", "*97", None).await;
    world.phone_calls("emergency", "102", "911", Some("sip:911@198.51.100.7:5060")).await;
    assert_eq!(assignable(&world).await, [""; 0], "colleagues, feature codes and emergency numbers do not count");

    let from_outside = world.ring("in", OUTSIDE, "103", &["103"]).await;
    assert_eq!(assignable(&world).await, ["103"], "a call from outside counts as soon as it rings");
    world.see(&from_outside.given_up()).await;
    world.call("in", "ended").await;
    world.phone_calls("out", "104", "+14155550199", Some(TRUNK)).await;
    assert_eq!(assignable(&world).await, ["103", "104"], "and so does a call to the outside");

    world.restart().await;
    assert_eq!(assignable(&world).await, ["103", "104"]);
    world.phone_calls("inside-again", "103", "102", Some("102")).await;
    world.ring("in-again", OUTSIDE, "101", &["101"]).await;
    assert_eq!(assignable(&world).await, ["101", "103", "104"]);
}

async fn t8_a_device_is_recognised_by_label_extension_user_agent_last_caller_and_last_seen(engine: Engine) {
    let mut world = World::open("t8", engine).await;
    world.register("101", 3_600, "User-Agent: Fictional T42 1.2.3\r\n").await;
    world.register("102", 3_600, "User-Agent: Softphone 9\r\n").await;
    let device = world.device("101").await;
    assert_eq!((&device["user_agent"], &device["label"]), (&json!("Fictional T42 1.2.3"), &Value::Null));
    assert_eq!((&device["last_caller"], &device["aor"]), (&Value::Null, &json!("sip:101@pbx.local")));
    let appeared = device["last_seen_at"].as_i64();

    world.edit("devices", &device["id"], json!({ "label": "Reception" })).await;
    let call = world.ring("a1", OUTSIDE, "101", &["101"]).await;
    world.see(&call.given_up()).await;
    world.call("a1", "ended").await;
    let device = world.device("101").await;
    assert_eq!(device["last_caller"], OUTSIDE);
    assert!(device["last_seen_at"].as_i64() > appeared, "{device:#}");
    let seen = device["last_seen_at"].as_i64();

    // A colleague's call shows that the phone lives, and a withheld number is kept nowhere.
    world.phone_calls("inside", "102", "101", Some("101")).await;
    let withheld = ["P-Asserted-Identity: <sip:+14155550177@trunk.example>", "Privacy: id"];
    let call = world.ring_with("a2", "anonymous", "101", &["101"], &withheld).await;
    world.see(&call.given_up()).await;
    let call = world.call("a2", "ended").await;
    assert_eq!((&call["caller"]["withheld"], &call["caller"]["number"]), (&json!(true), &Value::Null), "{call:#}");

    let before = world.device("101").await;
    assert_eq!(before["last_caller"], OUTSIDE);
    assert!(before["last_seen_at"].as_i64() > seen, "{before:#}");
    world.restart().await;
    assert_eq!(world.device("101").await, before);
    for text in ["101", "recep", "T42", "5550100"] {
        let found = world.api.get(&format!("/v1/devices?q={text}")).await;
        assert_eq!(each(items(&found), "extension"), ["101"], "looked for {text}");
    }
}

async fn q11_a_device_is_switched_on_and_off_has_a_caller_id_and_shows_its_registration(engine: Engine) {
    let mut world = World::open("q11", engine).await;
    let one = world.phone("101").await;
    let ann = world.agent("Ann", &[&one]).await;
    let events = world.api.events("/v1/events").await;
    assert_eq!((&one["state"], &one["enabled"]), (&json!("connected"), &json!(true)));

    world.register("101", 0, "").await;
    let gone = world.device("101").await;
    assert_eq!((&gone["state"], &gone["bindings"]), (&json!("disconnected"), &json!(0)));
    world.register("101", 3_600, "").await;
    for kind in ["device.down", "device.up"] {
        events.wait(kind, |event| event.kind == kind && event.data["extension"] == "101").await;
    }

    // Switched off while it rings: the popup goes at once, and none comes until it is switched on again.
    let tab = ann.tab().await;
    let call = world.ring("a1", OUTSIDE, "101", &["101"]).await;
    tab.wait("the popup", |event| event.data["state"] == "offered").await;
    let edited = json!({ "enabled": false, "caller_id": "+14155550111" });
    let edited = world.edit("devices", &one["id"], edited).await;
    assert_eq!((&edited["state"], &edited["caller_id"]), (&json!("disabled"), &json!("+14155550111")));
    let closed = tab.wait("its end", |event| event.data["state"] == "rescinded").await;
    assert_eq!(closed.data["reason"], "device_disabled");
    world.see(&call.given_up()).await;
    world.call("a1", "ended").await;
    world.register("101", 3_600, "").await;
    assert_eq!(world.device("101").await["state"], "disabled", "whatever its registration says");

    world.restart().await;
    let device = world.device("101").await;
    assert_eq!((&device["state"], &device["caller_id"]), (&json!("disabled"), &json!("+14155550111")));
    assert_eq!(device["bindings"], 1);
    let call = world.ring("a2", OUTSIDE, "101", &["101"]).await;
    let id = world.call("a2", "ringing").await;
    assert_eq!(world.reasons(&id, &ann).await, ["device_disabled"]);
    assert_eq!(ann.screen().await, [Value::Null; 0]);
    world.see(&call.given_up()).await;

    let on = world.edit("devices", &one["id"], json!({ "enabled": true })).await;
    assert_eq!(on["state"], "connected", "its registration was there all the time");
    world.ring("a3", OUTSIDE, "101", &["101"]).await;
    assert_eq!(each(&ann.screen().await, "state"), ["offered"]);
    for (state, wanted) in [("connected", vec!["101"]), ("disconnected", vec![]), ("disabled", vec![])] {
        let listed = world.api.get(&format!("/v1/devices?state={state}")).await;
        assert_eq!(each(items(&listed), "extension"), wanted, "{state}");
    }
}

async fn x1_devices_appear_by_themselves_from_any_pbx_and_changes_need_no_restart(engine: Engine) {
    let mut world = World::open("x1", engine).await;
    let events = world.api.events("/v1/events").await;
    events.wait("the snapshot", |event| event.kind == "snapshot").await;
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let local = socket.local_addr().unwrap();

    // One at the registrar itself, one that a PBX relays, one that is only copied: its answer binds it.
    world.register("101", 3_600, "").await;
    let answer = ask(&socket, world.daemon.replica, &register(local, "102", 1, "Expires: 600\r\n")).await;
    assert!(answer.starts_with("SIP/2.0 200 "), "{answer}");
    let copied = register(local, "103", 1, "Expires: 600\r\n");
    let accepted = format!(
        "SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP {local};branch=z9hG4bK-r-103-1\r\nFrom: <sip:103@pbx.example>;tag=r103\r\n\
         To: <sip:103@pbx.example>;tag=pbx\r\nCall-ID: r-103@{host}\r\nCSeq: 1 REGISTER\r\n\
         Contact: <sip:103-x@{host}:5060>;expires=600\r\nContent-Length: 0\r\n\r\n",
        host = phone_host("103")
    );
    world.see(&[copied, accepted]).await;
    for extension in ["101", "102", "103"] {
        let what = format!("device {extension} appears");
        events.wait(&what, |event| event.kind == "device.created" && event.data["extension"] == extension).await;
        assert_eq!(world.device(extension).await["state"], "connected");
    }
    let feeds = world.api.get(&format!("/v1/pbxs/{}", world.pbx)).await["feeds"].clone();
    let feeds = feeds.as_array().expect("a list");
    assert_eq!(each(feeds, "kind"), ["mirror", "replica"], "listeners are feeds from the first packet on");
    assert_eq!(each(feeds, "state"), ["up", "up"]);

    // A second PBX is added, and its phones are its own from the next message on.
    let site = text(&items(&world.api.get("/v1/sites").await)[0]["id"]);
    let berlin = json!({ "site": site, "name": "Berlin", "domain": "berlin.example", "networks": ["127.0.0.2"] });
    let berlin = world.api.post("/v1/pbxs", berlin).await;
    let far = UdpSocket::bind("127.0.0.2:0").await.unwrap();
    let request = register(far.local_addr().unwrap(), "101", 1, "Expires: 600\r\n");
    let answer = ask(&far, world.daemon.replica, &request).await;
    assert!(answer.starts_with("SIP/2.0 200 "), "{answer}");
    let of_berlin = format!("/v1/devices?pbx={}", text(&berlin["id"]));
    let theirs = world.api.get(&of_berlin).await;
    assert_eq!(each(items(&theirs), "aor"), ["sip:101@berlin.example"]);
    let ours = each(items(&world.api.get(&format!("/v1/devices?pbx={}", world.pbx)).await), "extension");
    assert_eq!(ours, ["101", "102", "103"]);

    // What is edited holds for the next call: six digits are an inside number once the plan says so.
    let account = text(&berlin["account"]);
    world.edit("pbxs", &berlin["id"], json!({ "domain": "bln.example" })).await;
    assert_eq!(each(items(&world.api.get(&of_berlin).await), "aor"), ["sip:101@bln.example"]);
    let direction = async |world: &World, call_id| {
        let call = world.ring(call_id, "415555", "103", &["103"]).await;
        world.see(&call.given_up()).await;
        world.call(call_id, "ended").await["direction"].clone()
    };
    assert_eq!(direction(&world, "before").await, "inbound");
    let plan = json!({ "number_plan": { "internal_lengths": [3, 6] } });
    world.api.patch(&format!("/v1/accounts/{account}"), plan).await;
    assert_eq!(direction(&world, "after").await, "internal");

    let before = world.api.get("/v1/devices").await;
    world.crash().await;
    let after = until("all phones are there again", async || {
        let devices = world.api.get("/v1/devices").await;
        (items(&devices).len() == 4).then_some(devices)
    })
    .await;
    assert_eq!(after, before);
    assert_eq!(direction(&world, "later").await, "internal");
}
