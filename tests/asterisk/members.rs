//! Who is in a queue. HEP does not know.

use crate::pbx::Version;
use crate::record::Expected;
use crate::scene::{Scene, a_moment};

/// Members come, pause, go on and leave as an administrator says.
pub async fn come_and_go(version: Version) {
    let mut scene = Scene::open("members", version, &["101", "102", "103"]).await;
    let without = Expected::of("sales: 103").hep_alone("sales: nobody");
    scene.members_are("sales", without).await;
    scene.add_member("sales", "101").await;
    scene.add_member("sales", "102").await;
    scene.members_are("sales", Expected::of("sales: 101, 102, 103").hep_alone("sales: nobody")).await;
    let pause = [("Queue", "sales"), ("Interface", "PJSIP/101"), ("Paused", "true"), ("Reason", "lunch")];
    scene.pbx.ami.act("QueuePause", &pause).await;
    scene.members_are("sales", Expected::of("sales: 101 paused (lunch), 102, 103").hep_alone("sales: nobody")).await;
    let go_on = [("Queue", "sales"), ("Interface", "PJSIP/101"), ("Paused", "false")];
    scene.pbx.ami.act("QueuePause", &go_on).await;
    scene.members_are("sales", Expected::of("sales: 101, 102, 103").hep_alone("sales: nobody")).await;
    // In all queues at once.
    let everywhere = [("Interface", "PJSIP/101"), ("Paused", "true"), ("Reason", "meeting")];
    scene.pbx.ami.act("QueuePause", &everywhere).await;
    scene.members_are("sales", Expected::of("sales: 101 paused (meeting), 102, 103").hep_alone("sales: nobody")).await;
    scene.members_are("support", Expected::of("support: 101 paused (meeting)").hep_alone("support: nobody")).await;
    for extension in ["101", "102"] {
        scene.remove_member("sales", extension).await;
    }
    scene.members_are("sales", without).await;
    let go_on = [("Interface", "PJSIP/101"), ("Paused", "false")];
    scene.pbx.ami.act("QueuePause", &go_on).await;
    scene.close().await;
}

#[tokio::test]
async fn members_come_pause_and_go() {
    come_and_go(Version::TwentyTwo).await;
}

#[tokio::test]
async fn agents_log_in_pause_and_log_out_by_feature_codes() {
    let mut scene = Scene::open("feature-codes", Version::TwentyTwo, &["101"]).await;
    for (code, members) in [
        ("*45", Expected::of("sales: 101, 103").hep_alone("sales: nobody")),
        ("*47", Expected::of("sales: 101 paused (lunch), 103").hep_alone("sales: nobody")),
        ("*48", Expected::of("sales: 101, 103").hep_alone("sales: nobody")),
        ("*46", Expected::of("sales: 103").hep_alone("sales: nobody")),
    ] {
        scene.phone("101").dial(code).await;
        scene.phone("101").is_idle_again().await;
        scene.members_are("sales", members).await;
        a_moment().await;
    }
    scene
        .leaves(Expected::of(
            "internal 101 > *45: answered
            legs: from_device 101 bye
            Ann: placed; saw nothing; internal_call
            internal 101 > *46: answered
            legs: from_device 101 bye
            Ann: placed; saw nothing; internal_call
            internal 101 > *47: answered
            legs: from_device 101 bye
            Ann: placed; saw nothing; internal_call
            internal 101 > *48: answered
            legs: from_device 101 bye
            Ann: placed; saw nothing; internal_call",
        ))
        .await;
    scene.close().await;
}
