//! Rows about questions: why did it not pop, whose was it then, and who would it pop for?

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::api::{items, text};
use crate::wire::Invite;
use crate::world::{Agent, Engine, World, each, on_both_engines};

on_both_engines! {
    x3_the_trail_says_for_every_call_and_user_why_a_popup_came_or_did_not,
    x5_who_held_an_extension_can_be_asked_of_any_moment,
    x9_a_dry_run_says_what_the_real_call_then_does,
}

const OUTSIDE: &str = "+14155550100";

async fn x3_the_trail_says_for_every_call_and_user_why_a_popup_came_or_did_not(engine: Engine) {
    let mut world = World::open("x3", engine).await;
    let (devices, people) = staff(&world, &["Ann", "Bob", "Cid", "Dee", "Eve", "Fay"]).await;
    let [ann, bob, cid, dee, eve, fay] = &people[..] else { panic!("six people") };
    world.edit("users", &json!(cid.id), json!({ "enabled": false })).await;
    dee.api.patch("/v1/me", json!({ "dnd": true })).await;
    world.edit("devices", &devices[4]["id"], json!({ "enabled": false })).await;
    world.edit("users", &json!(fay.id), json!({ "pop_on": "answer" })).await;
    let queue = world.queue("sales", "600", &[&devices[0], &devices[1]]).await;
    world.edit("users", &json!(ann.id), json!({ "queues": [queue["id"]] })).await;
    let nobodys = world.phone("107").await;
    let _tab = ann.tab().await;

    // One call from outside rings everybody, and 107, which is nobody's.
    let all = ["101", "102", "103", "104", "105", "106", "107"];
    let direct = world.ring("direct", OUTSIDE, "100", &all).await;
    world.see(&direct.given_up()).await;
    let direct = world.call("direct", "ended").await;
    let told = [
        (ann, vec!["offered", "caller_hangup"]),
        (bob, vec!["offered", "no_session", "caller_hangup"]),
        (cid, vec!["user_disabled"]),
        (dee, vec!["dnd"]),
        (eve, vec!["device_disabled"]),
        (fay, vec!["pop_on"]),
    ];
    for (agent, reasons) in &told {
        assert_eq!(&world.reasons(&direct, agent).await, reasons);
    }
    let trail = world.trail(&direct).await;
    let nobody: Vec<_> = trail.iter().filter(|entry| entry["user"].is_null()).collect();
    assert_eq!(nobody.len(), 1);
    assert_eq!((&nobody[0]["reason"], &nobody[0]["device"]), (&json!("not_linked"), &nobodys["id"]));
    steps_are_complete(&trail, ann);

    // A queue call, a colleague's call and one to the outside have reasons of their own.
    let call = world.ring("queued", OUTSIDE, "600", &["101", "102"]).await;
    world.see(&call.answered(0)).await;
    world.see(&call.hung_up(0)).await;
    let queued = world.call("queued", "ended").await;
    assert_eq!(world.reasons(&queued, ann).await, ["offered", "answered", "ended"]);
    assert_eq!(world.reasons(&queued, bob).await, ["queue_not_set"]);
    let of_queue = world.trail(&queued).await;
    assert!(of_queue.iter().all(|entry| entry["queue"] == queue["id"]), "{of_queue:#?}");
    let internal = world.phone_calls("internal", "102", "101", Some("101")).await;
    assert_eq!(world.reasons(&internal, ann).await, ["internal_call"]);
    let settings = json!({ "settings": { "outbound": "never" } });
    world.api.patch(&format!("/v1/accounts/{}", text(&direct["account"])), settings).await;
    let out = world.phone_calls("out", "101", "+14155550199", Some("sip:+14155550199@198.51.100.7:5060")).await;
    assert_eq!(world.reasons(&out, ann).await, ["outbound_setting"]);

    // An agent reads what concerns them, and no more.
    let path = format!("/v1/calls/{}/trail", text(&direct["id"]));
    let own = bob.api.get(&path).await;
    assert!(items(&own).iter().all(|entry| entry["user"] == bob.id.as_str()) && items(&own).len() == 3, "{own:#}");

    let before = [trail, of_queue, world.trail(&internal).await, world.trail(&out).await];
    world.restart().await;
    let calls = [&direct, &queued, &internal, &out];
    for (call, before) in calls.iter().zip(&before) {
        assert_eq!(&world.trail(call).await, before);
    }
}

