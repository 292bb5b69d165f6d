//! Calls through the office, and whose screen pops. hookswitch hears of the phones by `t_replicate` and of the calls by
//! siptrace; what it makes of them is read off the API only.

use std::time::Duration;

use serde_json::Value;

use crate::desk::{Scene, open_queue};
use crate::support::folder::Folder;
use crate::support::postgres::Server;

/// Ann is called from outside on her direct number, answers and hangs up.
async fn ann_is_called(scene: &mut Scene, folder: &Folder) -> Value {
    let call = scene.office.call_from_outside(folder, "trunk-calls", "+14155550101");
    scene.office.p101.rings().await;
    let offer = scene.ann.sees("offered").await;
    assert_eq!(offer["caller"]["number"], "+14155550100");
    assert_eq!(offer["caller"]["name"], "Jane Caller");
    assert_eq!(offer["direction"], "inbound");
    assert_eq!(offer["device"], scene.ann.device.as_str());
    scene.office.p101.answer().await;
    scene.ann.sees("answered").await;
    scene.office.p101.hang_up().await;
    scene.ann.sees("ended").await;
    call.passes().await;
    scene.ended_call().await
}

#[tokio::test]
async fn a_call_from_outside_pops_once_on_the_right_screen_is_answered_and_ends() {
    let folder = Folder::new("call-answered");
    let mut scene = Scene::open(&folder, "udp").await;
    assert!(!scene.is_assignable(&scene.ann).await, "a phone that had no call yet");
    let call = ann_is_called(&mut scene, &folder).await;
    assert_eq!(scene.ann.has_seen(), ["offered", "answered", "ended"]);
    assert_eq!(scene.bob.has_seen(), [""; 0]);
    assert_eq!((&call["direction"], &call["outcome"]), (&"inbound".into(), &"answered".into()));
    assert_eq!(call["users"][0]["user"], scene.ann.id.as_str());
    assert_eq!(call["users"][0]["action"], "answered");
    assert_eq!(scene.trail(&call, &scene.ann).await, ["offered", "answered", "ended"]);
    assert!(scene.is_assignable(&scene.ann).await, "an external call makes a phone assignable");
    assert!(!scene.is_assignable(&scene.bob).await, "it was not his call");
}

#[tokio::test]
async fn after_a_restart_the_same_call_pops_the_same_way() {
    let folder = Folder::new("call-restart");
    let mut scene = Scene::open(&folder, "udp").await;
    let before = ann_is_called(&mut scene, &folder).await;
    scene.restart().await;
    assert!(scene.ann.snapshot().is_empty(), "nothing of the call before is left on the screen");
    let after = ann_is_called(&mut scene, &folder).await;
    assert_eq!(scene.ann.has_seen(), ["offered", "answered", "ended"]);
    assert_ne!(before["id"], after["id"]);
    assert_eq!(after["outcome"], "answered");
}

#[tokio::test]
async fn copies_without_addresses_pop_as_well() {
    let folder = Folder::new("call-no-addresses");
    let mut scene = Scene::open_with(&folder, &["TRACE_MODE=4", "WITHOUT_SIP_TRACE"]).await;
    let call = ann_is_called(&mut scene, &folder).await;
    assert_eq!(scene.ann.has_seen(), ["offered", "answered", "ended"]);
    assert_eq!(scene.bob.has_seen(), [""; 0]);
    assert_eq!(call["outcome"], "answered");
}

#[tokio::test]
async fn copies_that_come_twice_pop_once() {
    let folder = Folder::new("call-twice");
    let mut scene = Scene::open_with(&folder, &["TRACE_MODE=4"]).await;
    ann_is_called(&mut scene, &folder).await;
    assert_eq!(scene.ann.has_seen(), ["offered", "answered", "ended"]);
    assert_eq!(scene.bob.has_seen(), [""; 0]);
}

#[tokio::test]
async fn on_postgres_a_call_pops_and_pops_again_after_a_restart() {
    let (folder, server) = (Folder::new("call-postgres"), Server::shared());
    let mut scene = Scene::open_on_postgres(&folder, &server.database()).await;
    let before = ann_is_called(&mut scene, &folder).await;
    scene.restart().await;
    let after = ann_is_called(&mut scene, &folder).await;
    assert_eq!(scene.ann.has_seen(), ["offered", "answered", "ended"]);
    assert_ne!(before["id"], after["id"]);
}

#[tokio::test]
async fn a_database_that_stalls_holds_no_popup_back() {
    let (folder, server) = (Folder::new("call-stalled"), Server::start_new());
    let mut scene = Scene::open_on_postgres(&folder, &server.database()).await;
    server.freeze();
    let call = scene.office.call_from_outside(&folder, "trunk-calls", "+14155550101");
    scene.office.p101.rings().await;
    scene.ann.sees("offered").await;
    scene.office.p101.answer().await;
    scene.ann.sees("answered").await;
    scene.office.p101.hang_up().await;
    scene.ann.sees("ended").await;
    call.passes().await;
    server.thaw();
    assert_eq!(scene.ended_call().await["outcome"], "answered");
}

