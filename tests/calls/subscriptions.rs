//! What a subscription tells of dialogs, beside the SIP that another feed sees of the same calls.

use hookswitch::model::*;
use hookswitch::switchboard::Input;
use proptest::prelude::*;

use super::site::{Site, lagging};
use super::wire::Invite;
use super::world::{PBX, World, device};

const FROM: &str = "<sip:+14155550100@192.0.2.1>";
const OFFERED: (OfferState, Option<RescindReason>) = (OfferState::Offered, None);
const ANSWERED: (OfferState, Option<RescindReason>) = (OfferState::Answered, None);
const ENDED: (OfferState, Option<RescindReason>) = (OfferState::Ended, None);

struct Office {
    site: Site,
    ann: UserId,
    bob: UserId,
}

/// Ann at 101, Bob at 102.
fn office() -> Office {
    let mut world = World::new();
    let (one, two) = (world.phone("101"), world.phone("102"));
    let (ann, bob) = (world.user(1, &[one]), world.user(2, &[two]));
    Office { site: Site::new(world), ann, bob }
}

fn key(dialog: &str) -> LegKey {
    LegKey(format!("subscription:{PBX}:{dialog}").into())
}

fn tell(site: &mut Site, dialog: &str, event: LegEvent) {
    let evidence = format!("dialog-info, {dialog}");
    let event = PbxEvent { pbx: PBX, feed: FeedKind::Subscription, leg: key(dialog), event, evidence };
    site.tell(&Input::Event(&event));
}

fn user(name: &str) -> ContactKey {
    ContactKey { user: name.into(), ..ContactKey::default() }
}

/// A dialog of an extension with somebody; the notifier gives its Call-ID, or does not.
fn dialog(name: &str, call_id: Option<&str>, hop: Hop, extension: &str, other: &str) -> LegStart {
    let (target, from) = if hop == Hop::ToPbx { (other, extension) } else { (extension, other) };
    LegStart {
        call_key: call_id.map_or_else(|| key(name).0, Into::into),
        hop,
        target: user(target),
        to: user(target),
        from: user(from),
        caller: Caller { number: from.into(), ..Caller::default() },
        endpoint: Some(Endpoint { user: extension.into(), domain: None }),
        sip_call_id: call_id.map(str::to_owned),
        ..LegStart::default()
    }
}

fn started(name: &str, call_id: Option<&str>, hop: Hop, extension: &str, other: &str) -> LegEvent {
    LegEvent::Started(Box::new(dialog(name, call_id, hop, extension, other)))
}

/// The devices of a call's legs.
fn devices(call: &Call) -> Vec<DeviceId> {
    let mut devices: Vec<DeviceId> = call.legs.iter().filter_map(|leg| leg.device).collect();
    devices.sort_unstable();
    devices
}

