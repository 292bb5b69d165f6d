//! Direct calls: inbound, outbound, internal, through a proxy whose hops share one Call-ID.

use hookswitch::model::*;
use hookswitch::sip::dialog::Seen;

use super::site::{ANSWERED, ENDED, OFFERED, Site, rescinded};
use super::wire::Invite;
use super::world::{World, device};

/// Phones 101 (Ann) and 102 (Bob).
fn office() -> (Site, UserId, UserId) {
    let mut world = World::new();
    let (one, two) = (world.phone("101"), world.phone("102"));
    let ann = world.user(1, &[one]);
    let bob = world.user(2, &[two]);
    (Site::new(world), ann, bob)
}

fn ring(site: &mut Site, outer: &Invite, inner: &Invite) {
    site.see(&outer.text());
    site.see(&outer.response(100, ""));
    site.see(&inner.text());
    site.see(&inner.response(180, "callee"));
    site.see(&outer.response(180, "callee"));
}

fn answer(site: &mut Site, outer: &Invite, inner: &Invite) {
    site.see(&inner.response(200, "callee"));
    site.see(&outer.response(200, "callee"));
    site.see(&outer.ack("callee"));
    site.see(&inner.ack("callee"));
}

fn hang_up(site: &mut Site, outer: &Invite, inner: &Invite) {
    site.see(&outer.bye("callee"));
    site.see(&inner.bye("callee"));
}

#[test]
fn an_inbound_call_is_offered_answered_and_ended_once_and_makes_the_device_assignable() {
    let (mut site, ann, bob) = office();
    let outer = Invite::from_trunk("a1", "+14155550100", "101");
    let inner = outer.proxied_to("101");
    ring(&mut site, &outer, &inner);
    assert_eq!(site.states(ann), [OFFERED]);
    site.wait(4_000);
    answer(&mut site, &outer, &inner);
    site.wait(60_000);
    hang_up(&mut site, &outer, &inner);

    assert_eq!(site.states(ann), [OFFERED, ANSWERED, ENDED]);
    assert_eq!(site.states(bob), []);
    assert_eq!(site.reasons(ann), [Reason::Offered, Reason::Answered, Reason::Ended]);
    let call = site.only_call();
    assert_eq!(
        (call.direction, call.outcome, call.state),
        (Direction::Inbound, Some(Outcome::Answered), CallState::Ended)
    );
    assert_eq!(call.caller.number.as_deref(), Some("+14155550100"));
    assert_eq!(call.callee.number.as_deref(), Some("101"));
    assert!((4_000..4_100).contains(&call.ring_ms) && (60_000..60_100).contains(&call.talk_ms), "{call:#?}");
    assert_eq!(call.users, [CallUser { user: ann, device: device("101"), action: UserAction::Answered }]);
    assert!(site.called.contains(&(device("101"), Some("+14155550100".into()), true)));
}

/// A PBX that gives up tells the phone (CANCEL) and the caller (603) in the same instant; the phone's 487 comes later.
/// A caller who was refused is none who has gone.
#[test]
fn a_call_whose_caller_is_refused_before_the_phone_has_confirmed_rang_out() {
    let (mut site, ann, _) = office();
    let outer = Invite::from_trunk("a1", "+14155550100", "101");
    let inner = Invite::b2b("b1", "101", "<sip:+14155550100@192.0.2.1>");
    ring(&mut site, &outer, &inner);
    site.wait(8_000);
    site.see_all([inner.cancel(""), outer.response(603, "pbx"), inner.response(487, "callee")]);
    assert_eq!(site.states(ann), [OFFERED, rescinded(RescindReason::Timeout)]);
    assert_eq!(site.only_call().outcome, Some(Outcome::Missed));
}

#[test]
fn every_copy_may_come_twice_and_changes_nothing_the_second_time() {
    let (mut site, ann, _) = office();
    let outer = Invite::from_trunk("a1", "+14155550100", "101");
    let inner = outer.proxied_to("101");
    for message in [
        outer.text(),
        inner.text(),
        inner.response(180, "callee"),
        outer.response(180, "callee"),
        inner.response(200, "callee"),
        outer.response(200, "callee"),
        outer.ack("callee"),
        outer.bye("callee"),
        inner.bye("callee"),
    ] {
        site.see(&message);
        site.see(&message);
    }
    assert_eq!(site.states(ann), [OFFERED, ANSWERED, ENDED]);
    assert_eq!(site.offers.values().next().map(Vec::len), Some(3));
    site.see(&outer.text());
    assert_eq!(site.calls.len(), 1, "a late retransmission starts nothing");
}

