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
    let caller = scene.trunk("trunk-calls", "+14155550101", 0);
    scene.phone("101").rings().await;
    scene.phone("101").answer().await;
    a_moment().await;
    scene.phone("101").transfer("102").await;
    scene.phone("102").rings().await;
    a_moment().await;
    scene.phone("102").answer().await;
    a_moment().await;
    scene.phone("102").hang_up().await;
    caller.passes().await;
}

#[tokio::test]
async fn a_call_is_sent_on_without_asking() {
    let mut scene = Scene::open("transfer-blind", Version::TwentyTwo, &["101", "102"]).await;
    send_on(&mut scene).await;
    scene.leaves(BLIND).await;
    scene.close().await;
}

#[tokio::test]
async fn a_queue_call_is_sent_on_without_asking() {
    let mut scene = Scene::open("transfer-queue", Version::TwentyTwo, &["101", "102"]).await;
    scene.add_member("sales", "101").await;
    let caller = scene.trunk("trunk-calls", "600", 0);
    scene.phone("101").rings().await;
    scene.phone("101").answer().await;
    a_moment().await;
    scene.phone("101").transfer("102").await;
    scene.phone("102").rings().await;
    a_moment().await;
    scene.phone("102").answer().await;
    a_moment().await;
    scene.phone("102").hang_up().await;
    caller.passes().await;
    scene
        .leaves(Expected::of(
            "inbound +14155550100 > 600 in sales: answered
            legs: to_device 101 bye, to_device 102 bye, trunk_in bye
            Ann: answered; saw offered answered ended; offered answered transferred
            Bob: answered; saw offered answered ended; offered answered ended",
        ))
        .await;
    scene.close().await;
}

#[tokio::test]
async fn a_call_is_sent_on_after_asking() {
    let mut scene = Scene::open("transfer-attended", Version::TwentyTwo, &["101", "102"]).await;
    let caller = scene.trunk("trunk-calls", "+14155550101", 0);
    scene.phone("101").rings().await;
    scene.phone("101").answer().await;
    a_moment().await;
    let first = scene.dialog_of("101");
    scene.phone("101").hold().await;
    scene.pbx.ami.event("Hold", &[]).await;
    scene.phone("101").dial("102").await;
    scene.phone("102").rings().await;
    a_moment().await;
    scene.phone("102").answer().await;
    scene.phone("101").talks().await;
    a_moment().await;
    // Sends the call she asks in to where the held one is, as a desk phone does on its transfer key.
    scene.phone("101").transfer(&first).await;
    scene.pbx.ami.event("AttendedTransfer", &[]).await;
    a_moment().await;
    scene.phone("102").hang_up().await;
    caller.passes().await;
    scene
        .leaves(
            // What was asked is a call of its own; the one who was asked is part of the caller's from then on.
            Expected::of(
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
            ),
        )
        .await;
    scene.close().await;
}
