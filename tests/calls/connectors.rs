//! What a connector tells of a PBX's channels, alone and beside the SIP that other feeds see of the same calls.

use std::collections::HashSet;
use std::sync::Arc;

use hookswitch::model::*;
use hookswitch::switchboard::Input;
use proptest::prelude::*;

use super::office::Office;
use super::site::{ANSWERED, ENDED, OFFERED, Site, lagging, rescinded};
use super::wire::{ELSEWHERE, FROM, Invite};
use super::world::{PBX, device};

/// Both agents have `sales` (650) set; a connector of the PBX is up.
fn office() -> Office {
    let mut office = Office::with_queue("650");
    office.site.world.facts(office.bob).queues.push(office.queue);
    office.site.world.led = true;
    office
}

fn key(leg: &str) -> LegKey {
    LegKey(format!("asterisk:{PBX}:{leg}").into())
}

fn call_key(leg: &str) -> Arc<str> {
    key(leg).0
}

fn tell(site: &mut Site, leg: &str, event: LegEvent) {
    let evidence = format!("AMI, {leg}");
    let event = PbxEvent { pbx: PBX, feed: FeedKind::Asterisk, leg: key(leg), event, evidence };
    site.tell(&Input::Event(&event));
}

fn channel(call: &str, hop: Hop, endpoint: &str, target: &str) -> LegStart {
    LegStart {
        call_key: call_key(call),
        hop,
        target: ContactKey { user: target.into(), ..ContactKey::default() },
        caller: Caller { number: "+14155550100".into(), ..Caller::default() },
        endpoint: Some(Endpoint { user: endpoint.into(), domain: None }),
        ..LegStart::default()
    }
}

fn started(call: &str, hop: Hop, endpoint: &str, target: &str) -> LegEvent {
    LegEvent::Started(Box::new(channel(call, hop, endpoint, target)))
}

fn queued() -> LegEvent {
    LegEvent::Queued(Queued { queue: "sales".into(), position: Some(1), waited_ms: 0 })
}

fn caller_queues(site: &mut Site) {
    tell(site, "a", started("a", Hop::ToPbx, "trunk", "600"));
    tell(site, "a", LegEvent::Answered);
    tell(site, "a", queued());
}

fn ring(site: &mut Site, leg: &str, extension: &str) {
    tell(site, leg, started("a", Hop::FromPbx, extension, extension));
    tell(site, leg, LegEvent::Rang);
}

#[test]
fn a_queue_call_told_by_the_pbx_alone_rings_all_and_goes_to_who_answers() {
    let Office { mut site, ann, bob, queue } = office();
    caller_queues(&mut site);
    assert_eq!(site.only_call().waiting.map(|waiting| waiting.position), Some(Some(1)));
    ring(&mut site, "b1", "101");
    ring(&mut site, "b2", "102");
    assert_eq!((site.states(ann), site.states(bob)), (vec![OFFERED], vec![OFFERED]));
    tell(&mut site, "b2", LegEvent::Answered);
    tell(&mut site, "a", LegEvent::Unqueued);
    tell(&mut site, "b1", LegEvent::Ended(LegEnd::CancelledElsewhere));
    assert_eq!(site.states(ann), [OFFERED, rescinded(RescindReason::AnsweredElsewhere)]);
    tell(&mut site, "a", LegEvent::Ended(LegEnd::Bye));
    tell(&mut site, "b2", LegEvent::Ended(LegEnd::Bye));
    assert_eq!(site.states(bob), [OFFERED, ANSWERED, ENDED]);
    let call = site.only_call();
    assert_eq!((call.direction, call.queue), (Direction::Inbound, Some(queue)));
    assert_eq!((call.outcome, call.waiting), (Some(Outcome::Answered), None));
    assert_eq!(call.callee.device, Some(device("102")));
    assert_eq!(call.caller.number.as_deref(), Some("+14155550100"));
}

