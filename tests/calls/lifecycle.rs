//! What else moves or closes an offer: edits, transfers, replacements, restarts, several devices.

use hookswitch::model::*;
use hookswitch::switchboard::Input;

use super::site::{ANSWERED, ENDED, OFFERED, Site, rescinded};
use super::wire::{FROM, Invite};
use super::world::{World, device};

/// A call from outside rings 101 in this office: its caller's hop, and the phone's.
fn rings_101(world: World) -> (Site, Invite, Invite) {
    let mut site = Site::new(world);
    let outer = Invite::from_trunk("a1", "+14155550100", "101");
    let inner = outer.proxied_to("101");
    site.see_all([outer.text(), inner.text(), inner.response(180, "p1")]);
    (site, outer, inner)
}

/// Ann has 101 and 103, Bob has 102; a call rings 101.
fn ringing() -> (Site, UserId, UserId, Invite, Invite) {
    let mut world = World::new();
    let (one, two, three) = (world.phone("101"), world.phone("102"), world.phone("103"));
    let (ann, bob) = (world.user(1, &[one, three]), world.user(2, &[two]));
    let (site, outer, inner) = rings_101(world);
    (site, ann, bob, outer, inner)
}

/// Ann has 101, Bob has 102; she has answered a caller whom the PBX brought to her by a leg of its own, with these headers.
fn talking(headers: &str) -> (Site, UserId, UserId, Invite, Invite) {
    let mut world = World::new();
    let (one, two) = (world.phone("101"), world.phone("102"));
    let (ann, bob) = (world.user(1, &[one]), world.user(2, &[two]));
    let mut site = Site::new(world);
    let outer = Invite::from_trunk("a1", "+14155550100", "4155550199");
    let one = leg_to("b1", "101", headers);
    site.see_all([outer.text(), one.text(), one.response(180, "p1"), one.response(200, "p1")]);
    site.see(&outer.response(200, "pbx"));
    (site, ann, bob, outer, one)
}

/// A leg of the PBX's own on which the caller rings a phone.
fn leg_to(call_id: &str, extension: &str, headers: &str) -> Invite {
    let leg = Invite::b2b(call_id, extension, FROM);
    if headers.is_empty() { leg } else { leg.with(headers) }
}

#[test]
fn a_user_disabled_on_do_not_disturb_or_unlinked_while_it_rings_loses_the_offer_for_that_reason() {
    type Edit = fn(&mut World, UserId);
    let edits: [(Edit, RescindReason); 4] = [
        (|world, ann| world.facts(ann).enabled = false, RescindReason::UserDisabled),
        (|world, ann| world.facts(ann).dnd = true, RescindReason::Dnd),
        (|world, _| world.links.clear(), RescindReason::NotLinked),
        (|world, ann| drop(world.users.remove(&ann)), RescindReason::UserDisabled),
    ];
    for (edit, reason) in edits {
        let (mut site, ann, ..) = ringing();
        edit(&mut site.world, ann);
        site.tell(&Input::UserChanged(ann));
        assert_eq!(site.states(ann), [OFFERED, rescinded(reason)]);
    }
}

#[test]
fn a_device_disabled_while_it_rings_takes_its_offers_with_it() {
    let (mut site, ann, ..) = ringing();
    site.world.phones.get_mut(&device("101")).expect("it is there").enabled = false;
    site.tell(&Input::DeviceChanged(device("101")));
    assert_eq!(site.states(ann), [OFFERED, rescinded(RescindReason::DeviceDisabled)]);
}

#[test]
fn t10_a_disabled_user_gets_no_popup_and_is_not_attributed_but_finds_the_reason() {
    let mut world = World::new();
    let one = world.phone("101");
    let ann = world.user(1, &[one]);
    world.facts(ann).enabled = false;
    let (mut site, _, inner) = rings_101(world);
    site.see(&inner.response(200, "p1"));
    assert_eq!((site.states(ann), site.reasons(ann)), (vec![], vec![Reason::UserDisabled]));
    assert_eq!(site.only_call().users, []);
}

#[test]
fn x4_two_devices_of_one_user_share_one_offer_that_lasts_as_long_as_one_of_them_rings() {
    let (mut site, ann, _, outer, one) = ringing();
    let three = outer.proxied_to("103");
    site.see(&three.text());
    site.see(&three.response(180, "p3"));
    assert_eq!(site.states(ann), [OFFERED]);
    site.see(&one.response(486, "p1"));
    assert_eq!(site.states(ann), [OFFERED], "103 still rings");
    site.see(&three.response(200, "p3"));
    assert_eq!(site.states(ann), [OFFERED, ANSWERED]);
    let last = site.offers.values().next().and_then(|states| states.last()).and_then(|offer| offer.device);
    assert_eq!(last, Some(device("103")));
    assert_eq!(site.offers.len(), 1);
}

#[test]
fn t6_a_shared_extension_pops_for_all_its_users() {
    let mut world = World::new();
    let one = world.phone("101");
    let users = [world.user(1, &[one]), world.user(2, &[one])];
    let (site, ..) = rings_101(world);
    for user in users {
        assert_eq!(site.states(user), [OFFERED]);
    }
}

#[test]
fn a_device_nobody_is_linked_to_leaves_not_linked_in_the_trail() {
    let mut world = World::new();
    world.phone("101");
    let (site, ..) = rings_101(world);
    let entry = &site.trail[0];
    assert_eq!((entry.user, entry.reason, entry.device), (None, Reason::NotLinked, Some(device("101"))));
    assert!(entry.event.starts_with("180 Ringing"), "{}", entry.event);
}

