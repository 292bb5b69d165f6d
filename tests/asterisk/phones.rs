//! Phones that come, stay and go.

use crate::pbx::Version;
use crate::record::Expected;
use crate::scene::Scene;
use crate::support::wait::until;

/// Phones register, refresh, and are switched off; one comes back.
pub async fn come_and_go(version: Version) {
    let mut scene = Scene::open_empty("phones", version, None).await;
    // Refreshed after about two seconds.
    scene.plug_in("101", "udp", 3).await;
    scene.plug_in("102", "tcp", 60).await;
    // 103 is a member of a queue, so the manager interface knows it even without a phone.
    let both = Expected::of("101 connected, 102 connected, 103 disconnected");
    scene.phones_are(both.hep_alone("101 connected, 102 connected")).await;
    let refreshed = scene.registrations("101") + 2;
    until("the phone has refreshed twice", async || (scene.registrations("101") >= refreshed).then_some(())).await;
    scene.history_is("101", Expected::of("up")).await;
    scene.take_phone("102").switch_off();
    let one = Expected::of("101 connected, 102 disconnected, 103 disconnected");
    scene.phones_are(one.hep_alone("101 connected, 102 disconnected")).await;
    scene.history_is("102", Expected::of("up down")).await;
    scene.close().await;
}

#[tokio::test]
async fn phones_register_refresh_and_unregister() {
    come_and_go(Version::TwentyTwo).await;
}

#[tokio::test]
async fn a_phone_without_power_is_gone_once_its_time_is_over() {
    let mut scene = Scene::open_empty("phone-expires", Version::TwentyTwo, None).await;
    scene.plug_in("101", "udp", 3).await;
    let here = Expected::of("101 connected, 103 disconnected").hep_alone("101 connected");
    scene.phones_are(here).await;
    scene.take_phone("101").unplug();
    // The manager interface says that it is gone; HEP says nothing, so it might have refreshed unseen.
    scene.phones_are(Expected::of("101 disconnected, 103 disconnected").hep_alone("101 stale")).await;
    scene.plug_in("101", "udp", 60).await;
    scene.phones_are(here).await;
    scene.close().await;
}
