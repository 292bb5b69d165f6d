//! Calls that come through a queue.

use crate::pbx::Version;
use crate::record::Expected;
use crate::scene::{Scene, a_moment};

/// A call to `sales` that Ann answers.
pub const ANSWERED: Expected = Expected::of(
    "inbound +14155550100 > +14155550600 in sales: answered
    legs: to_device 101 bye, trunk_in bye
    Ann: answered; saw offered answered ended; offered answered ended",
);

/// A call to `sales` whose caller gives up.
pub const ABANDONED: Expected = Expected::of(
    "inbound +14155550100 > 600 in sales: missed
    legs: to_device 101 cancelled, trunk_in bye
    Ann: rang; saw offered rescinded(caller_hangup); offered caller_hangup",
);

/// Drives [`ANSWERED`].
pub async fn answer(scene: &mut Scene) {
    scene.add_member("sales", "101").await;
    let caller = scene.trunk("trunk-calls", "+14155550600", 0);
    scene.phone("101").rings().await;
    a_moment().await;
    scene.phone("101").answer().await;
    a_moment().await;
    scene.phone("101").hang_up().await;
    caller.passes().await;
}

/// Drives [`ABANDONED`].
pub async fn abandon(scene: &mut Scene) {
    scene.add_member("sales", "101").await;
    let caller = scene.trunk("trunk-calls-and-hangs-up", "600", 1500);
    scene.phone("101").rings().await;
    caller.passes().await;
}

#[tokio::test]
async fn a_queue_call_is_answered() {
    let mut scene = Scene::open("queue-answered", Version::TwentyTwo, &["101"]).await;
    answer(&mut scene).await;
    scene.leaves(ANSWERED).await;
    scene.close().await;
}

#[tokio::test]
async fn a_queue_call_is_answered_and_the_caller_hangs_up() {
    let mut scene = Scene::open("queue-caller-ends", Version::TwentyTwo, &["101"]).await;
    scene.add_member("sales", "101").await;
    let caller = scene.trunk("trunk-calls-and-hangs-up", "+14155550600", 2500);
    scene.phone("101").rings().await;
    a_moment().await;
    scene.phone("101").answer().await;
    caller.passes().await;
    scene.leaves(ANSWERED).await;
    scene.close().await;
}

#[tokio::test]
async fn a_queue_call_rings_all_members_and_moves_to_who_answers() {
    let mut scene = Scene::open("queue-ring-all", Version::TwentyTwo, &["101", "102", "103"]).await;
    scene.add_member("sales", "101").await;
    scene.add_member("sales", "102").await;
    let caller = scene.trunk("trunk-calls", "600", 0);
    for extension in ["101", "102", "103"] {
        scene.phone(extension).rings().await;
    }
    a_moment().await;
    scene.phone("102").answer().await;
    scene.phone("101").is_idle_again().await;
    scene.phone("102").hang_up().await;
    caller.passes().await;
    // Carol's queues do not hold this one.
    scene
        .leaves(Expected::of(
            "inbound +14155550100 > 600 in sales: answered
            legs: to_device 101 cancelled_elsewhere, to_device 102 bye, to_device 103 cancelled_elsewhere, trunk_in bye
            Ann: rang; saw offered rescinded(answered_elsewhere); offered answered_elsewhere
            Bob: answered; saw offered answered ended; offered answered ended
            Carol: rang; saw nothing; queue_not_set",
        ))
        .await;
    scene.close().await;
}

#[tokio::test]
async fn a_queue_call_that_is_given_up_leaves_no_popup() {
    let mut scene = Scene::open("queue-abandoned", Version::TwentyTwo, &["101"]).await;
    abandon(&mut scene).await;
    scene.leaves(ABANDONED).await;
    scene.close().await;
}

#[tokio::test]
async fn a_queue_call_that_the_pbx_has_not_answered_is_given_up() {
    let mut scene = Scene::open("queue-cancelled", Version::TwentyTwo, &["101"]).await;
    scene.add_member("sales", "101").await;
    let caller = scene.trunk("trunk-gives-up", "601", 1500);
    scene.phone("101").rings().await;
    caller.passes().await;
    scene
        .leaves(Expected::of(
            "inbound +14155550100 > 601 in sales: missed
            legs: to_device 101 cancelled, trunk_in cancelled
            Ann: rang; saw offered rescinded(caller_hangup); offered caller_hangup",
        ))
        .await;
    scene.close().await;
}

#[tokio::test]
async fn a_queue_call_that_rings_again_is_the_same_offer() {
    let mut scene = Scene::open("queue-rings-again", Version::TwentyTwo, &["101"]).await;
    let caller = scene.trunk("trunk-calls", "603", 0);
    scene.phone("101").rings().await;
    scene.phone("101").is_idle_again().await;
    scene.phone("101").rings().await;
    a_moment().await;
    scene.phone("101").answer().await;
    a_moment().await;
    scene.phone("101").hang_up().await;
    caller.passes().await;
    scene
        .leaves(Expected::of(
            "inbound +14155550100 > 603 in support: answered
            legs: to_device 101 bye, to_device 101 cancelled, trunk_in bye
            Ann: answered; saw offered rescinded(timeout) offered answered ended; offered timeout offered answered ended",
        ))
        .await;
    scene.close().await;
}

#[tokio::test]
async fn a_queue_call_that_is_rejected_rings_again() {
    let mut scene = Scene::open("queue-rejected", Version::TwentyTwo, &["101"]).await;
    scene.add_member("sales", "101").await;
    let caller = scene.trunk("trunk-calls", "600", 0);
    scene.phone("101").rings().await;
    a_moment().await;
    scene.phone("101").reject().await;
    scene.phone("101").rings().await;
    a_moment().await;
    scene.phone("101").answer().await;
    a_moment().await;
    scene.phone("101").hang_up().await;
    caller.passes().await;
    scene
        .leaves(Expected::of(
            "inbound +14155550100 > 600 in sales: answered
            legs: to_device 101 bye, to_device 101 rejected 486, trunk_in bye
            Ann: answered; saw offered rescinded(declined) offered answered ended; offered declined offered answered ended",
        ))
        .await;
    scene.close().await;
}