#[test]
fn a_caller_who_gives_up_in_the_queue_takes_every_popup_away() {
    let Office { mut site, ann, .. } = office();
    caller_queues(&mut site);
    ring(&mut site, "b1", "101");
    tell(&mut site, "a", LegEvent::Cancelling);
    tell(&mut site, "a", LegEvent::Unqueued);
    tell(&mut site, "b1", LegEvent::Ended(LegEnd::Cancelled));
    tell(&mut site, "a", LegEvent::Ended(LegEnd::Bye));
    assert_eq!(site.states(ann), [OFFERED, rescinded(RescindReason::CallerHangup)]);
    assert_eq!(site.only_call().outcome, Some(Outcome::Missed));
}

#[test]
fn what_rings_after_the_queue_was_left_is_a_direct_call() {
    let Office { mut site, ann, bob, queue } = office();
    site.world.facts(bob).pop_on = PopOn::Answer;
    caller_queues(&mut site);
    ring(&mut site, "b1", "101");
    tell(&mut site, "b1", LegEvent::Ended(LegEnd::Cancelled));
    assert_eq!(site.states(ann), [OFFERED, rescinded(RescindReason::Timeout)]);
    tell(&mut site, "a", LegEvent::Unqueued);
    ring(&mut site, "b2", "102");
    assert_eq!(site.reasons(bob), [Reason::PopOn], "as for any direct call");
    assert_eq!(site.only_call().queue, Some(queue), "the record keeps where it came through");
}

#[test]
fn a_popup_keeps_its_queue_when_the_call_is_sent_on() {
    let Office { mut site, ann, queue, .. } = office();
    caller_queues(&mut site);
    ring(&mut site, "b1", "101");
    tell(&mut site, "b1", LegEvent::Answered);
    tell(&mut site, "a", LegEvent::Unqueued);
    tell(&mut site, "b1", LegEvent::Referred);
    ring(&mut site, "b2", "102");
    let shown: Vec<_> = site.offers.values().filter(|states| states[0].user == ann).flatten().collect();
    assert_eq!(shown.len(), 2, "offered and answered, and nothing more was said: {shown:#?}");
    assert!(shown.iter().all(|offer| offer.queue == Some(queue)));
}

#[test]
fn a_call_that_both_feeds_see_is_one_call_one_leg_one_popup() {
    let Office { mut site, ann, .. } = office();
    let outer = Invite::from_trunk("c1", "+14155550100", "101");
    let inner = Invite::b2b("c2", "101", FROM);
    site.see(&outer.text());
    assert!(site.calls.is_empty(), "SIP waits for the PBX's word");
    tell(&mut site, "a", started("a", Hop::ToPbx, "trunk", "101"));
    tell(&mut site, "a", LegEvent::Named("c1".into()));
    site.see(&inner.text());
    site.see(&inner.response(180, "p1"));
    tell(&mut site, "b", started("a", Hop::FromPbx, "101", "101"));
    assert_eq!(site.states(ann), []);
    tell(&mut site, "b", LegEvent::Named("c2".into()));
    assert_eq!(site.states(ann), [OFFERED], "SIP had rung already");
    tell(&mut site, "b", LegEvent::Rang);
    site.see(&inner.response(200, "p1"));
    tell(&mut site, "b", LegEvent::Answered);
    site.see(&inner.bye("p1"));
    tell(&mut site, "b", LegEvent::Ended(LegEnd::Bye));
    tell(&mut site, "a", LegEvent::Ended(LegEnd::Bye));
    assert_eq!(site.states(ann), [OFFERED, ANSWERED, ENDED]);
    assert_eq!(site.only_call().legs.len(), 2);
    site.wait(60_000);
    assert_eq!(site.calls.len(), 1, "nothing that came late made another call");
}

#[test]
fn sip_that_no_connector_names_goes_its_own_way_after_a_second() {
    let Office { mut site, ann, .. } = office();
    let outer = Invite::from_trunk("c1", "+14155550100", "101");
    let inner = outer.proxied_to("101");
    site.see_all([outer.text(), inner.text(), inner.response(180, "p1")]);
    assert_eq!(site.states(ann), []);
    site.wait(1_100);
    assert_eq!(site.states(ann), [OFFERED]);
    site.see(&inner.response(200, "p1"));
    assert_eq!(site.states(ann), [OFFERED, ANSWERED]);
}

