//! Rows about popups: when one comes, and that there is never more than one of a call.

use serde_json::{Value, json};

use crate::support::events::Events;
use crate::support::wait::until;
use crate::wire::Invite;
use crate::world::{Agent, Engine, Inbound, World, each, on_both_engines};

on_both_engines! {
    t15_queue_set_notifies_before_the_answer_and_queue_not_set_once_the_user_answers,
    x4_one_popup_a_call_and_user_across_devices_forks_tabs_re_rings_and_restarts,
}

const OUTSIDE: &str = "+14155550100";

async fn t15_queue_set_notifies_before_the_answer_and_queue_not_set_once_the_user_answers(engine: Engine) {
    let mut world = World::open("t15", engine).await;
    let (one, two) = (world.phone("101").await, world.phone("102").await);
    let (ann, bob) = (world.agent("Ann", &[&one]).await, world.agent("Bob", &[&two]).await);
    let queue = world.queue("sales", "600", &[&one, &two]).await;
    let edited = world.edit("users", &json!(ann.id), json!({ "queues": [queue["id"]] })).await;
    assert_eq!(edited["queues"], json!([queue["id"]]));

    for round in ["before", "after"] {
        let (anns, bobs) = (ann.tab().await, bob.tab().await);
        // It rings both; only Ann, whose queue is set, is told.
        let call = world.ring(round, OUTSIDE, "600", &["101", "102"]).await;
        let popup = anns.wait("Ann's popup", |event| event.data["state"] == "offered").await.data;
        assert_eq!((&popup["queue"], &popup["device"]), (&queue["id"], &one["id"]));
        assert_eq!((bob.screen().await, bobs.of("offer")), (vec![], vec![]), "{round}");

        // Bob answers: now he is told, and Ann's popup goes.
        world.see(&call.answered(1)).await;
        bobs.wait("Bob's popup", |event| event.data["state"] == "answered").await;
        let gone = anns.wait("the end of Ann's", |event| event.data["state"] == "rescinded").await.data;
        assert_eq!((&gone["id"], &gone["reason"]), (&popup["id"], &json!("answered_elsewhere")));
        world.see(&call.hung_up(1)).await;
        let ended = world.call(round, "ended").await;
        assert_eq!(ended["queue"], queue["id"]);
        bobs.wait("the end of Bob's", |event| event.data["state"] == "ended").await;
        assert_eq!(states(&bobs), ["offered", "answered", "ended"], "{round}");
        assert_eq!(world.reasons(&ended, &ann).await.first().map(String::as_str), Some("offered"));
        assert_eq!(world.reasons(&ended, &bob).await.first().map(String::as_str), Some("queue_not_set"));
        world.restart().await;
    }
    let kept = world.api.get(&format!("/v1/users/{}", ann.id)).await;
    assert_eq!(kept["queues"], json!([queue["id"]]));
}

