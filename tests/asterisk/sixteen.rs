//! The same on Asterisk 16, as far as versions may differ.

use crate::pbx::Version;
use crate::scene::Scene;
use crate::{control, direct_calls, members, phones, queue_calls, transfers};

#[tokio::test]
async fn phones_register_refresh_and_unregister() {
    phones::come_and_go(Version::Sixteen).await;
}

#[tokio::test]
async fn members_come_pause_and_go() {
    members::come_and_go(Version::Sixteen).await;
}

#[tokio::test]
async fn members_are_added_preferred_paused_and_removed_from_here() {
    control::changes(Version::Sixteen).await;
}

#[tokio::test]
async fn q13_an_agent_logs_out_of_the_queues_and_back_in() {
    control::sessions(Version::Sixteen).await;
}

#[tokio::test]
async fn a_queue_call_is_answered() {
    let scene = Scene::open("16-queue-answered", Version::Sixteen, &["101"]).await;
    scene.tells(queue_calls::answer, queue_calls::ANSWERED).await;
}

#[tokio::test]
async fn a_queue_call_that_is_given_up_leaves_no_popup() {
    let scene = Scene::open("16-queue-abandoned", Version::Sixteen, &["101"]).await;
    scene.tells(queue_calls::abandon, queue_calls::ABANDONED).await;
}

#[tokio::test]
async fn a_call_to_a_phone_is_answered() {
    let scene = Scene::open("16-direct", Version::Sixteen, &["101"]).await;
    scene.tells(direct_calls::answer, direct_calls::ANSWERED).await;
}

#[tokio::test]
async fn a_call_between_colleagues_pops_nowhere() {
    let scene = Scene::open("16-internal", Version::Sixteen, &["101", "102"]).await;
    scene.tells(direct_calls::call_a_colleague, direct_calls::INTERNAL).await;
}

#[tokio::test]
async fn a_call_to_the_outside_is_answered() {
    let scene = Scene::open("16-outbound", Version::Sixteen, &["101"]).await;
    scene.tells(direct_calls::call_outside, direct_calls::OUTBOUND).await;
}

#[tokio::test]
async fn a_call_is_sent_on_without_asking() {
    let scene = Scene::open("16-transfer", Version::Sixteen, &["101", "102"]).await;
    scene.tells(transfers::send_on, transfers::BLIND).await;
}