#[test]
fn an_unnamed_sip_leg_of_the_only_channel_of_its_device_is_that_channel() {
    let Office { mut site, ann, .. } = office();
    tell(&mut site, "a", started("a", Hop::ToPbx, "trunk", "101"));
    ring(&mut site, "b", "101");
    let inner = Invite::b2b("c2", "101", FROM);
    site.see(&inner.text());
    site.see(&inner.response(180, "p1"));
    site.wait(1_100);
    assert_eq!(site.states(ann), [OFFERED]);
    assert_eq!(site.only_call().legs.len(), 2);
}

#[test]
fn a_leg_nobody_named_that_has_ended_while_it_waited_is_no_second_call() {
    let Office { mut site, ann, .. } = office();
    tell(&mut site, "a", started("a", Hop::ToPbx, "trunk", "101"));
    ring(&mut site, "b", "101");
    let inner = Invite::b2b("c2", "101", FROM);
    site.see_all([inner.text(), inner.response(180, "p1"), inner.response(486, "p1")]);
    tell(&mut site, "b", LegEvent::Ended(LegEnd::Rejected(486)));
    tell(&mut site, "a", LegEvent::Ended(LegEnd::Rejected(486)));
    site.wait(5_000);
    assert_eq!(site.states(ann), [OFFERED, rescinded(RescindReason::Declined)]);
    assert_eq!(site.calls.len(), 1);
}

#[test]
fn a_channel_and_its_invite_meet_by_audio_port_before_the_call_id_is_known() {
    let Office { mut site, ann, .. } = office();
    tell(&mut site, "a", started("a", Hop::ToPbx, "trunk", "101"));
    let start = LegStart { media_port: Some(20_004), ..channel("a", Hop::FromPbx, "101", "101-x") };
    tell(&mut site, "b", LegEvent::Started(Box::new(start)));
    let sdp = "v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\nm=audio 20004 RTP/AVP 0\r\n";
    let inner = Invite::b2b("c2", "101", FROM);
    let (head, _) =
        inner.text().split_once("Content-Length").map(|(head, rest)| (head.to_owned(), rest.len())).unwrap();
    site.see(&format!("{head}Content-Length: {}\r\n\r\n{sdp}", sdp.len()));
    site.see(&inner.response(180, "p1"));
    assert_eq!(site.states(ann), [OFFERED], "SIP rang first and nobody had to wait");
    assert_eq!(site.only_call().legs.len(), 2);
}

#[test]
fn a_connector_that_comes_up_in_mid_call_finds_the_call_that_sip_showed() {
    let Office { mut site, ann, .. } = office();
    site.world.led = false;
    let outer = Invite::from_trunk("c1", "+14155550100", "101");
    let inner = Invite::b2b("c2", "101", FROM).with("X-CID: c1");
    site.see_all([outer.text(), inner.text(), inner.response(180, "p1")]);
    site.world.led = true;
    for (leg, call_id, hop, endpoint) in [("a", "c1", Hop::ToPbx, "trunk"), ("b", "c2", Hop::FromPbx, "101")] {
        let start = LegStart { sip_call_id: Some(call_id.into()), ..channel("a", hop, endpoint, "101") };
        tell(&mut site, leg, LegEvent::Started(Box::new(start)));
        tell(&mut site, leg, LegEvent::Rang);
    }
    assert_eq!(site.states(ann), [OFFERED]);
    let call = site.only_call();
    assert_eq!((call.legs.len(), call.state), (2, CallState::Ringing));
    tell(&mut site, "b", LegEvent::Answered);
    assert_eq!(site.states(ann), [OFFERED, ANSWERED]);
}

#[test]
fn two_calls_of_sip_that_the_pbx_says_are_one_become_one() {
    let Office { mut site, ann, bob, .. } = office();
    site.world.led = false;
    // Nothing in SIP ties the legs: another number, no header.
    let outer = Invite::from_trunk("c1", "+14155550100", "600");
    let inner = Invite::b2b("c2", "101", "<sip:+14155550177@192.0.2.1>");
    site.see_all([outer.text(), inner.text(), inner.response(180, "p1")]);
    assert_eq!(site.calls.len(), 2);
    site.world.led = true;
    tell(&mut site, "a", started("a", Hop::ToPbx, "trunk", "600"));
    tell(&mut site, "b", started("a", Hop::FromPbx, "101", "101"));
    tell(&mut site, "a", LegEvent::Named("c1".into()));
    tell(&mut site, "b", LegEvent::Named("c2".into()));
    assert_eq!(site.states(ann), [OFFERED], "the popup stays as it is");
    let call = site.only_call();
    assert_eq!(call.legs.len(), 2, "{call:#?}");
    assert_eq!(call.caller.number.as_deref(), Some("+14155550100"), "the caller's own leg knows best");
    tell(&mut site, "b", LegEvent::Ended(LegEnd::Bye));
    tell(&mut site, "a", LegEvent::Ended(LegEnd::Bye));
    assert_eq!((site.states(ann).len(), site.states(bob).len()), (2, 0));
}

