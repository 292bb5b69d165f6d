//! The tracker against anything a feed may show it, in any order.

use std::collections::BTreeMap;

use hookswitch::model::*;
use hookswitch::sip::dialog::{Seen, Sighting, Tracker};
use hookswitch::sip::scan;
use hookswitch::switchboard::{Effect, Input, Switchboard};
use proptest::prelude::*;

use super::wire::Invite;
use super::world::{PBX, SITE, World};

/// One message of a made-up conversation, and the time before it.
#[derive(Clone, Debug)]
struct Step {
    wait_ms: u64,
    call: u8,
    hop: u8,
    retries: u32,
    what: u8,
    status: u16,
    tag: u8,
    feed: FeedKind,
}

fn step() -> impl Strategy<Value = Step> {
    let statuses = prop::sample::select(vec![100, 180, 183, 200, 202, 302, 401, 407, 422, 480, 486, 487, 503, 603]);
    let waits = prop_oneof![8 => 0..50_u64, 2 => 0..60_000_u64, 1 => 0..20_000_000_u64];
    let feeds = prop_oneof![9 => Just(FeedKind::Mirror), 1 => Just(FeedKind::Replica)];
    (waits, 0..3_u8, 0..3_u8, 0..2_u32, 0..9_u8, statuses, 0..2_u8, feeds).prop_map(
        |(wait_ms, call, hop, retries, what, status, tag, feed)| Step {
            wait_ms,
            call,
            hop,
            retries,
            what,
            status,
            tag,
            feed,
        },
    )
}

fn text(step: &Step) -> String {
    let outer = Invite::from_trunk(&format!("c{}", step.call), "+14155550100", "101");
    let mut invite = match step.hop {
        0 => outer,
        1 => outer.proxied_to("101"),
        _ => outer.proxied_to("102"),
    };
    for _ in 0..step.retries {
        invite = invite.authorised();
    }
    let tag = ["one", "two"][usize::from(step.tag)];
    match step.what {
        0 | 1 => invite.text(),
        2..=4 => invite.response(step.status, tag),
        5 => invite.cancel(""),
        6 => invite.ack(tag),
        7 => invite.bye(tag),
        _ => invite.bye_from_callee(tag),
    }
}

fn observe(tracker: &mut Tracker, now: Now, feed: FeedKind, text: &str, events: &mut Vec<PbxEvent>) -> Seen {
    let message = scan(text.as_bytes()).expect("well-formed");
    let hop = Hop::Unknown;
    tracker.observe(now, &Sighting { message: &message, pbx: PBX, feed, source: None, destination: None, hop }, events)
}

/// Each leg starts, rings and is answered at most once and in that order, ends, and is then silent; only long after,
/// when it is forgotten, may the same INVITE start it anew.
fn every_leg_has_one_life(events: &[PbxEvent]) {
    let mut lives: BTreeMap<&LegKey, Vec<&'static str>> = BTreeMap::new();
    for event in events {
        lives.entry(&event.leg).or_default().push(name(&event.event));
    }
    for (leg, words) in lives {
        for life in words.split_inclusive(|word| *word == "ended") {
            let at = |wanted: &str| life.iter().position(|word| *word == wanted);
            let once = life.iter().all(|word| *word == "referred" || life.iter().filter(|w| w == &word).count() == 1);
            let ordered = at("answered").is_none_or(|answered| at("rang").is_none_or(|rang| rang < answered));
            assert!(at("started") == Some(0) && at("ended").is_some() && once && ordered, "{leg:?}: {life:?}");
        }
    }
}

