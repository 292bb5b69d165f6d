//! Rows about people: who has which phone, and for whom it pops at all.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::support::api::{items, text};
use crate::world::{Engine, World, each, on_both_engines};

on_both_engines! {
    t5_an_assignable_device_is_assigned_from_the_user_and_from_the_device,
    t6_a_user_has_several_extensions_and_an_extension_several_users,
    t10_a_disabled_user_gets_no_popup_and_no_logged_call_but_can_log_in_and_look,
    t11_only_the_admin_is_enabled_by_default,
}

const OUTSIDE: &str = "+14155550100";

async fn t5_an_assignable_device_is_assigned_from_the_user_and_from_the_device(engine: Engine) {
    let mut world = World::open("t5", engine).await;
    for extension in ["101", "102", "103"] {
        world.phone(extension).await;
    }
    // 103 only ever talks to colleagues: it is no choice.
    world.phone_calls("inside", "101", "103", Some("103")).await;
    for (call_id, extension) in [("a1", "101"), ("a2", "102")] {
        let call = world.ring(call_id, OUTSIDE, extension, &[extension]).await;
        world.see(&call.given_up()).await;
        world.call(call_id, "ended").await;
    }
    let (ann, bob) = (world.agent("Ann", &[]).await, world.agent("Bob", &[]).await);
    let choices = async |world: &World| {
        let devices = world.api.get("/v1/devices?assignable=true&linked=false").await;
        items(&devices).to_vec()
    };

    // From the user: one of the choices.
    let offered = choices(&world).await;
    assert_eq!(each(&offered, "extension"), ["101", "102"]);
    let path = format!("/v1/users/{}/devices/{}", ann.id, text(&offered[0]["id"]));
    let (status, link) = world.api.send(Method::PUT, &path, None).await;
    assert_eq!((status, &link["user"]), (StatusCode::CREATED, &json!(ann.id)));
    let (status, again) = world.api.send(Method::PUT, &path, None).await;
    assert_eq!((status, &again), (StatusCode::OK, &link), "twice is one link");
    assert_eq!(each(&choices(&world).await, "extension"), ["102"]);

    // From the device: one of the users.
    let device = world.device("102").await;
    assert_eq!(device["users"], json!([]));
    let found = world.api.get("/v1/users?q=bob").await;
    assert_eq!(each(items(&found), "id"), [bob.id.as_str()]);
    let path = format!("/v1/users/{}/devices/{}", text(&items(&found)[0]["id"]), text(&device["id"]));
    world.api.put(&path).await;
    assert_eq!(choices(&world).await, [Value::Null; 0]);

    world.restart().await;
    for (agent, extension, name) in [(&ann, "101", "Ann"), (&bob, "102", "Bob")] {
        let of_user = world.api.get(&format!("/v1/users/{}/devices", agent.id)).await;
        assert_eq!(each(items(&of_user), "extension"), [extension]);
        let of_device = world.device(extension).await;
        assert_eq!(each(items(&json!({ "items": of_device["users"] })), "name"), [name]);
    }
    world.ring("a3", OUTSIDE, "101", &["101"]).await;
    assert_eq!((ann.screen().await.len(), bob.screen().await.len()), (1, 0));
    world.ring("a4", OUTSIDE, "102", &["102"]).await;
    assert_eq!((ann.screen().await.len(), bob.screen().await.len()), (1, 1));
}

async fn t6_a_user_has_several_extensions_and_an_extension_several_users(engine: Engine) {
    let mut world = World::open("t6", engine).await;
    let (one, two) = (world.phone("101").await, world.phone("102").await);
    let (three, four) = (world.phone("99").await, world.phone("1000").await);
    let ann = world.agent("Ann", &[&four, &two, &three, &one]).await;
    let bob = world.agent("Bob", &[&one]).await;
    for round in ["before", "after"] {
        let of_ann = world.api.get(&format!("/v1/users/{}/devices", ann.id)).await;
        assert_eq!(each(items(&of_ann), "extension"), ["99", "101", "102", "1000"], "{round}");
        let hers = ann.api.get("/v1/me/devices").await;
        assert_eq!(each(items(&hers), "extension"), ["99", "101", "102", "1000"], "{round}");
        let users = world.device("101").await["users"].clone();
        let mut names = each(items(&json!({ "items": users })), "name");
        names.sort();
        assert_eq!(names, ["Ann", "Bob"], "{round}");

        // The shared extension pops for both, the other one for Ann, and ringing both of hers is still one popup.
        for (extensions, popups) in [(vec!["101"], (1, 1)), (vec!["102"], (1, 0)), (vec!["101", "102"], (1, 1))] {
            let call_id = format!("{round}-{}", extensions.join("-"));
            let call = world.ring(&call_id, OUTSIDE, "600", &extensions).await;
            assert_eq!((ann.screen().await.len(), bob.screen().await.len()), popups, "{call_id}");
            world.see(&call.given_up()).await;
            let call = world.call(&call_id, "ended").await;
            assert_eq!((ann.screen().await.len(), bob.screen().await.len()), (0, 0), "{call_id}");
            let rang = call["users"].as_array().unwrap();
            assert_eq!(rang.iter().filter(|of| of["user"] == ann.id.as_str()).count(), extensions.len());
        }
        world.restart().await;
    }
}