/// One step of either feed, and when it happens.
enum Step {
    Sip(String),
    Told(&'static str, LegEvent),
}

type Story = [Vec<(u64, Step)>; 2];

fn story<const S: usize, const T: usize>(sip: [(u64, String); S], told: [(u64, &'static str, LegEvent); T]) -> Story {
    let sip = sip.into_iter().map(|(at, text)| (at, Step::Sip(text))).collect();
    [sip, told.into_iter().map(|(at, dialog, event)| (at, Step::Told(dialog, event))).collect()]
}

/// A call from outside through a proxy whose notifier knows its Call-ID.
fn through_a_proxy() -> Story {
    let outer = Invite::from_trunk("c1", "+14155550100", "101");
    let inner = outer.proxied_to("101");
    story(
        [
            (0, outer.text()),
            (4, inner.text()),
            (40, inner.response(180, "p1")),
            (41, outer.response(180, "p1")),
            (2_000, inner.response(200, "p1")),
            (2_001, outer.response(200, "p1")),
            (5_000, outer.bye("p1")),
            (5_001, inner.bye("p1")),
        ],
        [
            (5, "d1", started("d1", Some("c1"), Hop::FromPbx, "101", "+14155550100")),
            (42, "d1", LegEvent::Rang),
            (2_002, "d1", LegEvent::Answered),
            (5_002, "d1", LegEvent::Ended(LegEnd::Bye)),
        ],
    )
}

/// A call from outside through a B2BUA whose hints have no Call-ID.
fn through_hints() -> Story {
    let outer = Invite::from_trunk("c1", "+14155550100", "101");
    let inner = Invite::b2b("c2", "101", FROM);
    story(
        [
            (0, outer.text()),
            (30, inner.text()),
            (60, inner.response(180, "p1")),
            (2_000, inner.response(200, "p1")),
            (2_002, outer.response(200, "pbx")),
            (5_000, inner.bye("p1")),
            (5_002, outer.bye("pbx")),
        ],
        [
            (61, "d1", started("d1", None, Hop::FromPbx, "101", "+14155550100")),
            (61, "d1", LegEvent::Rang),
            (2_003, "d1", LegEvent::Answered),
            (5_003, "d1", LegEvent::Ended(LegEnd::Bye)),
        ],
    )
}

/// A call between colleagues through a proxy: one Call-ID, two devices, two dialogs.
fn between_colleagues() -> Story {
    let outer = Invite::from_phone("c1", "101", "102");
    let inner = outer.proxied_to("102");
    story(
        [
            (0, outer.text()),
            (4, inner.text()),
            (40, inner.response(180, "p2")),
            (41, outer.response(180, "p2")),
            (2_000, inner.response(200, "p2")),
            (2_001, outer.response(200, "p2")),
            (5_000, outer.bye("p2")),
            (5_001, inner.bye("p2")),
        ],
        [
            (2, "d1", started("d1", Some("c1"), Hop::ToPbx, "101", "102")),
            (5, "d2", started("d2", Some("c1"), Hop::FromPbx, "102", "101")),
            (42, "d1", LegEvent::Rang),
            (43, "d2", LegEvent::Rang),
            (2_002, "d1", LegEvent::Answered),
            (2_003, "d2", LegEvent::Answered),
            (5_002, "d1", LegEvent::Ended(LegEnd::Bye)),
            (5_003, "d2", LegEvent::Ended(LegEnd::Bye)),
        ],
    )
}

/// Plays a story; each feed keeps its own order, and lags as `jitter` says.
fn play(story: Story, jitter: &[u64]) -> Office {
    let steps = lagging(story, jitter);
    let mut office = office();
    let began = office.site.now.tick;
    for (at, step) in steps {
        let ahead = (began + at) - office.site.now.tick;
        office.site.wait(ahead);
        match step {
            Step::Sip(text) => drop(office.site.see_now(&text)),
            Step::Told(dialog, event) => tell(&mut office.site, dialog, event),
        }
    }
    office.site.wait(120_000);
    office
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(100) })]

    #[test]
    fn a_leg_that_both_feeds_see_is_one_leg_whichever_is_quicker(jitter in prop::collection::vec(0_u64..60, 1..30)) {
        for story in [through_a_proxy(), through_hints()] {
            let office = play(story, &jitter);
            prop_assert_eq!(office.site.states(office.ann), [OFFERED, ANSWERED, ENDED]);
            let call = office.site.only_call();
            prop_assert_eq!(devices(call), [device("101")]);
            prop_assert_eq!(call.legs.len(), 2, "{:#?}", call);
            prop_assert_eq!((call.direction, call.outcome), (Direction::Inbound, Some(Outcome::Answered)));
        }
    }

    #[test]
    fn each_end_of_an_internal_call_is_there_once(jitter in prop::collection::vec(0_u64..60, 1..30)) {
        let office = play(between_colleagues(), &jitter);
        prop_assert_eq!((office.site.states(office.ann), office.site.states(office.bob)), (vec![], vec![]));
        let call = office.site.only_call();
        let mut expected = [device("101"), device("102")];
        expected.sort_unstable();
        prop_assert_eq!(devices(call), expected);
        prop_assert_eq!(call.legs.len(), 2, "{:#?}", call);
        prop_assert_eq!((call.direction, call.outcome), (Direction::Internal, Some(Outcome::Answered)));
    }
}

/// Two calls ring 101 within half a second; what each of their legs is, in the order in which they began.
fn two_at_once(call_ids: [Option<&str>; 2]) -> (Office, [Invite; 2]) {
    let mut office = office();
    let site = &mut office.site;
    let one = Invite::b2b("c1", "101", FROM);
    let two = Invite::b2b("c2", "101", "<sip:+14155550177@192.0.2.1>");
    for invite in [&one, &two] {
        site.see(&invite.text());
        site.see(&invite.response(180, "p"));
        site.wait(200);
    }
    // The later call is told first.
    for (name, call_id, other) in [("d2", call_ids[1], "+14155550177"), ("d1", call_ids[0], "+14155550100")] {
        tell(site, name, started(name, call_id, Hop::FromPbx, "101", other));
        tell(site, name, LegEvent::Rang);
    }
    (office, [one, two])
}

