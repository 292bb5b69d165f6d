//! Queue calls: who is told before the answer, who after, and how a B2BUA's legs are joined.

use hookswitch::model::*;

use super::office::Office;
use super::site::{ANSWERED, ENDED, OFFERED, Site, rescinded};
use super::wire::{ELSEWHERE, FROM, Invite};
use super::world::device;

/// A caller in the queue, which has answered; the agents' legs name it in `X-CID`.
fn queued(site: &mut Site) -> (Invite, Invite, Invite) {
    let outer = Invite::from_trunk("a1", "+14155550100", "600");
    let one = Invite::b2b("b1", "101", FROM).with("X-CID: a1");
    let two = Invite::b2b("b2", "102", FROM).with("X-CID: a1");
    site.see(&outer.text());
    site.see(&outer.response(200, "pbx"));
    site.see(&outer.ack("pbx"));
    (outer, one, two)
}

#[test]
fn t15_queue_set_is_told_while_it_rings_and_queue_not_set_only_once_it_answers() {
    let Office { mut site, ann, bob, queue } = Office::with_queue("600");
    let (outer, one, two) = queued(&mut site);
    site.see_all([one.text(), one.response(180, "p1"), two.text(), two.response(180, "p2")]);
    assert_eq!((site.states(ann), site.states(bob)), (vec![OFFERED], vec![]));
    site.wait(2_000);
    site.see(&two.response(200, "p2"));
    assert_eq!(site.states(bob), [OFFERED, ANSWERED]);
    assert_eq!(site.states(ann), [OFFERED, rescinded(RescindReason::AnsweredElsewhere)]);
    site.see(&one.cancel(ELSEWHERE));
    site.see(&one.response(487, "p1"));
    site.see(&two.bye_from_callee("p2"));
    site.see(&outer.bye("pbx"));
    assert_eq!(site.states(bob), [OFFERED, ANSWERED, ENDED]);
    assert_eq!(site.reasons(bob), [Reason::QueueNotSet, Reason::Offered, Reason::Answered, Reason::Ended]);
    let call = site.only_call();
    assert_eq!((call.queue, call.outcome), (Some(queue), Some(Outcome::Answered)));
    assert_eq!(call.callee.device, Some(device("102")), "who answered, not who rang first");
}

#[test]
fn an_abandoned_queue_call_is_missed_and_every_offer_goes() {
    let Office { mut site, ann, bob, .. } = Office::with_queue("600");
    let (outer, one, _) = queued(&mut site);
    site.see_all([one.text(), one.response(180, "p1"), outer.bye("pbx"), one.cancel(""), one.response(487, "p1")]);
    assert_eq!(site.states(ann), [OFFERED, rescinded(RescindReason::CallerHangup)]);
    assert_eq!(site.states(bob), []);
    assert_eq!(site.reasons(bob), [], "nothing of Bob's rang and none of his queues holds it");
    assert_eq!(site.only_call().outcome, Some(Outcome::Missed));
}

#[test]
fn a_re_ring_after_no_answer_is_the_same_offer_again() {
    let Office { mut site, ann, .. } = Office::with_queue("600");
    let (_, one, _) = queued(&mut site);
    site.see_all([one.text(), one.response(180, "p1")]);
    site.wait(15_000);
    site.see(&one.cancel(""));
    site.see(&one.response(487, "p1"));
    site.wait(5_000);
    let again = Invite { call_id: "b9".into(), ..one.clone() };
    let again = Invite { vias: vec!["SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK-b9".into()], ..again };
    site.see(&again.text());
    site.see(&again.response(180, "p1"));
    assert_eq!(site.states(ann), [OFFERED, rescinded(RescindReason::Timeout), OFFERED]);
    assert_eq!(site.calls.len(), 1);
}

#[test]
fn with_queue_notice_join_users_of_the_queue_are_told_before_anything_rings() {
    let Office { mut site, ann, bob, .. } = Office::with_queue("600");
    site.world.account.settings.queue_notice = QueueNotice::Join;
    let (outer, one, _) = queued(&mut site);
    assert_eq!((site.states(ann), site.states(bob)), (vec![OFFERED], vec![]));
    site.see(&one.text());
    site.see(&one.response(180, "p1"));
    site.see(&one.response(486, "p1"));
    assert_eq!(site.states(ann), [OFFERED], "it still waits in Ann's queue");
    site.see(&outer.bye("pbx"));
    assert_eq!(site.states(ann), [OFFERED, rescinded(RescindReason::CallerHangup)]);
}

