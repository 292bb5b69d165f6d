//! Whose leg is it, when addresses collide or say little.

use std::net::SocketAddr;

use hookswitch::model::*;
use hookswitch::sip::dialog::{Sighting, Tracker};
use hookswitch::sip::scan;
use hookswitch::switchboard::{Input, Switchboard};

use super::site::Site;
use super::wire::Invite;
use super::world::{PBX, SITE, World, device};

/// Two phones in two offices behind NAT that registered the very same private contact.
fn colliding() -> World {
    let mut world = World::new();
    let (one, two) = (world.phone("101"), world.phone("102"));
    let contact = ContactKey { user: "phone".into(), host: "192.168.1.10".into(), port: Some(5060) };
    for (id, received) in [(one, "198.51.100.1"), (two, "198.51.100.2")] {
        let phone = world.phones.get_mut(&id).expect("just made");
        phone.contact = contact.clone();
        phone.received = Some(received.parse().expect("an address"));
    }
    world
}

/// Role and device of the one leg that this message starts.
fn role(world: &World, text: &str, hop: Hop, destination: Option<&str>) -> (LegRole, Option<DeviceId>) {
    let message = scan(text.as_bytes()).expect("well-formed");
    let destination: Option<SocketAddr> = destination.map(|text| text.parse().expect("an address"));
    let now = Now::default();
    let mut events = Vec::new();
    let sighting = Sighting { message: &message, pbx: PBX, feed: FeedKind::Mirror, source: None, destination, hop };
    Tracker::default().observe(now, &sighting, &mut events);
    let mut switchboard = Switchboard::new(SITE);
    for event in &events {
        switchboard.apply(now, &Input::Event(event), world);
    }
    let call = switchboard.calls().next().expect("a call");
    (call.legs[0].role, call.legs[0].device)
}

#[test]
fn one_private_address_in_two_offices_is_told_apart_by_where_the_invite_really_went() {
    let world = colliding();
    let invite = Invite { to: "<sip:5550199@pbx.example>".into(), ..Invite::from_trunk("a", "+14155550100", "x") }
        .proxied("sip:phone@192.168.1.10:5060", "x");
    let text = invite.text();
    assert_eq!(role(&world, &text, Hop::FromPbx, Some("198.51.100.2:5060")), (LegRole::ToDevice, Some(device("102"))));
    assert_eq!(role(&world, &text, Hop::FromPbx, None), (LegRole::Ambiguous, None));
}

#[test]
fn one_private_address_in_two_offices_is_told_apart_by_the_to_header() {
    let invite = Invite::from_trunk("a", "+14155550100", "101").proxied("sip:phone@192.168.1.10:5060", "x");
    assert_eq!(role(&colliding(), &invite.text(), Hop::FromPbx, None), (LegRole::ToDevice, Some(device("101"))));
}

#[test]
fn an_ambiguous_leg_pops_nobody_and_says_so_in_the_trail() {
    let mut world = colliding();
    let ann = world.user(1, &[device("101"), device("102")]);
    let mut site = Site::new(world);
    let outer = Invite::from_trunk("a", "+14155550100", "4155550199");
    let inner = outer.proxied("sip:phone@192.168.1.10:5060", "x");
    site.see_all([outer.text(), inner.text(), inner.response(180, "p")]);
    assert_eq!(site.states(ann), []);
    assert_eq!(site.trail.iter().map(|entry| entry.reason).collect::<Vec<_>>(), [Reason::Ambiguous]);
}

#[test]
fn a_phone_whose_contact_was_never_seen_is_found_by_what_the_pbx_calls_it() {
    let mut world = World::new();
    world.phone("101");
    let outer = Invite::from_trunk("a", "+14155550100", "101");
    for target in ["sip:101@203.0.113.9:5060", "sip:x7f3k2@203.0.113.9:5060"] {
        let invite = outer.proxied(target, "x");
        assert_eq!(role(&world, &invite.text(), Hop::FromPbx, None), (LegRole::ToDevice, Some(device("101"))));
    }
    let out = outer.proxied("sip:+14155550111@trunk.example", "x");
    assert_eq!(role(&world, &out.text(), Hop::FromPbx, None), (LegRole::TrunkOut, None));
}

#[test]
fn a_caller_is_a_device_by_its_contact_or_its_address_of_record_and_never_from_elsewhere() {
    let mut world = World::new();
    world.phone("101");
    let known = Invite::from_phone("a", "101", "+14155550100");
    assert_eq!(role(&world, &known.text(), Hop::ToPbx, None), (LegRole::FromDevice, Some(device("101"))));
    let renamed = Invite { from: "<sip:office@pbx.example>;tag=caller".into(), ..known.clone() };
    assert_eq!(role(&world, &renamed.text(), Hop::ToPbx, None), (LegRole::FromDevice, Some(device("101"))));
    let by_aor = Invite { contact: "<sip:x@192.0.2.101:6000>".into(), ..known.clone() };
    assert_eq!(role(&world, &by_aor.text(), Hop::ToPbx, None), (LegRole::FromDevice, Some(device("101"))));
    let trunk = Invite::from_trunk("a", "101", "102");
    assert_eq!(role(&world, &trunk.text(), Hop::ToPbx, None), (LegRole::TrunkIn, None), "101 of another domain");
}

#[test]
fn without_any_hint_the_pbxs_networks_say_which_way_a_leg_goes() {
    let mut world = World::new();
    world.phone("101");
    world.pbx.networks.push("192.0.2.1".into());
    let invite = Invite::from_trunk("a", "+14155550100", "+14155550111");
    assert_eq!(role(&world, &invite.text(), Hop::Unknown, Some("192.0.2.1:5060")).0, LegRole::TrunkIn);
    assert_eq!(role(&world, &invite.text(), Hop::Unknown, None).0, LegRole::TrunkIn);
}
