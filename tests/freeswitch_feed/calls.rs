//! Each recorded call, played into the daemon: the record, the popups and their reasons. Once with the event socket
//! alone and once with HEP beside it, which must come to the same.

use crate::office::{Office, Order};

/// Plays `name` with the event socket alone and with HEP, and sees that both leave `expected` behind.
async fn leaves(name: &str, expected: &str) {
    let expected: Vec<&str> = expected.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    for with_hep in [false, true] {
        let office = Office::open(name, with_hep).await;
        office.play("json", name, Order::Recorded).await;
        assert_eq!(office.calls(1).await, expected, "{name}, with HEP: {with_hep}");
        office.daemon.api();
    }
}

#[tokio::test]
async fn a_direct_call_is_answered() {
    leaves(
        "direct-answered",
        "inbound +14155550100 > 201: answered
        legs: to_device 201 bye, trunk_in bye
        Ann: answered; saw offered answered ended; offered answered ended",
    )
    .await;
}

#[tokio::test]
async fn nobody_answers_a_direct_call() {
    leaves(
        "direct-noanswer",
        "inbound +14155550100 > 201: missed
        legs: to_device 201 cancelled, trunk_in rejected 480
        Ann: rang; saw offered rescinded(timeout); offered timeout",
    )
    .await;
}

#[tokio::test]
async fn the_caller_of_a_direct_call_gives_up() {
    leaves(
        "direct-cancel",
        "inbound +14155550100 > 201: missed
        legs: to_device 201 cancelled, trunk_in cancelled
        Ann: rang; saw offered rescinded(caller_hangup); offered caller_hangup",
    )
    .await;
}

#[tokio::test]
async fn a_colleague_is_called() {
    leaves(
        "internal-call",
        "internal 201 > 202: answered
        legs: from_device 201 bye, to_device 202 bye
        Ann: placed; saw ; internal_call
        Bob: answered; saw ; internal_call",
    )
    .await;
}

#[tokio::test]
async fn somebody_outside_is_called() {
    leaves(
        "outbound-answered",
        "outbound 201 > +14155550123: answered
        legs: from_device 201 bye, trunk_out bye
        Ann: placed; saw offered answered ended; offered answered ended",
    )
    .await;
}

#[tokio::test]
async fn a_queue_call_is_answered() {
    leaves(
        "queue-call",
        "inbound +14155550100 > 650 in sales@default: answered
        legs: to_device 201 bye, trunk_in bye
        Ann: answered; saw offered answered ended; offered answered ended
        Bob: nothing; saw ; not_rung",
    )
    .await;
}

#[tokio::test]
async fn a_queue_call_rings_two_phones() {
    leaves(
        "queue-ringall",
        "inbound +14155550100 > 650 in sales@default: answered
        legs: to_device 201 cancelled_elsewhere, to_device 202 bye, trunk_in bye
        Ann: rang; saw offered rescinded(answered_elsewhere); offered answered_elsewhere
        Bob: answered; saw offered answered ended; offered answered ended",
    )
    .await;
}

#[tokio::test]
async fn the_caller_gives_up_in_the_queue() {
    leaves(
        "queue-abandon",
        "inbound +14155550100 > 650 in sales@default: missed
        legs: to_device 201 cancelled, trunk_in bye
        Ann: rang; saw offered rescinded(caller_hangup); offered caller_hangup
        Bob: nothing; saw ; not_rung",
    )
    .await;
}

#[tokio::test]
async fn the_only_agent_is_not_registered() {
    leaves(
        "queue-agent-unregistered",
        "inbound +14155550100 > 650 in sales@default: missed
        legs: trunk_in bye
        Ann: nothing; saw ; not_rung
        Bob: nothing; saw ; not_rung",
    )
    .await;
}

#[tokio::test]
async fn a_queue_call_is_transferred() {
    leaves(
        "blind-transfer",
        "inbound +14155550100 > 650 in sales@default: answered
        legs: to_device 201 bye, to_device 202 bye, trunk_in bye
        Ann: answered; saw offered answered ended; offered answered transferred
        Bob: answered; saw offered answered ended; offered answered ended",
    )
    .await;
}

#[tokio::test]
async fn a_phone_on_tcp_is_called() {
    leaves(
        "tcp-phone",
        "inbound +14155550100 > 202: answered
        legs: to_device 202 bye, trunk_in bye
        Bob: answered; saw offered answered ended; offered answered ended",
    )
    .await;
}

#[tokio::test]
async fn plain_events_leave_the_same() {
    use crate::server::Manners;
    let manners = Manners { formats: &["plain"], ..Manners::default() };
    let office = Office::open_as("plain", false, manners, "secret = \"ClueCon\"").await;
    office.play("plain", "queue-call", Order::Recorded).await;
    let calls = office.calls(1).await;
    assert_eq!(calls[0], "inbound +14155550100 > 650 in sales@default: answered");
    assert_eq!(calls[1], "legs: to_device 201 bye, trunk_in bye");
}

#[tokio::test]
async fn the_two_feeds_in_any_order_within_20_ms_leave_the_same() {
    for name in ["queue-ringall", "direct-answered"] {
        let mut first = None;
        for seed in 1..=4 {
            let office = Office::open(name, true).await;
            office.play("json", name, Order::Shuffled(seed)).await;
            let calls = office.calls(1).await;
            let first = first.get_or_insert_with(|| calls.clone());
            assert_eq!(*first, calls, "{name}, seed {seed}");
        }
    }
}
