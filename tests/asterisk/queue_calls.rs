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
    scene.answers("101").await;
    scene.hangs_up("101", caller).await;
}

/// Drives [`ABANDONED`].
pub async fn abandon(scene: &mut Scene) {
    ring_until_the_caller_ends(scene, "trunk-calls-and-hangs-up", "600").await;
}

/// Ann's phone rings for a call to this number of `sales` until the caller has had enough.
async fn ring_until_the_caller_ends(scene: &mut Scene, how: &str, number: &str) {
    scene.add_member("sales", "101").await;
    let caller = scene.trunk(how, number, 1500);
    scene.rings("101").await;
    caller.passes().await;
}

/// An office in which Ann has her phone.
async fn with_ann(name: &str) -> Scene {
    Scene::open(name, Version::TwentyTwo, &["101"]).await
}

#[tokio::test]
async fn a_queue_call_is_answered() {
    with_ann("queue-answered").await.tells(answer, ANSWERED).await;
}

#[tokio::test]
async fn a_queue_call_is_answered_and_the_caller_hangs_up() {
    let story = async |scene: &mut Scene| {
        scene.add_member("sales", "101").await;
        let caller = scene.trunk("trunk-calls-and-hangs-up", "+14155550600", 2500);
        scene.answers("101").await;
        caller.passes().await;
    };
    with_ann("queue-caller-ends").await.tells(story, ANSWERED).await;
}

#[tokio::test]
async fn a_queue_call_rings_all_members_and_moves_to_who_answers() {
    let story = async |scene: &mut Scene| {
        scene.add_member("sales", "101").await;
        scene.add_member("sales", "102").await;
        let caller = scene.trunk("trunk-calls", "600", 0);
        for extension in ["101", "102", "103"] {
            scene.rings(extension).await;
        }
        a_moment().await;
        scene.phone("102").answer().await;
        scene.phone("101").is_idle_again().await;
        scene.hangs_up("102", caller).await;
    };
    // Carol's queues do not hold this one.
    let left = Expected::of(
        "inbound +14155550100 > 600 in sales: answered
        legs: to_device 101 cancelled_elsewhere, to_device 102 bye, to_device 103 cancelled_elsewhere, trunk_in bye
        Ann: rang; saw offered rescinded(answered_elsewhere); offered answered_elsewhere
        Bob: answered; saw offered answered ended; offered answered ended
        Carol: rang; saw nothing; queue_not_set",
    );
    let scene = Scene::open("queue-ring-all", Version::TwentyTwo, &["101", "102", "103"]).await;
    scene.tells(story, left).await;
}

#[tokio::test]
async fn a_queue_call_that_is_given_up_leaves_no_popup() {
    with_ann("queue-abandoned").await.tells(abandon, ABANDONED).await;
}

#[tokio::test]
async fn a_queue_call_that_the_pbx_has_not_answered_is_given_up() {
    let story = async |scene: &mut Scene| ring_until_the_caller_ends(scene, "trunk-gives-up", "601").await;
    let left = Expected::of(
        "inbound +14155550100 > 601 in sales: missed
        legs: to_device 101 cancelled, trunk_in cancelled
        Ann: rang; saw offered rescinded(caller_hangup); offered caller_hangup",
    );
    with_ann("queue-cancelled").await.tells(story, left).await;
}

#[tokio::test]
async fn a_queue_call_that_rings_again_is_the_same_offer() {
    let story = async |scene: &mut Scene| {
        let caller = scene.trunk("trunk-calls", "603", 0);
        scene.rings("101").await;
        scene.phone("101").is_idle_again().await;
        scene.answers("101").await;
        scene.hangs_up("101", caller).await;
    };
    let left = Expected::of(
        "inbound +14155550100 > 603 in support: answered
        legs: to_device 101 bye, to_device 101 cancelled, trunk_in bye
        Ann: answered; saw offered rescinded(timeout) offered answered ended; offered timeout offered answered ended",
    );
    with_ann("queue-rings-again").await.tells(story, left).await;
}

#[tokio::test]
async fn a_queue_call_that_is_rejected_rings_again() {
    let story = async |scene: &mut Scene| {
        scene.add_member("sales", "101").await;
        let caller = scene.trunk("trunk-calls", "600", 0);
        scene.rejects("101").await;
        scene.answers("101").await;
        scene.hangs_up("101", caller).await;
    };
    let left = Expected::of(
        "inbound +14155550100 > 600 in sales: answered
        legs: to_device 101 bye, to_device 101 rejected 486, trunk_in bye
        Ann: answered; saw offered rescinded(declined) offered answered ended; offered declined offered answered ended",
    );
    with_ann("queue-rejected").await.tells(story, left).await;
}
