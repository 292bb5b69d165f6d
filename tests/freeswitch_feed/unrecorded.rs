//! What was not recorded: events made up by what the recordings and the source of version 1.10 say.

use hookswitch::ingest::freeswitch::codec::Frame;

use crate::bench::Bench;

/// A plain event.
fn event(name: &str, fields: &str) -> Frame {
    let body = format!("Event-Name: {name}\n{fields}\n\n");
    let text = format!("Content-Type: text/event-plain\nContent-Length: {}\n\n{body}", body.len());
    crate::recorded::cut(text.as_bytes()).remove(0).1
}

/// A channel that a phone made, or that the PBX made for the leg `of`.
fn created(uuid: &str, of: Option<&str>, at: u64, more: &str) -> Frame {
    let way = if of.is_some() { "outbound" } else { "inbound" };
    let originator = of.map(|of| format!("variable_originator: {of}\n")).unwrap_or_default();
    let fields = format!(
        "Unique-ID: {uuid}\nCall-Direction: {way}\nCaller-Channel-Created-Time: {at}\n{originator}\
         Channel-Call-UUID: {}\n{more}",
        of.unwrap_or(uuid)
    );
    event("CHANNEL_CREATE", fields.trim_end())
}

fn bridged(own: &str, other: &str) -> Frame {
    event(
        "CHANNEL_BRIDGE",
        &format!(
            "Unique-ID: {own}\nBridge-A-Unique-ID: {own}\nBridge-B-Unique-ID: {other}\nOther-Leg-Unique-ID: {other}"
        ),
    )
}

#[test]
fn after_an_attended_transfer_the_new_leg_is_in_the_old_call() {
    let mut bench = Bench::new();
    // a calls b; the phone behind b consults (c calls d) and connects a with d. The event is d's.
    bench.frame(&created("a", None, 1_000, ""));
    bench.frame(&created("b", Some("a"), 1_001, ""));
    bench.frame(&created("c", None, 9_000, ""));
    bench.frame(&created("d", Some("c"), 9_001, ""));
    bench.frame(&event("CHANNEL_ANSWER", "Unique-ID: c"));
    bench.frame(&event("CHANNEL_ANSWER", "Unique-ID: b"));
    bench.frame(&bridged("d", "a"));
    let consulted = "Unique-ID: c\nHangup-Cause: NORMAL_CLEARING\nvariable_endpoint_disposition: ATTENDED_TRANSFER";
    bench.frame(&event("CHANNEL_HANGUP_COMPLETE", consulted));
    let first = "Unique-ID: b\nHangup-Cause: NORMAL_CLEARING\nvariable_transfer_to: att%3Ad";
    bench.frame(&event("CHANNEL_HANGUP_COMPLETE", first));
    assert_eq!(bench.told()[6..], ["D moves to A", "C referred", "C ended bye", "B referred", "B ended bye",]);
}

#[test]
fn a_pick_up_takes_the_older_call_and_the_phone_that_rang_was_called_in_vain() {
    let mut bench = Bench::new();
    bench.frame(&created("a", None, 1_000, ""));
    bench.frame(&created("b", Some("a"), 1_001, ""));
    bench.frame(&created("c", None, 5_000, ""));
    // Which of the two legs the event is about says nothing.
    bench.frame(&bridged("c", "a"));
    bench.frame(&event("CHANNEL_HANGUP_COMPLETE", "Unique-ID: b\nHangup-Cause: PICKED_OFF"));
    assert_eq!(bench.told()[3..], ["C moves to A", "B ended cancelledelsewhere"]);
}

#[test]
fn a_click_to_dial_is_one_call_although_the_pbx_calls_both_ends() {
    let mut bench = Bench::new();
    bench.frame(&event("CHANNEL_CREATE", "Unique-ID: a\nCall-Direction: outbound\nCaller-Channel-Created-Time: 1000"));
    bench.frame(&event("CHANNEL_ANSWER", "Unique-ID: a"));
    bench.frame(&created("b", Some("a"), 2_000, ""));
    bench.frame(&bridged("a", "b"));
    let told = bench.told();
    assert!(told[0].contains("is called as") && told[2].contains("in A"), "{told:#?}");
    assert_eq!(told.len(), 3, "{told:#?}");
}

#[test]
fn behind_a_loopback_is_the_phone_and_nothing_else_is_told() {
    let mut bench = Bench::new();
    bench.frame(&created("a", None, 1_000, ""));
    bench.frame(&created("l1", Some("a"), 1_001, "Channel-Name: loopback/201-a"));
    let other = "Channel-Name: loopback/201-b\nvariable_other_loopback_leg_uuid: l1";
    bench.frame(&created("l2", None, 1_002, other));
    bench.frame(&created("p", Some("l2"), 1_003, "variable_dialed_user: 201"));
    let told = bench.told();
    assert_eq!(told.len(), 2, "{told:#?}");
    assert!(told[1].starts_with("B (201, ") && told[1].contains(" in A"), "{told:#?}");
}

#[test]
fn a_queue_that_gives_up_on_its_caller_is_no_caller_who_gives_up() {
    let queue = |action: &str, more: &str| {
        let fields = format!(
            "Event-Subclass: callcenter%3A%3Ainfo\nCC-Action: {action}\nCC-Queue: sales\nCC-Member-Session-UUID: a{more}"
        );
        event("CUSTOM", &fields)
    };
    let mut bench = Bench::new();
    bench.frame(&created("a", None, 1_000, ""));
    bench.frame(&queue("member-queue-start", ""));
    bench.frame(&created("b", Some("a"), 2_000, ""));
    bench.frame(&event("CHANNEL_HANGUP_COMPLETE", "Unique-ID: b\nHangup-Cause: ORIGINATOR_CANCEL"));
    bench.frame(&queue("member-queue-end", "\nCC-Cause: Cancel\nCC-Cancel-Reason: TIMEOUT"));
    assert_eq!(bench.told()[3..], ["B ended cancelled", "A unqueued"]);
}
