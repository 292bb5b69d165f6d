//! What is left after the PBX, or the wire to it, was gone in mid-call.

use std::time::Duration;

use crate::pbx::Version;
use crate::proxy::Proxy;
use crate::record::{Expected, Feeds};
use crate::scene::{Scene, a_moment};
use crate::support::sipp::Sipp;
use crate::watcher::{STAFF, Watcher};

/// A queue call that Ann has answered, and a second caller to `sales` for whom 103 rings.
async fn two_calls(scene: &mut Scene) -> [Sipp; 2] {
    scene.add_member("sales", "101").await;
    let first = scene.trunk("trunk-calls", "+14155550101", 0);
    scene.phone("101").rings().await;
    scene.phone("101").answer().await;
    let second = scene.second_trunk("600");
    scene.phone("103").rings().await;
    a_moment().await;
    for watcher in &scene.watchers {
        assert!(watcher.open_offers().await > 0, "{:?} knows of no call", watcher.feeds);
    }
    [first, second]
}

/// What hookswitch says of phones, queues and calls is what one says that has just been started.
async fn equals_a_fresh_snapshot(scene: &mut Scene) {
    for feeds in scene.watchers.iter().map(|watcher| watcher.feeds).filter(|feeds| feeds.has_ami()).collect::<Vec<_>>()
    {
        let fresh = Watcher::start("fresh", feeds, scene.pbx.manager).await;
        fresh.is_up().await;
        let (phones, members) = (fresh.phones().await, fresh.members("sales").await);
        scene.shows(feeds, "phones", &[phones], async |watcher| vec![watcher.phones().await]).await;
        scene.shows(feeds, "members", &[members], async |watcher| vec![watcher.members("sales").await]).await;
    }
}

/// With HEP alone nobody says that the calls are gone until the phones do.
async fn phones_hang_up(scene: &mut Scene) {
    for (_, extension, _) in STAFF {
        scene.phone(extension).hangs_up().await;
    }
}

#[tokio::test]
async fn no_popup_stays_when_the_pbx_is_restarted_in_mid_call() {
    let mut scene = Scene::open("fault-restart", Version::TwentyTwo, &["101", "102", "103"]).await;
    let _callers = two_calls(&mut scene).await;
    scene.pbx.stop();
    scene.starts_again().await;
    scene.no_offer_is_open(|_| true).await;
    equals_a_fresh_snapshot(&mut scene).await;
    scene.close().await;
}

#[tokio::test]
async fn no_popup_stays_when_the_pbx_is_killed_in_mid_call() {
    let mut scene = Scene::open("fault-killed", Version::TwentyTwo, &["101", "102", "103"]).await;
    let _callers = two_calls(&mut scene).await;
    scene.pbx.kill();
    scene.no_offer_is_open(Feeds::has_ami).await;
    scene.starts_again().await;
    phones_hang_up(&mut scene).await;
    scene.no_offer_is_open(|_| true).await;
    equals_a_fresh_snapshot(&mut scene).await;
    scene.close().await;
}

#[tokio::test]
async fn what_happened_while_the_manager_interface_was_cut_off_is_made_up_for() {
    let wire = Proxy::open().await;
    let mut scene = Scene::open_over("fault-cut", &wire, &["101", "102", "103"]).await;
    let [first, second] = two_calls(&mut scene).await;
    wire.cut();
    // One call ends, one is answered, a member leaves, another comes.
    scene.phone("101").hang_up().await;
    first.passes().await;
    scene.phone("103").answer().await;
    scene.remove_member("sales", "101").await;
    scene.add_member("sales", "102").await;
    tokio::time::sleep(Duration::from_secs(10)).await;
    wire.lead_to(scene.pbx.manager);
    scene.members_are("sales", Expected::of("sales: 102, 103").hep_alone("sales: nobody")).await;
    equals_a_fresh_snapshot(&mut scene).await;
    scene.phone("103").hang_up().await;
    second.passes().await;
    scene.no_offer_is_open(|_| true).await;
    scene.close().await;
}