#[test]
fn a_second_call_that_waits_at_a_device_stays_one_of_its_own() {
    let (mut office, _) = two_at_once([Some("c1"), Some("c2")]);
    let site = &mut office.site;
    assert_eq!(site.calls.len(), 2);
    assert!(site.calls.values().all(|call| call.legs.len() == 1), "{:#?}", site.calls);
    tell(site, "d2", LegEvent::Answered);
    let answered: Vec<_> = site.calls.values().filter(|call| call.state == CallState::Answered).collect();
    assert_eq!(answered.len(), 1);
    assert_eq!(answered[0].caller.number.as_deref(), Some("+14155550177"), "its own call was answered, no other");
}

#[test]
fn where_two_legs_fit_a_dialog_without_a_call_id_sip_alone_is_believed() {
    let (mut office, [_, two]) = two_at_once([None, None]);
    let site = &mut office.site;
    tell(site, "d1", LegEvent::Answered);
    assert!(site.calls.values().all(|call| call.state == CallState::Ringing), "it may be either: {:#?}", site.calls);
    site.see(&two.response(200, "p"));
    let answered: Vec<_> = site.calls.values().filter(|call| call.state == CallState::Answered).collect();
    assert_eq!((site.calls.len(), answered.len()), (2, 1));
    assert_eq!(answered[0].caller.number.as_deref(), Some("+14155550177"));
}

#[test]
fn a_subscription_that_fails_ends_no_leg_that_sip_sees_and_one_that_says_so_ends_it_a_moment_later() {
    let Office { mut site, ann, .. } = office();
    let outer = Invite::from_trunk("c1", "+14155550100", "101");
    let inner = outer.proxied_to("101");
    for message in [outer.text(), inner.text(), inner.response(180, "p1")] {
        site.see(&message);
    }
    tell(&mut site, "d1", started("d1", Some("c1"), Hop::FromPbx, "101", "+14155550100"));
    tell(&mut site, "d1", LegEvent::Ended(LegEnd::Lost));
    site.wait(3_000);
    assert_eq!(site.states(ann), [OFFERED]);
    tell(&mut site, "d2", started("d2", Some("c1"), Hop::FromPbx, "101", "+14155550100"));
    site.tell(&Input::Snapshot { pbx: PBX, feed: FeedKind::Subscription, legs: &[].into() });
    tell(&mut site, "d3", started("d3", Some("c1"), Hop::FromPbx, "101", "+14155550100"));
    tell(&mut site, "d3", LegEvent::Answered);
    assert_eq!(site.states(ann), [OFFERED, ANSWERED], "SIP's 200 may have been lost");
    assert_eq!(site.only_call().legs.len(), 2);
    tell(&mut site, "d3", LegEvent::Ended(LegEnd::Bye));
    assert_eq!(site.states(ann), [OFFERED, ANSWERED], "SIP knows better how it ended, and gets a moment to say so");
    site.wait(1_100);
    assert_eq!(site.states(ann), [OFFERED, ANSWERED, ENDED]);
}

#[test]
fn after_a_restart_a_dialog_that_is_under_way_is_the_leg_that_was_written_down() {
    let Office { mut site, ann, .. } = office();
    let inner = Invite::b2b("c2", "101", FROM);
    for message in [inner.text(), inner.response(180, "p1"), inner.response(200, "p1")] {
        site.see(&message);
    }
    site.restart();
    site.wait(5_000);
    // A hint that was not seen to ring says nothing of who called.
    let start = LegStart { under_way: true, ..dialog("d1", None, Hop::ToPbx, "101", "") };
    tell(&mut site, "d1", LegEvent::Started(Box::new(start)));
    assert_eq!(site.only_call().legs.len(), 1);
    tell(&mut site, "d1", LegEvent::Ended(LegEnd::Bye));
    site.wait(1_100);
    assert_eq!(site.states(ann), [OFFERED, ANSWERED, ENDED]);
}