#[test]
fn an_invite_sent_again_with_credentials_is_the_same_leg_and_one_popup() {
    let (mut site, ann, _) = office();
    let outer = Invite::from_phone("o1", "101", "+14155550100");
    site.see(&outer.text());
    site.see(&outer.response(407, "pbx"));
    let again = outer.authorised();
    site.see(&again.text());
    site.see(&again.response(180, "far"));
    site.see(&again.response(200, "far"));
    site.see(&again.bye("far"));
    assert_eq!(site.states(ann), [OFFERED, ANSWERED, ENDED]);
    assert_eq!(site.only_call().outcome, Some(Outcome::Answered));
    assert_eq!(site.only_call().legs.len(), 1);
}

#[test]
fn a_caller_who_gives_up_leaves_a_missed_call_and_a_rescinded_offer() {
    let (mut site, ann, _) = office();
    let outer = Invite::from_trunk("a1", "+14155550100", "101");
    let inner = outer.proxied_to("101");
    ring(&mut site, &outer, &inner);
    site.wait(3_000);
    site.see(&outer.cancel(""));
    site.see(&inner.cancel(""));
    site.see(&inner.response(487, "callee"));
    site.see(&outer.response(487, "callee"));
    assert_eq!(site.states(ann), [OFFERED, rescinded(RescindReason::CallerHangup)]);
    assert_eq!(site.only_call().outcome, Some(Outcome::Missed));
}

#[test]
fn a_pbx_that_stops_ringing_while_the_caller_stays_is_a_timeout_and_a_missed_call() {
    let (mut site, ann, _) = office();
    let outer = Invite::from_trunk("a1", "+14155550100", "101");
    let inner = outer.proxied_to("101");
    ring(&mut site, &outer, &inner);
    site.wait(20_000);
    site.see(&inner.cancel(""));
    site.see(&inner.response(487, "callee"));
    assert_eq!(site.states(ann), [OFFERED, rescinded(RescindReason::Timeout)]);
    // Voicemail picks up: that is the PBX, not a device.
    site.see(&outer.response(200, "voicemail"));
    site.wait(10_000);
    site.see(&outer.bye("voicemail"));
    let call = site.only_call();
    assert_eq!((call.outcome, call.talk_ms), (Some(Outcome::Missed), 0));
}

#[test]
fn a_rejected_call_is_declined_and_a_busy_phone_that_never_rang_is_busy() {
    let (mut site, ann, _) = office();
    let outer = Invite::from_trunk("a1", "+14155550100", "101");
    let inner = outer.proxied_to("101");
    ring(&mut site, &outer, &inner);
    site.see(&inner.response(603, "callee"));
    site.see(&outer.response(603, "callee"));
    assert_eq!(site.states(ann), [OFFERED, rescinded(RescindReason::Declined)]);
    assert_eq!(site.only_call().outcome, Some(Outcome::Declined));

    let (mut site, ann, _) = office();
    site.see(&outer.text());
    site.see(&inner.text());
    site.see(&inner.response(486, "callee"));
    site.see(&outer.response(486, "callee"));
    assert_eq!(site.states(ann), []);
    assert_eq!(site.only_call().outcome, Some(Outcome::Busy));
}

#[test]
fn an_unreachable_phone_is_a_failed_call() {
    let (mut site, ..) = office();
    let outer = Invite::from_trunk("a1", "+14155550100", "101");
    let inner = outer.proxied_to("101");
    site.see_all([outer.text(), inner.text(), inner.response(503, "x"), outer.response(503, "x")]);
    assert_eq!(site.only_call().outcome, Some(Outcome::Failed));
}

#[test]
fn t4_an_internal_call_pops_nobody_and_makes_nothing_assignable() {
    let (mut site, ann, bob) = office();
    let outer = Invite::from_phone("i1", "102", "101");
    let inner = outer.proxied_to("101");
    ring(&mut site, &outer, &inner);
    answer(&mut site, &outer, &inner);
    hang_up(&mut site, &outer, &inner);
    assert_eq!((site.states(ann), site.states(bob)), (vec![], vec![]));
    assert_eq!((site.reasons(ann), site.reasons(bob)), (vec![Reason::InternalCall], vec![Reason::InternalCall]));
    let call = site.only_call();
    assert_eq!((call.direction, call.outcome), (Direction::Internal, Some(Outcome::Answered)));
    assert_eq!((call.caller.device, call.callee.device), (Some(device("102")), Some(device("101"))));
    assert!(site.called.iter().all(|(_, number, external)| number.is_none() && !external), "{:?}", site.called);
}

