//! With a links file a replay says who would have got a popup, and why not; without one, what the calls were.

use std::io::Cursor;
use std::path::PathBuf;

use hookswitch::ingest::capture::Captures;
use hookswitch::ingest::replay::RegistrationOutcome::{Challenged, Registered, Unregistered};
use hookswitch::ingest::replay::{Links, News, Origin, QueueHappening};
use hookswitch::model::{DeviceState, Direction, LegRole, OfferState, Outcome, Reason};

use crate::heard::{Found, drive, replay, replay_from};
use crate::support::packets::fixture;

fn with_links(name: &str, links: &str) -> Found {
    replay_from(Box::new(Cursor::new(fixture(name))), &Links::parse(links).expect("the links are good"))
}

#[test]
fn a_call_alone_shows_direction_parties_outcome_ring_and_talk_time() {
    let found = replay(fixture("direct-answered"));
    let calls = found.calls();
    let [call] = calls.as_slice() else { panic!("{calls:#?}") };
    assert_eq!((call.direction, call.outcome), (Direction::Inbound, Some(Outcome::Answered)));
    assert_eq!(call.caller.number.as_deref(), Some("+14155550100"));
    assert_eq!(call.caller.name.as_deref(), Some("Jane Caller"));
    assert_eq!(call.callee.number.as_deref(), Some("101"));
    assert_eq!(call.legs.iter().map(|leg| leg.role).collect::<Vec<_>>(), [LegRole::TrunkIn, LegRole::ToDevice]);
    assert!((1_500..1_600).contains(&call.ring_ms) && (2_000..2_300).contains(&call.talk_ms), "{call:?}");
    let devices = found.devices();
    assert_eq!((devices.len(), devices[0].origin, devices[0].in_calls), (1, Origin::Call, 2));
}

#[test]
fn the_outcome_is_that_of_each_scenario() {
    for (name, direction, outcome) in [
        ("direct-cancel", Direction::Inbound, Outcome::Missed),
        ("internal-call", Direction::Internal, Outcome::Answered),
        ("queue-call", Direction::Inbound, Outcome::Answered),
        ("queue-abandon", Direction::Inbound, Outcome::Missed),
    ] {
        let calls = replay(fixture(name)).calls();
        let [call] = calls.as_slice() else { panic!("{name}: {calls:#?}") };
        assert_eq!((call.direction, call.outcome), (direction, Some(outcome)), "{name}");
    }
}

#[test]
fn registrations_are_told_by_outcome_and_devices_as_they_end() {
    let found = replay(fixture("unregister"));
    let outcomes: Vec<_> = found.registrations().iter().map(|one| (one.outcome, one.status)).collect();
    assert_eq!(
        outcomes,
        [(Challenged, Some(401)), (Registered, Some(200)), (Challenged, Some(401)), (Unregistered, Some(200))]
    );
    let devices = found.devices();
    assert_eq!((&*devices[0].user, devices[0].state), ("101", DeviceState::Disconnected));
    let connected = replay(fixture("register")).devices();
    assert_eq!(
        connected.iter().map(|device| (&*device.user, device.state)).collect::<Vec<_>>(),
        [("101", DeviceState::Connected), ("102", DeviceState::Connected),]
    );
    assert!(connected[0].contacts[0].uri.starts_with("sip:101-0x"), "{connected:?}");
}

const ANNA: &str = "
    [[devices]]
    user = \"101-0x557b2030ccc0\"
    extension = \"101\"

    [[users]]
    name = \"Anna\"
    devices = [\"101-0x557b2030ccc0\"]
";

#[test]
fn with_links_an_offer_opens_is_answered_and_ends_and_the_trail_says_why() {
    let found = with_links("direct-answered", ANNA);
    let calls = found.calls();
    let [offer] = calls[0].offers.as_slice() else { panic!("{calls:#?}") };
    assert_eq!(offer.state, OfferState::Ended);
    assert!(offer.answered_at.is_some());
    let trail = found.news.iter().find_map(|news| match news {
        News::Call(record) => Some(record.trail.iter().map(|entry| entry.reason).collect::<Vec<_>>()),
        _ => None,
    });
    assert_eq!(trail.unwrap(), [Reason::Offered, Reason::Answered, Reason::Ended]);
    let Some(News::Names(names)) = found.news.first() else { panic!("the names come first") };
    assert_eq!(names.users.values().collect::<Vec<_>>(), ["Anna"]);
}

#[test]
fn a_user_on_do_not_disturb_gets_no_offer_and_the_trail_says_so() {
    let found = with_links("direct-answered", &ANNA.replace("name =", "dnd = true\n    name ="));
    assert!(found.calls()[0].offers.is_empty());
    let trail = found.news.iter().find_map(|news| match news {
        News::Call(record) => Some(record.trail.clone()),
        _ => None,
    });
    assert_eq!(trail.unwrap()[0].reason, Reason::Dnd);
}

#[test]
fn queue_events_are_told_when_a_rule_or_a_number_shows_the_queue() {
    let links = "[[queues]]\nname = \"sales\"\nnumber = \"600\"\n";
    let events = |name: &str| {
        let found = with_links(name, links);
        let event =
            |news: &News| if let News::Queue(event) = news { Some((event.name.clone(), event.event)) } else { None };
        found.news.iter().filter_map(event).collect::<Vec<_>>()
    };
    let sales = |event| ("sales".to_owned(), event);
    assert_eq!(events("queue-call"), [sales(QueueHappening::Joined), sales(QueueHappening::Answered)]);
    assert_eq!(events("queue-abandon"), [sales(QueueHappening::Joined), sales(QueueHappening::Abandoned)]);
}

#[test]
fn several_files_are_one_capture_in_the_order_of_their_stamps() {
    let path = |name: &str| PathBuf::from(format!("fixtures/pcap/sip-{name}.pcap"));
    let all = |names: [&str; 3]| {
        let mut found = Found::default();
        drive(&mut Captures::open(&names.map(path)).unwrap(), &Links::default(), &mut found);
        found
    };
    let found = all(["queue-call", "register", "direct-answered"]);
    let other = all(["direct-answered", "queue-call", "register"]);
    assert_eq!((&found.news, &found.end), (&other.news, &other.end));
    let totals = found.totals();
    assert_eq!((totals.messages, totals.stamps_out_of_order, totals.clock_set_back), (33, 0, 0));
}

#[test]
fn hep_dumps_of_both_kinds_of_pbx_show_phones_and_calls() {
    for (name, user) in [("asterisk-tcp-phone", "102"), ("freeswitch-tcp-phone", "202")] {
        let found = replay(std::fs::read(format!("fixtures/hep/{name}.bin")).unwrap());
        let calls = found.calls();
        let [call] = calls.as_slice() else { panic!("{name}: {calls:#?}") };
        assert_eq!((call.direction, call.outcome), (Direction::Inbound, Some(Outcome::Answered)), "{name}");
        let devices = found.devices();
        assert_eq!((devices.len(), &*devices[0].user, devices[0].in_calls), (1, user, 2), "{name}");
        let decoded = std::fs::read_to_string(format!("fixtures/hep/{name}.txt")).unwrap();
        let sip = decoded.lines().filter(|line| line.contains(" SIP ")).count();
        assert_eq!(found.totals().messages, u64::try_from(sip).unwrap(), "{name}");
    }
}