/// Each step names the event that was seen, the device, and who was connected: `connected` alone.
fn steps_are_complete(trail: &[Value], connected: &Agent) {
    for entry in trail {
        assert!(text(&entry["event"]).contains("direct"), "no Call-ID: {entry:#}");
        assert!(entry["device"].is_string() && entry["at"].is_i64(), "{entry:#}");
        let sessions = i64::from(entry["user"] == connected.id.as_str());
        assert_eq!(entry["sessions"], sessions, "{entry:#}");
    }
    let offered = trail.iter().find(|entry| entry["reason"] == "offered").expect("somebody was");
    assert!(text(&offered["event"]).contains("180"), "{offered:#}");
}

async fn x5_who_held_an_extension_can_be_asked_of_any_moment(engine: Engine) {
    let mut world = World::open("x5", engine).await;
    let device = world.phone("204").await;
    let (ann, bob) = (world.agent("Ann", &[]).await, world.agent("Bob", &[]).await);
    let device_path = format!("/v1/devices/{}/links", text(&device["id"]));
    let of = |agent: &Agent| format!("/v1/users/{}/devices/{}", agent.id, text(&device["id"]));

    // Ann has it, both have it, Bob has it, nobody has it, Ann has it again.
    world.api.put(&of(&ann)).await;
    next_moment().await;
    world.api.put(&of(&bob)).await;
    next_moment().await;
    remove(&world, &of(&ann)).await;
    next_moment().await;
    remove(&world, &of(&bob)).await;
    next_moment().await;
    world.api.put(&of(&ann)).await;
    let links = items(&world.api.get(&device_path).await).to_vec();
    assert_eq!(each(&links, "user_name"), ["Ann", "Bob", "Ann"], "newest first");
    let at = |link: &Value, field: &str| link[field].as_i64().unwrap();
    let [third, second, first] = &links[..] else { panic!("three links: {links:#?}") };
    assert!(third["ended_at"].is_null());
    let moments = [
        (at(first, "began_at") - 1, vec![]),
        (at(first, "began_at"), vec!["Ann"]),
        (at(second, "began_at"), vec!["Ann", "Bob"]),
        (at(first, "ended_at"), vec!["Bob"]),
        (at(second, "ended_at"), vec![]),
        (at(third, "began_at"), vec!["Ann"]),
    ];
    let holders = async |world: &World, query: &str| {
        let found = world.api.get(&format!("/v1/links?extension=204{query}")).await;
        let mut names = each(items(&found), "user_name");
        names.sort();
        names
    };
    for round in ["before", "after"] {
        for (moment, names) in &moments {
            assert_eq!(&holders(&world, &format!("&at={moment}")).await, names, "{round}");
            let on_device = world.api.get(&format!("{device_path}?at={moment}")).await;
            assert_eq!(items(&on_device).len(), names.len(), "{round}");
        }
        assert_eq!(holders(&world, "").await, ["Ann"], "now ({round})");
        world.restart().await;
    }

    // Whoever is deleted has held it all the same, and so has a device that is gone.
    remove(&world, &format!("/v1/users/{}", ann.id)).await;
    remove(&world, &format!("/v1/devices/{}", text(&device["id"]))).await;
    world.crash().await;
    let moment = at(second, "began_at");
    let found = world.api.get(&format!("/v1/links?extension=204&at={moment}")).await;
    let mut users = each(items(&found), "user");
    users.sort();
    let mut both = [ann.id.clone(), bob.id.clone()];
    both.sort();
    assert_eq!(users, both);
    assert_eq!(holders(&world, "").await, [""; 0]);
}