async fn x4_one_popup_a_call_and_user_across_devices_forks_tabs_re_rings_and_restarts(engine: Engine) {
    let mut world = World::open("x4", engine).await;
    let (one, two, three) = (world.phone("101").await, world.phone("102").await, world.phone("103").await);
    let ann = world.agent("Ann", &[&one, &two]).await;
    let bob = world.agent("Bob", &[&three]).await;
    let tabs = [ann.tab().await, ann.tab().await];
    let bobs = bob.tab().await;

    // Everybody rings, and the PBX mirrors everything twice: Ann has two phones and two tabs, and one popup.
    let call = world.ring("a1", OUTSIDE, "600", &["101", "102", "103"]).await;
    let again: Vec<String> = call.legs.iter().flat_map(|leg| [leg.text(), leg.response(180, "again")]).collect();
    world.see(&again).await;
    let popup = only(&ann.screen().await);
    assert_eq!(only(&bob.screen().await)["call"], popup["call"]);
    assert_ne!(only(&bob.screen().await)["id"], popup["id"]);
    for tab in &tabs {
        tab.wait("the popup", |event| event.data["id"] == popup["id"]).await;
    }

    // One phone of each rings out and rings again. Ann's popup stays, since her second phone rings all the time; Bob's
    // goes and comes back.
    let again = ring_again(&world, &call, &[0, 2]).await;
    until("Bob's popup is back", async || (states(&bobs).len() == 3).then_some(())).await;
    assert_eq!(states(&bobs), ["offered", "rescinded", "offered"]);
    assert_eq!(bobs.of("offer")[1]["reason"], "timeout");
    assert_eq!(only(&ann.screen().await)["id"], popup["id"]);
    assert!(tabs.iter().all(|tab| states(tab) == ["offered"]));
    assert!(popup["expires_at"].as_i64() > popup["offered_at"].as_i64(), "a frozen tab takes it off by itself");

    // The power goes while it rings. A tab that comes back finds the same popup.
    let ringing = world.call("a1", "ringing").await;
    world.trail(&ringing).await;
    world.crash().await;
    assert_eq!(only(&ann.screen().await)["id"], popup["id"]);
    let tabs = [ann.tab().await, ann.tab().await];
    for tab in &tabs {
        let snapshot = &tab.of("snapshot")[0]["offers"];
        assert_eq!(each(snapshot.as_array().unwrap(), "id"), [popup["id"].as_str().unwrap()]);
    }
    let bobs = bob.tab().await;

    // She answers on the second phone; Bob's popup goes. Then the daemon is stopped while she talks.
    let mut messages = call.answered(1);
    for loser in &again {
        messages
            .extend([loser.cancel("SIP;cause=200;text=\"Call completed elsewhere\""), loser.response(487, "again")]);
    }
    world.see(&messages).await;
    for tab in &tabs {
        tab.wait("she talks", |event| event.data["state"] == "answered").await;
    }
    let gone = bobs.wait("Bob's end", |event| event.data["state"] == "rescinded").await;
    assert_eq!(gone.data["reason"], "answered_elsewhere");
    world.restart().await;
    assert_eq!(each(&ann.screen().await, "state"), ["answered"]);
    let tab = ann.tab().await;
    world.see(&call.hung_up(1)).await;
    let closed = tab.wait("its end", |event| event.data["state"] == "ended").await;
    assert_eq!(closed.data["id"], popup["id"]);

    // Nothing is left open, and a late copy brings nothing back.
    one_closed_offer_each(&world.call("a1", "ended").await, &[&ann, &bob]);
    world.see(&[call.outer.text(), call.legs[1].text(), call.legs[1].response(180, "phone1")]).await;
    let next = world.ring("a2", OUTSIDE, "103", &["103"]).await;
    assert_eq!((ann.screen().await, bob.screen().await.len()), (vec![], 1));
    world.see(&next.given_up()).await;
    world.call("a2", "ended").await;
    assert_eq!(bob.screen().await, [Value::Null; 0]);
}

/// The record of a call has one offer for each of them, and each is closed.
fn one_closed_offer_each(call: &Value, agents: &[&Agent]) {
    let offers = call["offers"].as_array().expect("a list");
    let mut users = each(offers, "user");
    users.sort();
    let mut expected: Vec<String> = agents.iter().map(|agent| agent.id.clone()).collect();
    expected.sort();
    assert_eq!(users, expected);
    assert!(offers.iter().all(|offer| offer["closed_at"].is_i64()), "{call:#}");
}

/// The states an only popup went through on this tab.
fn states(tab: &Events) -> Vec<String> {
    let offers = tab.of("offer");
    assert!(offers.iter().all(|offer| offer["id"] == offers[0]["id"]), "{offers:#?}");
    let mut states = each(&offers, "state");
    states.dedup();
    states
}

/// These phones ring out, and the PBX tries each once more: a new branch of the same call.
async fn ring_again(world: &World, call: &Inbound, phones: &[usize]) -> Vec<Invite> {
    let mut again = Vec::new();
    for at in phones {
        let leg = &call.legs[*at];
        let mut branch = leg.clone();
        branch.vias[0].push_str("-again");
        world.see(&[leg.cancel(""), leg.response(487, &format!("phone{at}"))]).await;
        world.see(&[branch.text(), branch.response(180, "again")]).await;
        again.push(branch);
    }
    again
}

fn only(screen: &[Value]) -> Value {
    assert_eq!(screen.len(), 1, "{screen:#?}");
    screen[0].clone()
}