#[tokio::test]
async fn a_restart_while_it_rings_keeps_the_offer_and_pops_no_second_one() {
    let folder = Folder::new("call-restart-ringing");
    let mut scene = Scene::open(&folder, "udp").await;
    let call = scene.office.call_from_outside(&folder, "trunk-calls", "+14155550101");
    scene.office.p101.rings().await;
    let offer = scene.ann.sees("offered").await;
    // What a feed says is shown at once and stored as soon as it can be (promise 4); nothing holds it back here.
    tokio::time::sleep(Duration::from_millis(500)).await;
    scene.daemon.kill();
    scene.daemon.start_again().await;
    scene.ann.looks_again().await;
    let kept = scene.ann.snapshot();
    assert_eq!(kept.len(), 1, "the call still rings: {kept:#?}");
    assert_eq!((&kept[0]["id"], &kept[0]["state"]), (&offer["id"], &offer["state"]));
    scene.office.p101.answer().await;
    assert_eq!(scene.ann.sees("answered").await["id"], offer["id"]);
    scene.office.p101.hang_up().await;
    scene.ann.sees("ended").await;
    call.passes().await;
    assert_eq!(scene.ann.has_seen(), ["answered", "ended"]);
}

#[tokio::test]
async fn a_phone_on_tcp_pops_as_one_on_udp_does() {
    let folder = Folder::new("call-tcp");
    let mut scene = Scene::open(&folder, "tcp").await;
    let call = scene.office.call_from_outside(&folder, "trunk-calls-and-hangs-up", "102");
    scene.office.p102.rings().await;
    let offer = scene.bob.sees("offered").await;
    assert_eq!(offer["device"], scene.bob.device.as_str());
    scene.office.p102.answer().await;
    call.passes().await;
    scene.bob.sees("ended").await;
    assert_eq!(scene.bob.has_seen(), ["offered", "answered", "ended"]);
    assert_eq!(scene.ann.has_seen(), [""; 0]);
}

#[tokio::test]
async fn a_call_between_colleagues_pops_nowhere_and_makes_no_phone_assignable() {
    let folder = Folder::new("call-internal");
    let mut scene = Scene::open(&folder, "udp").await;
    scene.office.p101.dial("102").await;
    scene.office.p102.rings().await;
    scene.office.p102.answer().await;
    scene.office.p101.hang_up().await;
    let call = scene.ended_call().await;
    assert_eq!(call["direction"], "internal");
    assert_eq!(scene.trail(&call, &scene.bob).await, ["internal_call"]);
    assert_eq!((scene.ann.has_seen(), scene.bob.has_seen()), (vec![], vec![]));
    assert!(!scene.is_assignable(&scene.ann).await);
    assert!(!scene.is_assignable(&scene.bob).await);
}

#[tokio::test]
async fn a_caller_who_gives_up_takes_the_popup_along() {
    let folder = Folder::new("call-given-up");
    let scene = Scene::open(&folder, "udp").await;
    let call = scene.office.call_from_outside(&folder, "trunk-gives-up", "+14155550101");
    scene.office.p101.rings().await;
    call.passes().await;
    scene.ann.sees("rescinded").await;
    assert_eq!(scene.ann.has_seen(), ["offered", "rescinded(caller_hangup)"]);
    assert_eq!(scene.ended_call().await["outcome"], "missed");
}

#[tokio::test]
async fn a_rejected_call_is_declined() {
    let folder = Folder::new("call-rejected");
    let mut scene = Scene::open(&folder, "udp").await;
    let call = scene.office.call_from_outside(&folder, "trunk-is-rejected", "+14155550101");
    scene.office.p101.rings().await;
    scene.ann.sees("offered").await;
    scene.office.p101.hang_up().await;
    call.passes().await;
    scene.ann.sees("rescinded").await;
    assert_eq!(scene.ann.has_seen(), ["offered", "rescinded(declined)"]);
}

#[tokio::test]
async fn a_call_to_the_outside_pops_for_who_placed_it() {
    let folder = Folder::new("call-outbound");
    let mut scene = Scene::open(&folder, "udp").await;
    let outside = scene.office.await_call_outside(&folder);
    scene.office.p101.dial("+14155550123").await;
    let offer = scene.ann.sees("offered").await;
    assert_eq!((&offer["direction"], &offer["callee"]["number"]), (&"outbound".into(), &"+14155550123".into()));
    scene.office.p101.talks().await;
    scene.ann.sees("answered").await;
    scene.office.p101.hang_up().await;
    outside.passes().await;
    scene.ann.sees("ended").await;
    assert_eq!(scene.ann.has_seen(), ["offered", "answered", "ended"]);
    let call = scene.ended_call().await;
    assert_eq!(call["users"][0]["action"], "placed");
    assert!(scene.is_assignable(&scene.ann).await);
}

#[tokio::test]
async fn a_queue_call_pops_for_those_whose_queues_hold_it_and_moves_to_who_answers() {
    let folder = Folder::new("call-queue");
    let mut scene = Scene::open(&folder, "udp").await;
    let queue = open_queue(&scene).await;
    let call = scene.office.call_from_outside(&folder, "trunk-calls", "600");
    tokio::join!(scene.office.p101.rings(), scene.office.p102.rings());
    let offer = scene.ann.sees("offered").await;
    assert_eq!(offer["queue"], queue.as_str());
    scene.office.p102.answer().await;
    scene.ann.sees("rescinded").await;
    scene.bob.sees("answered").await;
    scene.office.p102.hang_up().await;
    scene.bob.sees("ended").await;
    call.passes().await;
    assert_eq!(scene.ann.has_seen(), ["offered", "rescinded(answered_elsewhere)"]);
    let ended = scene.ended_call().await;
    let trail = scene.trail(&ended, &scene.bob).await;
    assert_eq!(trail.first().map(String::as_str), Some("queue_not_set"), "{trail:?}");
    assert_eq!(trail.last().map(String::as_str), Some("ended"), "{trail:?}");
    assert_eq!((&ended["queue"], &ended["outcome"]), (&queue.into(), &"answered".into()));
}
