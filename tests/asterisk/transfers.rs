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
)
// REFER is seen, but nothing says that the leg to Bob follows from it.
.hep_alone(
    "inbound +14155550100 > +14155550101: answered
    legs: to_device 101 bye, trunk_in bye
    Ann: answered; saw offered answered ended; offered answered transferred
    inbound +14155550100 > 102: answered
    legs: to_device 102 bye
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
        .leaves(
            Expected::of(
                "inbound +14155550100 > 600 in sales: answered
            legs: to_device 101 bye, to_device 102 bye, trunk_in bye
            Ann: answered; saw offered answered ended; offered answered transferred
            Bob: answered; saw offered answered ended; offered answered ended",
            )
            .hep_alone(
                "inbound +14155550100 > 102: answered
                legs: to_device 102 bye
                Bob: answered; saw offered answered ended; offered answered ended
                inbound +14155550100 > 600 in sales: answered
                legs: to_device 101 bye, trunk_in bye
                Ann: answered; saw offered answered ended; offered answered transferred
                Bob: nothing; saw nothing; not_linked",
            ),
        )
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
            Expected::of(
                "inbound +14155550100 > +14155550101: answered
                legs: from_device 101 bye, to_device 101 bye, to_device 102 bye, trunk_in bye
                Ann: placed; saw offered answered ended; offered answered transferred
                Bob: answered; saw offered answered ended; offered answered ended",
            )
            .hep_alone(
                "inbound +14155550100 > +14155550101: answered
                legs: to_device 101 bye, trunk_in bye
                Ann: answered; saw offered answered ended; offered answered ended
                internal 101 > 102: answered
                legs: from_device 101 bye, to_device 102 bye
                Ann: placed; saw nothing; internal_call
                Bob: answered; saw nothing; internal_call",
            ),
        )
        .await;
    scene.close().await;
}