async fn x9_a_dry_run_says_what_the_real_call_then_does(engine: Engine) {
    let mut world = World::open("x9", engine).await;
    let (devices, people) = staff(&world, &["Ann", "Bob", "Cid", "Dee"]).await;
    let queue = world.queue("sales", "600", &devices.iter().collect::<Vec<_>>()).await;
    for at in [0, 2, 3] {
        world.edit("users", &json!(people[at].id), json!({ "queues": [queue["id"]] })).await;
    }
    world.edit("users", &json!(people[2].id), json!({ "enabled": false })).await;
    people[3].api.patch("/v1/me", json!({ "dnd": true })).await;
    for round in ["before", "after"] {
        let dry = dry_run(&world, "queue", &queue["id"]).await;
        assert_eq!(dry["direction"], "inbound");
        assert_eq!(
            dry,
            dry_run(&world, "dialled", &json!("600")).await,
            "the queue by its number is the same question"
        );
        let of = |agent: &Agent| {
            let mut rows = dry["rows"].as_array().unwrap().iter().filter(|row| row["user"] == agent.id.as_str());
            let row = rows.next().unwrap_or_else(|| panic!("{dry:#}"));
            assert!(rows.next().is_none());
            (text(&row["on_ring"]), text(&row["on_answer"]))
        };
        let said: Vec<_> = people.iter().map(of).collect();
        let expected = [
            ("offered", "answered"),
            ("queue_not_set", "answered"),
            ("user_disabled", "user_disabled"),
            ("dnd", "dnd"),
        ];
        assert_eq!(said, expected.map(|(ring, answer)| (ring.to_owned(), answer.to_owned())), "{round}");

        // The real call rings everybody and Bob answers: each got what was said.
        let call = world.ring(round, "+33199001234", "600", &["101", "102", "103", "104"]).await;
        let ringing = world.call(round, "ringing").await;
        for (agent, (on_ring, _)) in people.iter().zip(&said) {
            assert_eq!(world.reasons(&ringing, agent).await.first(), Some(on_ring), "{round}");
        }
        world.see(&call.answered(1)).await;
        world.see(&call.hung_up(1)).await;
        let ended = world.call(round, "ended").await;
        assert!(world.reasons(&ended, &people[1]).await.contains(&said[1].1));
        world.restart().await;
    }

    a_join_is_said_and_done_alike(&world, &queue, &devices[0], &people).await;

    // A question leaves nothing behind.
    let [calls, devices] = [world.api.get("/v1/calls").await, world.api.get("/v1/devices").await];
    let dry = dry_run(&world, "dialled", &json!("101")).await;
    assert_eq!(dry["rows"][0]["on_ring"], "offered", "direct calls ask for no queue: {dry:#}");
    assert_eq!([world.api.get("/v1/calls").await, world.api.get("/v1/devices").await], [calls, devices]);
    assert_eq!(people[0].screen().await, [Value::Null; 0]);
}

/// Moments are told apart by milliseconds.
async fn next_moment() {
    tokio::time::sleep(Duration::from_millis(2)).await;
}

/// With `queue_notice = join` people are told before any phone rings, so that a disabled phone does not matter.
async fn a_join_is_said_and_done_alike(world: &World, queue: &Value, first: &Value, people: &[Agent]) {
    let dry = dry_run(world, "queue", &queue["id"]).await;
    assert!(dry["rows"].as_array().unwrap().iter().all(|row| row["on_join"].is_null()), "nobody is told: {dry:#}");
    let settings = json!({ "settings": { "queue_notice": "join" } });
    world.api.patch(&format!("/v1/accounts/{}", text(&queue["account"])), settings).await;
    world.edit("devices", &first["id"], json!({ "enabled": false })).await;
    let dry = dry_run(world, "queue", &queue["id"]).await;
    let waits = Invite::from_trunk("waits", "+33199001234", "600");
    world.see(&[waits.text(), waits.response(200, "queue")]).await;
    world.call("waits", "calling").await;
    for (agent, said) in people.iter().zip(["offered", "queue_not_set", "user_disabled", "dnd"]) {
        let row = dry["rows"].as_array().unwrap().iter().find(|row| row["user"] == agent.id.as_str());
        assert_eq!(row.unwrap()["on_join"], said, "{dry:#}");
        assert_eq!(agent.screen().await.len(), usize::from(said == "offered"), "{said}");
    }
    world.see(&[waits.bye("queue")]).await;
    world.call("waits", "ended").await;
    world.edit("devices", &first["id"], json!({ "enabled": true })).await;
}

/// Who would pop for a call from France (a number kept for fiction)?
async fn dry_run(world: &World, way: &str, value: &Value) -> Value {
    let question = json!({ "pbx": world.pbx, "caller": "+33199001234", way: value });
    world.api.post("/v1/popups/preview", question).await
}

/// Phones 101 and up, and people, one a phone.
async fn staff(world: &World, names: &[&str]) -> (Vec<Value>, Vec<Agent>) {
    let (mut devices, mut people) = (Vec::new(), Vec::new());
    for (extension, name) in (101..).zip(names) {
        let device = world.phone(&extension.to_string()).await;
        people.push(world.agent(name, &[&device]).await);
        devices.push(device);
    }
    (devices, people)
}

/// Deletes; panics unless the answer is 204.
async fn remove(world: &World, path: &str) {
    let (status, answer) = world.api.send(reqwest::Method::DELETE, path, None).await;
    assert_eq!(status, reqwest::StatusCode::NO_CONTENT, "{path}: {answer:#}");
}