#[test]
fn no_session_is_a_delivery_note_and_the_offer_is_kept() {
    let mut world = World::new();
    let one = world.phone("101");
    let ann = world.user(1, &[one]);
    world.sessions = 0;
    let (site, ..) = rings_101(world);
    assert_eq!((site.states(ann), site.reasons(ann)), (vec![OFFERED], vec![Reason::Offered, Reason::NoSession]));
}

#[test]
fn a_blind_transfer_ends_the_first_users_offer_as_transferred_and_offers_the_call_to_the_next() {
    let (mut site, ann, bob, _, one) = talking("X-CID: a1");
    site.see_all([one.refer_accepted("p1"), one.bye_from_callee("p1")]);
    assert_eq!(site.states(ann), [OFFERED, ANSWERED, ENDED]);
    assert_eq!(site.reasons(ann).last(), Some(&Reason::Transferred));
    let two = leg_to("t2", "102", "X-CID: a1");
    site.see_all([two.text(), two.response(180, "p2")]);
    assert_eq!((site.states(bob), site.calls.len()), (vec![OFFERED], 1));
}

#[test]
fn a_blind_transfer_that_only_the_callers_number_shows_stays_one_call() {
    let (mut site, ann, bob, _, one) = talking("");
    let two = leg_to("t2", "102", "");
    site.see_all([one.refer_accepted("p1"), one.bye_from_callee("p1"), two.text(), two.response(180, "p2")]);
    assert_eq!((site.states(ann), site.states(bob)), (vec![OFFERED, ANSWERED, ENDED], vec![OFFERED]));
    assert_eq!(site.calls.len(), 1);
}

#[test]
fn an_attended_transfer_seen_in_sip_alone_brings_the_call_to_who_was_asked() {
    let (mut site, ann, bob, outer, one) = talking("");
    let question = Invite::from_phone("q1@phone", "101", "102");
    let asked = Invite::b2b("c1", "102", "<sip:101@192.0.2.1>");
    site.see_all([question.text(), asked.text(), asked.response(180, "p2"), asked.response(200, "p2")]);
    site.see(&question.response(200, "pbx"));
    assert_eq!((site.states(bob), site.calls.len()), (vec![], 2));
    site.see_all([one.refer_to_asked("p1", "q1@phone"), one.refer_accepted("p1")]);
    site.see_all([one.bye_from_callee("p1"), question.bye("pbx")]);
    assert_eq!(site.reasons(ann).last(), Some(&Reason::Transferred));
    assert_eq!(site.states(bob), [OFFERED, ANSWERED]);
    site.see_all([asked.bye("p2"), outer.bye("pbx")]);
    site.wait(10_000);
    assert_eq!(site.states(bob), [OFFERED, ANSWERED, ENDED]);
    assert!(site.calls.values().all(|call| call.state == CallState::Ended));
}

#[test]
fn an_invite_with_replaces_moves_the_popup_to_who_picked_up() {
    let (mut site, ann, bob, _, one) = ringing();
    let pick_up = Invite::from_phone("r1", "102", "*8").with("Replaces: a1;to-tag=p1;from-tag=caller;early-only");
    site.see_all([pick_up.text(), pick_up.response(200, "pbx"), one.cancel(""), one.response(487, "p1")]);
    assert_eq!(site.states(ann), [OFFERED, rescinded(RescindReason::AnsweredElsewhere)]);
    assert_eq!(site.states(bob), [OFFERED, ANSWERED]);
    assert_eq!(site.calls.len(), 1);
}

#[test]
fn a_restart_in_mid_call_pops_nothing_again_and_closes_what_was_open() {
    let (mut site, ann, _, outer, one) = ringing();
    site.restart();
    site.see(&outer.text());
    site.see(&one.text());
    site.see(&one.response(180, "p1"));
    assert_eq!(site.states(ann), [OFFERED]);
    site.see(&one.response(200, "p1"));
    site.restart();
    site.see(&outer.bye("p1"));
    site.see(&one.bye("p1"));
    assert_eq!(site.states(ann), [OFFERED, ANSWERED, ENDED]);
    assert_eq!(site.only_call().outcome, Some(Outcome::Answered));
}

#[test]
fn a_restart_while_it_rings_still_hears_the_cancel() {
    let (mut site, ann, _, outer, one) = ringing();
    site.restart();
    site.see(&outer.cancel(""));
    site.see(&one.cancel(""));
    site.see(&one.response(487, "p1"));
    site.see(&outer.response(487, "p1"));
    assert_eq!(site.states(ann), [OFFERED, rescinded(RescindReason::CallerHangup)]);
}

#[test]
fn a_relayed_invite_rings_when_it_arrives_and_ends_with_the_relayed_cancel_or_by_itself() {
    for cancelled in [true, false] {
        let mut world = World::new();
        let one = world.phone("101");
        let ann = world.user(1, &[one]);
        let mut site = Site::new(world);
        site.feed = FeedKind::Replica;
        let relayed = Invite::from_trunk("a1", "+14155550100", "101").proxied("sip:101@127.0.0.1:5064", "hs");
        site.see(&relayed.text());
        assert_eq!(site.states(ann), [OFFERED]);
        if cancelled {
            site.see(&relayed.cancel(""));
        } else {
            site.wait(61_000);
        }
        assert_eq!(site.states(ann).len(), 2);
        assert_eq!(site.only_call().state, CallState::Ended);
    }
}