#[test]
fn an_attended_transfer_moves_the_call_and_its_popup_to_who_took_it() {
    let Office { mut site, ann, bob, .. } = office();
    tell(&mut site, "a", started("a", Hop::ToPbx, "trunk", "101"));
    ring(&mut site, "b1", "101");
    tell(&mut site, "b1", LegEvent::Answered);
    tell(&mut site, "b2", started("b2", Hop::ToPbx, "101", "102"));
    tell(&mut site, "c", started("b2", Hop::FromPbx, "102", "102"));
    tell(&mut site, "c", LegEvent::Rang);
    tell(&mut site, "c", LegEvent::Answered);
    assert_eq!(site.states(bob), [], "a colleague's question is an internal call");
    tell(&mut site, "b1", LegEvent::Referred);
    tell(&mut site, "b2", LegEvent::Referred);
    tell(&mut site, "c", LegEvent::Moved(call_key("a")));
    tell(&mut site, "b1", LegEvent::Ended(LegEnd::Bye));
    tell(&mut site, "b2", LegEvent::Ended(LegEnd::Bye));
    assert_eq!(site.states(ann).first(), Some(&OFFERED));
    assert_eq!(site.reasons(ann).last(), Some(&Reason::Transferred));
    assert_eq!(site.states(bob), [OFFERED, ANSWERED]);
    tell(&mut site, "a", LegEvent::Ended(LegEnd::Bye));
    tell(&mut site, "c", LegEvent::Ended(LegEnd::Bye));
    assert_eq!(site.states(bob), [OFFERED, ANSWERED, ENDED]);
    let states: Vec<_> = site.calls.values().map(|call| (call.direction, call.state)).collect();
    assert_eq!(states.len(), 2, "the call and the question");
    assert!(states.iter().all(|(_, state)| *state == CallState::Ended));
}

#[test]
fn legs_that_a_snapshot_does_not_show_have_ended() {
    let Office { mut site, ann, .. } = office();
    caller_queues(&mut site);
    ring(&mut site, "b1", "101");
    site.restart();
    let legs: HashSet<LegKey> = [key("a"), key("b1")].into();
    site.tell(&Input::Snapshot { pbx: PBX, feed: FeedKind::Asterisk, legs: &legs });
    assert_eq!(site.states(ann), [OFFERED]);
    let legs: HashSet<LegKey> = [key("a")].into();
    site.tell(&Input::Snapshot { pbx: PBX, feed: FeedKind::Asterisk, legs: &legs });
    assert_eq!(site.states(ann), [OFFERED, rescinded(RescindReason::Timeout)]);
    site.tell(&Input::Snapshot { pbx: PBX, feed: FeedKind::Asterisk, legs: &HashSet::new() });
    assert_eq!(site.only_call().state, CallState::Ended);
}

#[test]
fn a_number_the_dial_plan_rewrites_is_outside_because_the_pbx_went_there() {
    let Office { mut site, ann, .. } = office();
    tell(&mut site, "a", started("a", Hop::ToPbx, "101", "9+14155550177"));
    let start = LegStart {
        caller: Caller { number: "+14155550199".into(), ..Caller::default() },
        ..channel("a", Hop::FromPbx, "trunk", "+14155550177")
    };
    tell(&mut site, "b", LegEvent::Started(Box::new(start)));
    tell(&mut site, "b", LegEvent::Rang);
    tell(&mut site, "b", LegEvent::Answered);
    let call = site.only_call();
    assert_eq!((call.direction, call.callee.number.as_deref()), (Direction::Outbound, Some("+14155550177")));
    assert_eq!(call.caller.device, Some(device("101")));
    assert_eq!(site.states(ann), [OFFERED, ANSWERED]);
}

