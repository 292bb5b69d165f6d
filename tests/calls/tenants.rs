//! One PBX, two tenants: neither sees the other, not even in a call between them.

use hookswitch::model::*;
use uuid::Uuid;

use super::site::{ANSWERED, ENDED, OFFERED, Site};
use super::wire::Invite;
use super::world::{ACCOUNT, World};

const OTHER: AccountId = AccountId(Uuid::from_u128(77));

/// Ann's 101 belongs to the office, Olga's 201 to the other tenant.
fn shared() -> (Site, UserId, UserId) {
    let mut world = World::new();
    let (ours, theirs) = (world.phone("101"), world.phone("201"));
    let (ann, olga) = (world.user(1, &[ours]), world.user(2, &[theirs]));
    world.tenants.insert(theirs, OTHER);
    world.facts(olga).account = OTHER;
    (Site::new(world), ann, olga)
}

/// Each call names devices, users and offers of its own account alone.
fn nobody_sees_the_other(site: &Site) {
    for call in site.calls.values() {
        let account = |device: &DeviceId| site.world.tenants.get(device).copied().unwrap_or(ACCOUNT);
        let ends = [call.caller.device, call.callee.device];
        let devices = call.legs.iter().map(|leg| leg.device).chain(ends).flatten();
        for device in devices.chain(call.users.iter().map(|user| user.device)) {
            assert_eq!(account(&device), call.account, "{call:#?}");
        }
        for user in call.users.iter().map(|user| user.user).chain(call.offers.iter().map(|offer| offer.user)) {
            assert_eq!(site.world.users[&user].account, call.account, "{call:#?}");
        }
    }
}

#[test]
fn a_call_between_two_tenants_is_a_call_of_each_and_pops_for_the_one_who_is_called() {
    let (mut site, ann, olga) = shared();
    let mut outer = Invite::from_phone("x1", "201", "+14155550100");
    outer.from = "<sip:+14155550199@other.example>;tag=caller".into();
    let inner = outer.proxied_to("101");
    site.see_all([outer.text(), inner.text(), inner.response(180, "p"), outer.response(180, "p")]);
    assert_eq!(site.states(ann), [OFFERED]);
    site.see_all([inner.response(200, "p"), outer.response(200, "p"), outer.ack("p"), inner.ack("p")]);
    assert_eq!(site.states(ann), [OFFERED, ANSWERED]);
    nobody_sees_the_other(&site);
    site.see(&outer.bye("p"));
    assert_eq!(site.states(ann), [OFFERED, ANSWERED, ENDED]);
    assert_eq!(site.states(olga).last(), Some(&ENDED));
    assert_eq!(site.calls.len(), 2);
    assert!(site.calls.values().all(|call| call.state == CallState::Ended));
    nobody_sees_the_other(&site);
}

#[test]
fn a_tenant_who_names_a_call_of_another_takes_nothing_off_their_screens() {
    let (mut site, ann, olga) = shared();
    let trunk = Invite::from_trunk("t1", "+14155550123", "101");
    let rung = trunk.proxied_to("101");
    site.see_all([trunk.text(), rung.text(), rung.response(180, "p")]);
    assert_eq!(site.states(ann), [OFFERED]);
    let theirs = Invite::b2b("evil", "201", "<sip:+14155550188@192.0.2.1>").with("X-CID: t1");
    site.see_all([theirs.text(), theirs.response(180, "q"), theirs.response(200, "q")]);
    assert_eq!(site.states(ann), [OFFERED], "still ringing for Ann");
    assert_eq!(site.states(olga), [OFFERED, ANSWERED], "and a call of Olga's own");
    nobody_sees_the_other(&site);
}
