//! Calls to one phone, and from it.

use crate::pbx::Version;
use crate::record::Expected;
use crate::scene::{Scene, a_moment};

/// A call from outside to Ann's own number, which she answers.
pub const ANSWERED: Expected = Expected::of(
    "inbound +14155550100 > +14155550101: answered
    legs: to_device 101 bye, trunk_in bye
    Ann: answered; saw offered answered ended; offered answered ended",
);

/// A call from Ann to Bob, which he answers.
pub const INTERNAL: Expected = Expected::of(
    "internal 101 > 102: answered
    legs: from_device 101 bye, to_device 102 bye
    Ann: placed; saw nothing; internal_call
    Bob: answered; saw nothing; internal_call",
);

/// A call from Ann to the outside, which is answered there.
pub const OUTBOUND: Expected = Expected::of(
    "outbound 101 > +14155550123: answered
    legs: from_device 101 bye, trunk_out bye
    Ann: placed; saw offered answered ended; offered answered ended",
);

/// Drives [`ANSWERED`].
pub async fn answer(scene: &mut Scene) {
    let caller = scene.trunk("trunk-calls", ANNS_NUMBER, 0);
    scene.answers("101").await;
    scene.hangs_up("101", caller).await;
}

/// Drives [`INTERNAL`].
pub async fn call_a_colleague(scene: &mut Scene) {
    scene.phone("101").dial("102").await;
    scene.answers("102").await;
    scene.phone("101").hang_up().await;
    scene.phone("102").is_idle_again().await;
}

/// Drives [`OUTBOUND`].
pub async fn call_outside(scene: &mut Scene) {
    dial_outside(scene, "+14155550123").await;
}

async fn dial_outside(scene: &mut Scene, number: &str) {
    let outside = scene.outside(500);
    scene.phone("101").dial(number).await;
    scene.phone("101").talks().await;
    a_moment().await;
    scene.hangs_up("101", outside).await;
}

/// An office in which Ann has her phone.
async fn with_ann(name: &str) -> Scene {
    Scene::open(name, Version::TwentyTwo, &["101"]).await
}

#[tokio::test]
async fn a_call_to_a_phone_is_answered() {
    with_ann("direct-answered").await.tells(answer, ANSWERED).await;
}

#[tokio::test]
async fn a_call_to_a_phone_on_tcp_is_answered_and_the_caller_hangs_up() {
    let story = async |scene: &mut Scene| {
        let caller = scene.trunk("trunk-calls-and-hangs-up", ANNS_NUMBER, 1500);
        scene.answers("101").await;
        caller.passes().await;
    };
    Scene::open_on("direct-tcp", "tcp", &["101"]).await.tells(story, ANSWERED).await;
}

#[tokio::test]
async fn a_call_that_nobody_answers_is_missed() {
    let story = async |scene: &mut Scene| {
        let caller = scene.trunk("trunk-is-not-answered", "201", 0);
        scene.rings("101").await;
        caller.passes().await;
    };
    let left = Expected::of(
        "inbound +14155550100 > 201: missed
        legs: to_device 101 cancelled, trunk_in rejected
        Ann: rang; saw offered rescinded(timeout); offered timeout",
    );
    with_ann("direct-unanswered").await.tells(story, left).await;
}

#[tokio::test]
async fn a_caller_who_gives_up_takes_the_popup_along() {
    let story = async |scene: &mut Scene| {
        let caller = scene.trunk("trunk-gives-up", ANNS_NUMBER, 1000);
        scene.rings("101").await;
        caller.passes().await;
    };
    let left = Expected::of(
        "inbound +14155550100 > +14155550101: missed
        legs: to_device 101 cancelled, trunk_in cancelled
        Ann: rang; saw offered rescinded(caller_hangup); offered caller_hangup",
    );
    with_ann("direct-cancelled").await.tells(story, left).await;
}

#[tokio::test]
async fn a_call_that_is_rejected_is_busy() {
    let story = async |scene: &mut Scene| {
        let caller = scene.trunk("trunk-is-rejected", ANNS_NUMBER, 0);
        scene.rejects("101").await;
        caller.passes().await;
    };
    let left = Expected::of(
        "inbound +14155550100 > +14155550101: busy
        legs: to_device 101 rejected 486, trunk_in rejected
        Ann: rang; saw offered rescinded(declined); offered declined",
    );
    with_ann("direct-busy").await.tells(story, left).await;
}

#[tokio::test]
async fn a_call_between_colleagues_pops_nowhere() {
    let scene = Scene::open("internal", Version::TwentyTwo, &["101", "102"]).await;
    scene.tells(call_a_colleague, INTERNAL).await;
}

#[tokio::test]
async fn a_call_to_the_outside_is_answered() {
    with_ann("outbound-answered").await.tells(call_outside, OUTBOUND).await;
}

#[tokio::test]
async fn a_call_to_the_outside_whose_numbers_the_dial_plan_rewrites_is_one_call() {
    let story = async |scene: &mut Scene| dial_outside(scene, "9+14155550123").await;
    // What she dialled is nobody's number until the PBX calls the outside. Nothing in SIP ties the two legs: other Call-ID,
    // other caller, other number. So with HEP alone it is two calls, and the leg to the outside looks like one from there.
    let left = Expected::of(
        "outbound 101 > +14155550123: answered
        legs: from_device 101 bye, trunk_out bye
        Ann: placed; saw offered answered ended; internal_call offered answered ended",
    )
    .hep_alone(
        "inbound +14155550199 > +14155550123: missed
        legs: trunk_out bye
        nobody: no_device
        internal 101 > 9+14155550123: answered
        legs: from_device 101 bye
        Ann: placed; saw nothing; internal_call",
    );
    with_ann("outbound-rewritten").await.tells(story, left).await;
}

#[tokio::test]
async fn a_call_to_the_outside_is_given_up() {
    let mut scene = with_ann("outbound-cancelled").await;
    let _outside = scene.outside(20_000);
    scene.phone("101").dial("+14155550124").await;
    scene.pbx.ami.event("DialState", &[("DialStatus", "RINGING")]).await;
    a_moment().await;
    scene.phone("101").hang_up().await;
    scene
        .leaves(Expected::of(
            "outbound 101 > +14155550124: cancelled
            legs: from_device 101 cancelled, trunk_out cancelled
            Ann: placed; saw offered rescinded(caller_hangup); offered caller_hangup",
        ))
        .await;
    scene.close().await;
}

#[tokio::test]
async fn a_call_on_hold_goes_on() {
    let story = async |scene: &mut Scene| {
        let caller = scene.trunk("trunk-calls", ANNS_NUMBER, 0);
        scene.answers("101").await;
        scene.phone("101").hold().await;
        scene.pbx.ami.event("Hold", &[]).await;
        a_moment().await;
        scene.phone("101").resume().await;
        scene.pbx.ami.event("Unhold", &[]).await;
        scene.hangs_up("101", caller).await;
    };
    with_ann("hold").await.tells(story, ANSWERED).await;
}

/// The outside reaches her phone by it.
const ANNS_NUMBER: &str = "+14155550101";