#[test]
fn a_queue_is_recognised_by_header_by_prefix_and_by_dialled_number() {
    for how in ["header", "prefix", "dialled"] {
        let Office { mut site, ann, queue, .. } = Office::with_queue("600");
        site.world.pbx.queue_rules.push(QueueRule::NamePrefix { prefix: "SALES: ".into(), queue });
        site.world.pbx.queue_rules.push(QueueRule::Dialled { number: "650".into(), queue });
        let dialled = if how == "dialled" { "650" } else { "101" };
        let outer = Invite::from_trunk("a1", "+14155550100", dialled);
        let inner = match how {
            "header" => outer.proxied_to("101").with("X-Queue: SALES"),
            "prefix" => {
                let from = "\"SALES: Carol\" <sip:+14155550100@pbx.example>;tag=caller";
                Invite { from: from.into(), ..outer.proxied_to("101") }
            }
            _ => outer.proxied_to("101"),
        };
        site.see_all([outer.text(), inner.text(), inner.response(180, "p1")]);
        assert_eq!(site.only_call().queue, Some(queue), "{how}");
        assert_eq!(site.states(ann), [OFFERED], "{how}");
    }
}

#[test]
fn an_agent_leg_whose_queue_nobody_names_is_routed_as_a_direct_call_and_says_so() {
    let Office { mut site, ann, .. } = Office::with_queue("600");
    let outer = Invite::from_trunk("a1", "+14155550100", "4155550199");
    let one = Invite::b2b("b1", "101", FROM);
    site.see_all([outer.text(), outer.response(200, "pbx"), one.text(), one.response(180, "p1")]);
    assert_eq!(site.states(ann), [OFFERED]);
    assert_eq!(site.reasons(ann), [Reason::QueueUnknown, Reason::Offered]);
    assert_eq!(site.calls.len(), 1, "joined by the caller's number");
}

#[test]
fn a_user_of_the_queue_without_a_ringing_device_finds_not_linked_in_the_trail() {
    let Office { mut site, queue, .. } = Office::with_queue("600");
    let carol = site.world.user(3, &[]);
    site.world.facts(carol).queues.push(queue);
    let (outer, one, _) = queued(&mut site);
    site.see_all([one.text(), one.response(180, "p1"), outer.bye("pbx"), one.cancel(""), one.response(487, "p1")]);
    assert_eq!(site.states(carol), []);
    assert_eq!(site.reasons(carol), [Reason::NotLinked]);
}

#[test]
fn legs_of_a_b2bua_are_joined_by_header_suffix_session_id_or_number_in_whatever_order_they_come() {
    let local = "0123456789abcdef0123456789abcdef";
    let remote = "fedcba9876543210fedcba9876543210";
    for (call_id, ours, theirs) in [
        ("zz", String::new(), "X-CID: a1".to_owned()),
        ("zz", String::new(), "X-Call-ID: a1".to_owned()),
        ("a1_b2b-1", String::new(), String::new()),
        ("a1-0", String::new(), String::new()),
        ("a1_pbx-1", String::new(), String::new()),
        (
            "zz",
            format!("Session-ID: {local};remote={}", "0".repeat(32)),
            format!("Session-ID: {remote};remote={local}"),
        ),
        ("zz", String::new(), String::new()),
    ] {
        for caller_first in [true, false] {
            let Office { mut site, ann, .. } = Office::with_queue("600");
            let mut outer = Invite::from_trunk("a1", "+14155550100", "600");
            if !ours.is_empty() {
                outer = outer.with(&ours);
            }
            let mut inner = Invite::b2b(call_id, "101", FROM);
            if !theirs.is_empty() {
                inner = inner.with(&theirs);
            }
            let mut order = [outer.text(), inner.text()];
            if !caller_first {
                order.reverse();
            }
            for message in order {
                site.see(&message);
            }
            site.see(&inner.response(180, "p1"));
            assert_eq!(site.calls.len(), 1, "{call_id} {ours} {theirs} caller first: {caller_first}");
            assert_eq!(site.states(ann).len(), 1);
        }
    }
}

#[test]
fn two_calls_that_fit_equally_well_are_never_guessed_between() {
    let Office { mut site, .. } = Office::with_queue("600");
    for call_id in ["a1", "a2"] {
        let outer = Invite::from_trunk(call_id, "+14155550100", "600");
        site.see(&outer.text());
        site.see(&outer.response(200, "pbx"));
    }
    let inner = Invite::b2b("b1", "101", FROM);
    site.see(&inner.text());
    site.see(&inner.response(180, "p1"));
    assert_eq!(site.calls.len(), 3);
    assert!(site.trail.iter().any(|entry| entry.reason == Reason::Ambiguous && entry.user.is_none()));
}