#[test]
fn a_call_that_rings_no_known_device_says_so_in_its_trail() {
    let (mut site, ..) = office();
    let outer = Invite::from_trunk("u1", "+14155550100", "199");
    site.see_all([outer.text(), outer.response(404, "pbx")]);
    assert_eq!(site.only_call().outcome, Some(Outcome::Failed));
    let reasons: Vec<_> = site.trail.iter().map(|entry| (entry.user, entry.reason)).collect();
    assert_eq!(reasons, [(None, Reason::NoDevice)]);
}

#[test]
fn feature_codes_are_internal_even_when_the_pbx_answers_them() {
    let (mut site, ann, _) = office();
    let outer = Invite::from_phone("f1", "101", "*45");
    site.see_all([outer.text(), outer.response(200, "pbx"), outer.bye("pbx")]);
    assert_eq!(site.states(ann), []);
    let call = site.only_call();
    assert_eq!((call.direction, call.outcome), (Direction::Internal, Some(Outcome::Answered)));
}

#[test]
fn an_outbound_call_is_offered_to_who_placed_it_and_answered_when_the_outside_answers() {
    let (mut site, ann, bob) = office();
    let outer = Invite::from_phone("o1", "101", "+14155550100");
    let inner = outer.proxied("sip:+14155550100@trunk.example", "trunk");
    site.see(&outer.text());
    assert_eq!(site.states(ann), [OFFERED]);
    site.see(&inner.text());
    site.see(&inner.response(180, "far"));
    site.see(&outer.response(180, "far"));
    assert_eq!(site.states(ann), [OFFERED]);
    site.wait(2_000);
    site.see(&inner.response(200, "far"));
    site.see(&outer.response(200, "far"));
    assert_eq!(site.states(ann), [OFFERED, ANSWERED]);
    site.see(&outer.bye("far"));
    site.see(&inner.bye("far"));
    assert_eq!(site.states(ann), [OFFERED, ANSWERED, ENDED]);
    assert_eq!(site.states(bob), []);
    let call = site.only_call();
    assert_eq!((call.direction, call.outcome), (Direction::Outbound, Some(Outcome::Answered)));
    assert_eq!(call.callee.number.as_deref(), Some("+14155550100"));
    assert_eq!(call.users, [CallUser { user: ann, device: device("101"), action: UserAction::Placed }]);
    assert!(site.called.contains(&(device("101"), Some("+14155550100".into()), true)));
}

#[test]
fn an_outbound_call_given_up_is_cancelled() {
    let (mut site, ann, _) = office();
    let outer = Invite::from_phone("o1", "101", "+14155550100");
    site.see_all([outer.text(), outer.response(180, "far"), outer.cancel(""), outer.response(487, "far")]);
    assert_eq!(site.states(ann), [OFFERED, rescinded(RescindReason::CallerHangup)]);
    assert_eq!(site.only_call().outcome, Some(Outcome::Cancelled));
}

#[test]
fn a_withheld_number_is_not_kept_anywhere() {
    let (mut site, ann, _) = office();
    let outer = Invite {
        from: "\"Mallory\" <sip:+14155550123@trunk.example>;tag=caller".into(),
        ..Invite::from_trunk("w1", "x", "101")
    }
    .with("Privacy: id")
    .with("P-Asserted-Identity: \"Mallory\" <sip:+14155550123@trunk.example>");
    let inner = outer.proxied_to("101");
    ring(&mut site, &outer, &inner);
    assert_eq!(site.states(ann), [OFFERED]);
    let shown = format!("{:?} {:?} {:?}", site.effects, site.trail, site.calls);
    assert!(!shown.contains("5550123") && !shown.contains("Mallory"));
    let call = site.only_call();
    assert!(call.caller.withheld && call.caller.external && call.direction == Direction::Inbound);
    assert!(site.called.contains(&(device("101"), None, true)));
}

#[test]
fn an_asserted_identity_counts_more_than_from() {
    let (mut site, ..) = office();
    let outer = Invite::from_trunk("p1", "trunk-main", "101")
        .with("P-Asserted-Identity: \"Carol\" <sip:+14155550100@trunk.example>");
    let inner = outer.proxied_to("101");
    ring(&mut site, &outer, &inner);
    let call = site.only_call();
    assert_eq!((call.caller.number.as_deref(), call.caller.name.as_deref()), (Some("+14155550100"), Some("Carol")));
}