#[test]
fn a_call_id_that_looks_like_a_channel_is_none() {
    let Office { mut site, ann, .. } = office();
    site.world.led = false;
    let spoofed = Invite::from_trunk(&key("a").0, "+14155550100", "101").proxied_to("101");
    site.see(&spoofed.text());
    site.see(&spoofed.response(180, "p1"));
    site.tell(&Input::Snapshot { pbx: PBX, feed: FeedKind::Asterisk, legs: &HashSet::new() });
    assert_eq!(site.states(ann), [OFFERED]);
}

/// One step of either feed, and when it happens.
enum Step {
    Sip(String),
    Ami(&'static str, LegEvent),
}

/// A ring-all of two that the second one answers, as SIP and as AMI show it.
fn ring_all() -> [Vec<(u64, Step)>; 2] {
    let outer = Invite::from_trunk("c0", "+14155550100", "600");
    let one = Invite::b2b("c1", "101", FROM);
    let two = Invite::b2b("c2", "102", FROM);
    let sip = [
        (0, outer.text()),
        (4, outer.response(200, "pbx")),
        (6, outer.ack("pbx")),
        (40, one.text()),
        (41, two.text()),
        (60, one.response(180, "p1")),
        (61, two.response(180, "p2")),
        (2_000, two.response(200, "p2")),
        (2_003, one.cancel(ELSEWHERE)),
        (2_005, one.response(487, "p1")),
        (2_007, two.ack("p2")),
        (5_000, outer.bye("pbx")),
        (5_004, two.bye("p2")),
    ];
    let ami = [
        (1, "a", started("a", Hop::ToPbx, "trunk", "600")),
        (2, "a", LegEvent::Named("c0".into())),
        (4, "a", LegEvent::Answered),
        (5, "a", queued()),
        (42, "b1", started("a", Hop::FromPbx, "101", "101")),
        (43, "b1", LegEvent::Named("c1".into())),
        (44, "b2", started("a", Hop::FromPbx, "102", "102")),
        (45, "b2", LegEvent::Named("c2".into())),
        (62, "b1", LegEvent::Rang),
        (63, "b2", LegEvent::Rang),
        (2_002, "b2", LegEvent::Answered),
        (2_003, "a", LegEvent::Unqueued),
        (2_006, "b1", LegEvent::Ended(LegEnd::CancelledElsewhere)),
        (5_002, "a", LegEvent::Ended(LegEnd::Bye)),
        (5_006, "b2", LegEvent::Ended(LegEnd::Bye)),
    ];
    let sip = sip.into_iter().map(|(at, text)| (at, Step::Sip(text))).collect();
    [sip, ami.into_iter().map(|(at, leg, event)| (at, Step::Ami(leg, event))).collect()]
}

/// What must not depend on which feed was quicker: the record without its times, and everybody's popup.
fn record(office: &Office) -> String {
    let call = office.site.only_call();
    let mut legs: Vec<_> = call.legs.iter().map(|leg| (leg.role, leg.device, leg.state, leg.end)).collect();
    legs.sort_by_key(|leg| format!("{leg:?}"));
    let facts = (call.id, call.direction, call.outcome, call.queue, &call.caller, &call.callee, &call.users);
    let popups = [office.ann, office.bob].map(|user| (office.site.states(user), office.site.reasons(user)));
    format!("{facts:?} {legs:?} {popups:?}")
}

fn play(jitter: &[u64]) -> String {
    let steps = lagging(ring_all(), jitter);
    let mut office = office();
    let began = office.site.now.tick;
    for (at, step) in steps {
        let ahead = (began + at) - office.site.now.tick;
        office.site.wait(ahead);
        match step {
            Step::Sip(text) => drop(office.site.see_now(&text)),
            Step::Ami(leg, event) => tell(&mut office.site, leg, event),
        }
    }
    office.site.wait(120_000);
    record(&office)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(200) })]

    #[test]
    fn whichever_feed_is_quicker_the_record_and_the_popups_are_the_same(
        jitter in prop::collection::vec(0_u64..20, 1..40),
    ) {
        prop_assert_eq!(play(&jitter), play(&[0]));
    }
}
