//! Calls that are sent on to a colleague.

use crate::pbx::Version;
use crate::record::Expected;
use crate::scene::{Scene, a_moment};

/// A call to Ann's own number, which she sends on to Bob without asking him.
pub const BLIND: Expected = Expected::of(
    "inbound +14155550100 > +14155550101: answered
    legs: to_device 101 bye, to_device 102 bye, trunk_in bye
    Ann: answered; saw offered answered ended; offered answered transferred
    Bob: answered; saw offered answered ended; offered answered ended",
);

/// Drives [`BLIND`].
pub async fn send_on(scene: &mut Scene) {
    answer_and_send_on(scene, "+14155550101").await;
}

/// Ann answers a call to this number and sends it on to Bob, who answers and ends it.
async fn answer_and_send_on(scene: &mut Scene, number: &str) {
    let caller = scene.trunk("trunk-calls", number, 0);
    scene.answers("101").await;
    scene.phone("101").transfer("102").await;
    scene.answers("102").await;
    scene.hangs_up("102", caller).await;
}

/// An office in which Ann and Bob have their phones.
async fn with_both(name: &str) -> Scene {
    Scene::open(name, Version::TwentyTwo, &["101", "102"]).await
}

#[tokio::test]
async fn a_call_is_sent_on_without_asking() {
    with_both("transfer-blind").await.tells(send_on, BLIND).await;
}

#[tokio::test]
async fn a_queue_call_is_sent_on_without_asking() {
    let story = async |scene: &mut Scene| {
        scene.add_member("sales", "101").await;
        answer_and_send_on(scene, "600").await;
    };
    let left = Expected::of(
        "inbound +14155550100 > 600 in sales: answered
        legs: to_device 101 bye, to_device 102 bye, trunk_in bye
        Ann: answered; saw offered answered ended; offered answered transferred
        Bob: answered; saw offered answered ended; offered answered ended",
    );
    with_both("transfer-queue").await.tells(story, left).await;
}

#[tokio::test]
async fn a_call_is_sent_on_after_asking() {
    let story = async |scene: &mut Scene| {
        let caller = scene.trunk("trunk-calls", "+14155550101", 0);
        scene.answers("101").await;
        let first = scene.dialog_of("101");
        scene.phone("101").hold().await;
        scene.pbx.ami.event("Hold", &[]).await;
        scene.phone("101").dial("102").await;
        scene.answers("102").await;
        scene.phone("101").talks().await;
        // Sends the call she asks in to where the held one is, as a desk phone does on its transfer key.
        scene.phone("101").transfer(&first).await;
        scene.pbx.ami.event("AttendedTransfer", &[]).await;
        a_moment().await;
        scene.hangs_up("102", caller).await;
    };
    // What was asked is a call of its own; the one who was asked is part of the caller's from then on.
    let left = Expected::of(
        "inbound +14155550100 > +14155550101: answered
        legs: to_device 101 bye, to_device 102 bye, trunk_in bye
        Ann: answered; saw offered answered ended; offered answered transferred
        Bob: answered; saw offered answered ended; offered answered ended
        internal 101 > 102: answered
        legs: from_device 101 bye, to_device 102 bye
        Ann: placed; saw nothing; internal_call
        Bob: answered; saw nothing; internal_call",
    )
    // The BYE to Ann may be here before the manager interface says why.
    .or_with_both(
        "inbound +14155550100 > +14155550101: answered
        legs: to_device 101 bye, to_device 102 bye, trunk_in bye
        Ann: answered; saw offered answered ended; offered answered ended
        Bob: answered; saw offered answered ended; offered answered ended
        internal 101 > 102: answered
        legs: from_device 101 bye, to_device 102 bye
        Ann: placed; saw nothing; internal_call
        Bob: answered; saw nothing; internal_call",
    )
    .hep_alone(
        "inbound +14155550100 > +14155550101: answered
        legs: to_device 101 bye, trunk_in bye
        Ann: answered; saw offered answered ended; offered answered transferred
        internal 101 > 102: answered
        legs: from_device 101 bye, to_device 102 bye, trunk_in bye
        Ann: placed; saw nothing; internal_call
        Bob: answered; saw nothing; internal_call",
    );
    with_both("transfer-attended").await.tells(story, left).await;
}