#[test]
fn a_200_that_crosses_a_cancel_wins() {
    let (mut site, ann, _) = office();
    let outer = Invite::from_trunk("a1", "+14155550100", "101");
    let inner = outer.proxied_to("101");
    ring(&mut site, &outer, &inner);
    site.see(&outer.cancel(""));
    site.see(&inner.cancel(""));
    answer(&mut site, &outer, &inner);
    assert_eq!(site.states(ann), [OFFERED, ANSWERED]);
    hang_up(&mut site, &outer, &inner);
    assert_eq!(site.only_call().outcome, Some(Outcome::Answered));
}

#[test]
fn a_lost_200_is_proved_by_the_ack_and_a_lost_ack_by_the_callees_bye() {
    let (mut site, ann, _) = office();
    let outer = Invite::from_trunk("a1", "+14155550100", "101");
    let inner = outer.proxied_to("101");
    ring(&mut site, &outer, &inner);
    site.see(&inner.ack("callee"));
    assert_eq!(site.states(ann), [OFFERED, ANSWERED]);

    let (mut site, ann, _) = office();
    ring(&mut site, &outer, &inner);
    site.see(&inner.bye_from_callee("callee"));
    assert_eq!(site.states(ann), [OFFERED, ANSWERED, ENDED]);
}

#[test]
fn a_call_whose_bye_never_comes_ends_with_its_session_timer_and_without_one_by_a_bound() {
    for (extra, bound_s) in [("Session-Expires: 1800;refresher=uac\r\n", 1_900), ("", 4 * 3_600 + 60)] {
        let (mut site, ann, _) = office();
        let outer = Invite::from_trunk("a1", "+14155550100", "101");
        let inner = outer.proxied_to("101");
        ring(&mut site, &outer, &inner);
        site.see(&inner.response_with(200, "callee", extra));
        site.see(&outer.response_with(200, "callee", extra));
        site.wait(1_700_000);
        assert_eq!(site.states(ann), [OFFERED, ANSWERED]);
        site.wait(bound_s * 1_000 - 1_700_000);
        assert_eq!(site.states(ann), [OFFERED, ANSWERED, ENDED]);
        assert_eq!(site.only_call().state, CallState::Ended);
    }
}

#[test]
fn a_reinvite_is_no_new_call_and_keeps_the_session_alive() {
    let (mut site, ann, _) = office();
    let outer = Invite::from_trunk("a1", "+14155550100", "101");
    let inner = outer.proxied_to("101");
    ring(&mut site, &outer, &inner);
    let timer = "Session-Expires: 1800\r\n";
    site.see(&inner.response_with(200, "callee", timer));
    site.see(&outer.response_with(200, "callee", timer));
    site.wait(1_000_000);
    let refresh = outer.reinvite("callee").replace("Content-Length", "Session-Expires: 1800\r\nContent-Length");
    assert_eq!(site.see(&refresh), Seen::Followed);
    site.wait(1_000_000);
    assert_eq!(site.states(ann), [OFFERED, ANSWERED]);
    assert_eq!(site.calls.len(), 1);
}

#[test]
fn the_caller_hanging_up_ends_the_offer_even_when_the_phones_own_bye_is_lost() {
    let (mut site, ann, _) = office();
    let outer = Invite::from_trunk("a1", "+14155550100", "101");
    let inner = Invite::b2b("b1", "101", "<sip:+14155550100@192.0.2.1>").with("X-CID: a1");
    ring(&mut site, &outer, &inner);
    answer(&mut site, &outer, &inner);
    site.see(&outer.bye("callee"));
    assert_eq!(site.states(ann), [OFFERED, ANSWERED]);
    site.wait(2_500);
    assert_eq!(site.states(ann), [OFFERED, ANSWERED, ENDED]);
}

#[test]
fn several_calls_on_one_device_have_an_offer_each() {
    let (mut site, ann, _) = office();
    for (call_id, number) in [("a1", "+14155550100"), ("a2", "+14155550101")] {
        let outer = Invite::from_trunk(call_id, number, "101");
        let inner = outer.proxied_to("101");
        ring(&mut site, &outer, &inner);
    }
    assert_eq!(site.offers.len(), 2);
    assert!(site.offers.values().all(|states| states[0].user == ann));
}