fn name(event: &LegEvent) -> &'static str {
    match event {
        LegEvent::Started(_) => "started",
        LegEvent::Rang => "rang",
        LegEvent::Answered => "answered",
        LegEvent::Cancelling => "cancelling",
        LegEvent::Referred | LegEvent::TakesOver(_) => "referred",
        LegEvent::Ended(_) => "ended",
        LegEvent::Named(_) | LegEvent::Queued(_) | LegEvent::Unqueued | LegEvent::Moved(_) => {
            unreachable!("SIP does not say so")
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(600) })]

    #[test]
    fn whatever_is_seen_every_leg_has_one_life_and_the_tracker_forgets_it(
        steps in prop::collection::vec(step(), 1..60),
    ) {
        let mut tracker = Tracker::default();
        let mut now = Now { tick: Tick(0), unix: UnixMillis(1_800_000_000_000) };
        let mut events = Vec::new();
        for step in &steps {
            now = now.after(step.wait_ms);
            tracker.poll(now, &mut events);
            observe(&mut tracker, now, step.feed, &text(step), &mut events);
        }
        // Two rounds: an ended leg is remembered for a while before it is forgotten.
        for _ in 0..2 {
            now = now.after(24 * 3_600_000);
            tracker.poll(now, &mut events);
        }
        every_leg_has_one_life(&events);
        prop_assert!(tracker.is_empty());
        prop_assert_eq!(tracker.next_deadline(), None);
    }

    #[test]
    fn a_message_seen_twice_says_nothing_the_second_time(steps in prop::collection::vec(step(), 1..40)) {
        let mut tracker = Tracker::default();
        let mut now = Now { tick: Tick(0), unix: UnixMillis(1_800_000_000_000) };
        for step in &steps {
            now = now.after(step.wait_ms % 50);
            let text = text(step);
            observe(&mut tracker, now, step.feed, &text, &mut Vec::new());
            let mut again = Vec::new();
            observe(&mut tracker, now, step.feed, &text, &mut again);
            prop_assert!(again.is_empty() || step.status == 202, "{:?}", again);
        }
    }
}

#[test]
fn a_flood_of_calls_is_bounded_and_says_which_limit_it_met() {
    let mut tracker = Tracker::bounded(5_000);
    let mut events = Vec::new();
    let mut limited = 0;
    for number in 0..5_010 {
        let text = Invite::from_trunk(&format!("f{number}"), "+14155550100", "101").text();
        limited += usize::from(
            observe(&mut tracker, Now::default(), FeedKind::Mirror, &text, &mut events) == Seen::Limited("dialogs"),
        );
    }
    assert_eq!((limited, tracker.len()), (10, 5_000));
    let forked = Invite::from_trunk("f0", "+14155550100", "101");
    let seen: Vec<Seen> = (0..40)
        .map(|n| {
            let text = forked.proxied(&format!("sip:10{n}@192.0.2.9"), &n.to_string()).text();
            observe(&mut tracker, Now::default(), FeedKind::Mirror, &text, &mut events)
        })
        .collect();
    assert_eq!(seen.iter().filter(|seen| **seen == Seen::Limited("legs")).count(), 40 - 31);
}

#[test]
fn a_leg_too_many_leaves_nothing_behind_that_would_swallow_a_later_call() {
    let start = |now: Now, switchboard: &mut Switchboard, name: &str| {
        let joins = JoinHints { other_leg: vec!["first".into()], ..JoinHints::default() };
        let start = LegStart { call_key: name.into(), joins, ..LegStart::default() };
        event(now, switchboard, name, LegEvent::Started(Box::new(start)))
    };
    let mut switchboard = Switchboard::new(SITE);
    let mut now = Now { tick: Tick(1), unix: UnixMillis(1_800_000_000_000) };
    let names: Vec<String> = std::iter::once("first".to_owned()).chain((1..100).map(|n| format!("n{n}"))).collect();
    let dropped: usize = names
        .iter()
        .map(|name| start(now, &mut switchboard, name))
        .filter(|effects| effects.contains(&Effect::Dropped("legs")))
        .count();
    assert_eq!((switchboard.calls().count(), dropped), (1, 100 - 64));
    for name in &names {
        event(now, &mut switchboard, name, LegEvent::Ended(LegEnd::Cancelled));
    }
    assert_eq!(switchboard.calls().count(), 0);
    now = now.after(60_000);
    switchboard.apply(now, &Input::Time, &World::new());
    start(now, &mut switchboard, "n99");
    assert_eq!(switchboard.calls().count(), 1, "long after, the same name is a new call");
}

fn event(now: Now, switchboard: &mut Switchboard, leg: &str, event: LegEvent) -> Vec<Effect> {
    let event = PbxEvent { pbx: PBX, feed: FeedKind::Mirror, leg: LegKey(leg.into()), event, evidence: String::new() };
    switchboard.apply(now, &Input::Event(&event), &World::new())
}
