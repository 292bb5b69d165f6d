//! Rows about queues, about how phones are, and about what a PBX and hookswitch disagree on.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::support::api::{items, text};
use crate::world::{Engine, World, each, on_both_engines};

on_both_engines! {
    q13_only_an_explicit_logout_logs_out_of_the_queues,
    x8_a_device_tells_its_flaps_its_new_firmware_and_its_last_refresh,
    x11_what_the_pbx_has_and_what_is_set_here_is_a_list_to_accept,
}

async fn q13_only_an_explicit_logout_logs_out_of_the_queues(engine: Engine) {
    let mut world = World::open("q13", engine).await;
    let phone = world.phone("101").await;
    let ann = world.agent("Ann", &[&phone]).await;
    let queue = world.queue("Support", "600", &[&phone]).await;
    world.edit("users", &json!(ann.id), json!({ "queue_login": "session" })).await;
    let path = format!("/v1/queues/{}", text(&queue["id"]));
    let paused = async |world: &World| world.api.get(&path).await["members"][0]["paused"].clone();
    let ask = async |path: &str| {
        let (status, answer) = ann.api.send(Method::POST, path, None).await;
        assert_eq!((status, &answer["done"]), (StatusCode::OK, &json!(true)), "{answer:#}");
        answer["queues"].as_array().expect("a list").clone()
    };

    // The window is closed, its stream is lost, the daemon is stopped and killed: she is still in.
    let tab = ann.tab().await;
    drop(tab);
    world.restart().await;
    world.crash().await;
    assert_eq!(paused(&world).await, false);

    assert_eq!(each(&ask("/v1/me/logout").await, "action"), ["paused"]);
    assert_eq!(paused(&world).await, true);
    let tab = ann.tab().await;
    world.restart().await;
    assert_eq!(paused(&world).await, true, "nor is anybody logged in by a window or a start");
    drop(tab);
    assert_eq!(each(&ask("/v1/me/login").await, "action"), ["resumed"], "what the logout took, after a restart");
    assert_eq!(paused(&world).await, false);

    world.edit("users", &json!(ann.id), json!({ "queue_login": "manual" })).await;
    assert_eq!(ask("/v1/me/logout").await, [Value::Null; 0]);
    assert_eq!(paused(&world).await, false, "the setting says that queues are her own affair");
}

async fn x8_a_device_tells_its_flaps_its_new_firmware_and_its_last_refresh(engine: Engine) {
    let mut world = World::open("x8", engine).await;
    for _ in 0..3 {
        world.register("101", 3_600, "User-Agent: Fictional T42 1.0\r\n").await;
        world.register("101", 0, "").await;
    }
    world.register("101", 3_600, "User-Agent: Fictional T42 1.0\r\n").await;
    world.register("101", 3_600, "User-Agent: Fictional T42 2.0\r\n").await;
    let path = format!("/v1/devices/{}/health", text(&world.device("101").await["id"]));
    let read = async |world: &World| {
        let mut health = world.api.get(&path).await;
        // A deadline is kept on the monotonic clock and told on the wall's; over a restart the two differ by a millisecond.
        health["contacts"][0]["expires_at"].take();
        health
    };
    let before = read(&world).await;
    assert_eq!((&before["state"], &before["reachable"]), (&json!("connected"), &Value::Null), "{before:#}");
    assert_eq!((&before["flaps"], &before["user_agent_changes"]), (&json!(3), &json!(1)));
    assert_eq!(before["troubles"], json!(["flapping", "user_agent_changed"]));
    assert_eq!(
        (&before["duplicate"], &before["contacts"][0]["user_agent"]),
        (&json!(false), &json!("Fictional T42 2.0"))
    );
    assert!(before["refreshed_at"].as_i64().is_some());
    world.restart().await;
    assert_eq!(read(&world).await, before, "history remembers");
}

async fn x11_what_the_pbx_has_and_what_is_set_here_is_a_list_to_accept(engine: Engine) {
    let mut world = World::open("x11", engine).await;
    let (one, two) = (world.phone("101").await, world.phone("102").await);
    let ann = world.agent("Ann", &[&one]).await;
    let queue = world.queue("Support", "600", &[&two]).await;
    let drift = format!("/v1/pbxs/{}/drift", world.pbx);
    assert_eq!(items(&world.api.get(&drift).await), [Value::Null; 0], "nobody has told what the PBX has");

    // The PBX tells: 101 is in that queue. 102 was put in by hand, here alone.
    let told = json!({ "specversion": "1.0", "id": "1", "source": "/office", "type": "pbx.queue",
        "data": { "queue": "Support", "members": [{ "user": "101" }] } });
    let (status, answer) = world.api.send(Method::POST, &format!("/v1/pbxs/{}/events", world.pbx), Some(told)).await;
    assert!(status.is_success(), "{answer:#}");
    let found = world.api.get(&drift).await;
    assert_eq!(each(items(&found), "kind"), ["member", "user_queue"], "{found:#}");
    assert_eq!(each(items(&found), "extension"), ["102", "101"]);
    let member = format!("/v1/queues/{}/members/{}", text(&queue["id"]), text(&one["id"]));
    let (status, refused) = world.api.send(Method::PUT, &member, Some(json!({ "paused": true }))).await;
    assert_eq!((status, &refused["type"]), (StatusCode::CONFLICT, &json!("/problems/control-off")), "it is the PBX's");

    world.restart().await;
    assert_eq!(items(&world.api.get(&drift).await), items(&found));
    for difference in items(&found) {
        let accept = &difference["accept"];
        let method: Method = text(&accept["method"]).parse().expect("a method");
        let (status, answer) = world.api.send(method, &text(&accept["href"]), accept.get("body").cloned()).await;
        assert!(status.is_success(), "{accept:#} {answer:#}");
    }
    assert_eq!(items(&world.api.get(&drift).await), [Value::Null; 0]);
    let user = world.api.get(&format!("/v1/users/{}", ann.id)).await;
    assert_eq!(user["queues"], json!([queue["id"]]));
    world.crash().await;
    assert_eq!(items(&world.api.get(&drift).await), [Value::Null; 0]);
    let members = world.api.get(&format!("/v1/queues/{}", text(&queue["id"]))).await["members"].clone();
    assert_eq!(each(members.as_array().expect("a list"), "extension"), ["101"]);
}