async fn t10_a_disabled_user_gets_no_popup_and_no_logged_call_but_can_log_in_and_look(engine: Engine) {
    let mut world = World::open("t10", engine).await;
    let one = world.phone("101").await;
    let ann = world.agent("Ann", &[&one]).await;
    let logged = async |world: &World| {
        let calls = world.api.get(&format!("/v1/calls?user={}", ann.id)).await;
        let own = ann.api.get("/v1/calls").await;
        assert_eq!(each(items(&calls), "id"), each(items(&own), "id"), "the admin and Ann see the same calls of hers");
        items(&calls).len()
    };

    let tab = ann.tab().await;
    let call = world.ring("a1", OUTSIDE, "101", &["101"]).await;
    tab.wait("the popup", |event| event.data["state"] == "offered").await;
    world.see(&call.answered(0)).await;
    world.see(&call.hung_up(0)).await;
    world.call("a1", "ended").await;
    assert_eq!(logged(&world).await, 1);

    // Disabled while it rings: the popup goes at once.
    let call = world.ring("a2", OUTSIDE, "101", &["101"]).await;
    assert_eq!(each(&ann.screen().await, "state"), ["offered"]);
    world.edit("users", &json!(ann.id), json!({ "enabled": false })).await;
    let closed = tab.wait("its end", |event| event.data["state"] == "rescinded").await;
    assert_eq!(closed.data["reason"], "user_disabled");
    world.see(&call.given_up()).await;
    world.call("a2", "ended").await;
    assert_eq!(logged(&world).await, 2, "it had rung for her");

    world.restart().await;
    let me = ann.api.get("/v1/me").await;
    assert_eq!((&me["user"]["name"], &me["user"]["enabled"]), (&json!("Ann"), &json!(false)), "she can log in");
    assert_eq!(each(items(&ann.api.get("/v1/me/devices").await), "extension"), ["101"], "and look at what is hers");
    let tab = ann.tab().await;
    let call = world.ring("a3", OUTSIDE, "101", &["101"]).await;
    world.see(&call.answered(0)).await;
    world.see(&call.hung_up(0)).await;
    let call = world.call("a3", "ended").await;
    assert_eq!(world.reasons(&call, &ann).await, ["user_disabled"]);
    assert_eq!((&call["users"], &call["offers"]), (&json!([]), &json!([])));
    assert_eq!((logged(&world).await, tab.of("offer")), (2, vec![]));

    world.edit("users", &json!(ann.id), json!({ "enabled": true })).await;
    world.ring("a4", OUTSIDE, "101", &["101"]).await;
    tab.wait("the popup", |event| event.data["state"] == "offered").await;
    assert_eq!(logged(&world).await, 3, "enabled again, at any time");
}

async fn t11_only_the_admin_is_enabled_by_default(engine: Engine) {
    let mut world = World::open("t11", engine).await;
    let one = world.phone("101").await;
    let created = world.api.post("/v1/users", json!({ "name": "Carol" })).await;
    assert_eq!(created["enabled"], false);
    assert!(text(&created["notice"]).contains("disabled"), "{created:#}");
    let carol = world.api.post("/v1/tokens", json!({ "scope": "agent", "user": created["id"], "label": "c" })).await;
    assert!(carol["secret"].is_string());
    world.api.link(&text(&created["id"]), &one).await;
    let admin = world.api.get("/v1/me").await["user"].clone();
    world.api.link(&text(&admin["id"]), &one).await;
    for round in ["before", "after"] {
        let enabled = world.api.get("/v1/users?enabled=true").await;
        assert_eq!(each(items(&enabled), "id"), [text(&admin["id"])], "{round}");
        let disabled = world.api.get("/v1/users?enabled=false").await;
        assert_eq!(each(items(&disabled), "name"), ["Carol"], "{round}");
        world.ring(round, OUTSIDE, "101", &["101"]).await;
        let call = world.call(round, "ringing").await;
        let offers = each(items(&json!({ "items": call["offers"] })), "user");
        assert_eq!(offers, [text(&admin["id"])], "one shared phone, one popup: the admin's ({round})");
        world.restart().await;
    }
}
