//! Logs of a manager connection and of an event socket, replayed as if they came from it.

use std::io::Cursor;
use std::path::{Path, PathBuf};

use hookswitch::ingest::replay::{Links, QueueHappening};
use hookswitch::model::{Direction, OfferState, Outcome};

use crate::heard::{Drip, replay, replay_from};

fn log(name: &str) -> Vec<u8> {
    std::fs::read(path(name)).expect("the log is there")
}

fn path(name: &str) -> PathBuf {
    Path::new("fixtures/ami").join(format!("asterisk22-{name}.ami"))
}

#[test]
fn an_ami_log_shows_the_calls_that_were() {
    for (name, direction, outcome) in [
        ("direct-answered", Direction::Inbound, Outcome::Answered),
        ("direct-cancel", Direction::Inbound, Outcome::Missed),
        ("internal-call", Direction::Internal, Outcome::Answered),
        ("queue-call", Direction::Inbound, Outcome::Answered),
        ("queue-abandon", Direction::Inbound, Outcome::Missed),
        ("all-classes", Direction::Inbound, Outcome::Answered),
    ] {
        let calls = replay(log(name)).calls();
        let [call] = calls.as_slice() else { panic!("{name}: {calls:#?}") };
        assert_eq!((call.direction, call.outcome), (direction, Some(outcome)), "{name}");
    }
}

#[test]
fn an_ami_log_shows_the_queue_and_who_answered() {
    let found = replay(log("queue-call"));
    let of_calls = found.queue_events().into_iter().filter(|event| event.call.is_some());
    let told: Vec<_> = of_calls.map(|event| (event.name, event.event, event.user)).collect();
    let sales = |event, user: Option<&str>| ("sales".to_owned(), event, user.map(str::to_owned));
    assert_eq!(told, [sales(QueueHappening::Joined, None), sales(QueueHappening::Answered, Some("101"))]);
}

#[test]
fn members_that_come_pause_and_go_are_told() {
    let found = replay(log("members"));
    let events: Vec<_> = found.queue_events().into_iter().map(|event| (event.event, event.user)).collect();
    for expected in [QueueHappening::MemberAdded, QueueHappening::MemberPaused, QueueHappening::MemberRemoved] {
        assert!(events.contains(&(expected, Some("101".to_owned()))), "{expected:?} is not among {events:?}");
    }
    // The static member, whose phone is not there.
    assert!(events.contains(&(QueueHappening::MemberAdded, Some("103".to_owned()))), "{events:?}");
}

#[test]
fn with_links_a_queue_call_in_an_ami_log_is_offered_to_who_has_the_queue() {
    let links = "[[users]]\nname = \"Anna\"\ndevices = [\"101\"]\nqueues = [\"sales\"]\n[[queues]]\nname = \"sales\"\n";
    let links = Links::parse(links).expect("the links are good");
    let found = replay_from(Box::new(Cursor::new(log("queue-call"))), &links);
    let calls = found.calls();
    assert_eq!(calls[0].offers.len(), 1, "{calls:#?}");
    assert_eq!(calls[0].offers[0].state, OfferState::Ended);
}

#[test]
fn a_log_cut_anywhere_or_read_byte_by_byte_gives_the_same_for_the_whole_part() {
    let file = log("direct-cancel");
    let whole = replay(file.clone());
    let dripped = replay_from(Box::new(Drip(Cursor::new(file.clone()))), &Links::default());
    assert_eq!((&dripped.news, &dripped.end), (&whole.news, &whole.end));
    for cut in (100..file.len()).step_by(211) {
        let found = replay_from(Box::new(Cursor::new(file[..cut].to_vec())), &Links::default());
        assert_eq!(found.news, whole.news[..found.news.len()], "cut at {cut}");
    }
}

fn event_socket(name: &str) -> Vec<u8> {
    std::fs::read(Path::new("fixtures/esl").join(format!("esl-{name}.txt"))).expect("the log is there")
}

#[test]
fn an_event_socket_log_of_either_format_shows_the_calls_that_were() {
    for (name, direction, outcome) in [
        ("json-direct-answered", Direction::Inbound, Outcome::Answered),
        ("json-direct-noanswer", Direction::Inbound, Outcome::Missed),
        ("json-direct-cancel", Direction::Inbound, Outcome::Missed),
        ("json-internal-call", Direction::Internal, Outcome::Answered),
        ("json-queue-call", Direction::Inbound, Outcome::Answered),
        ("plain-queue-call", Direction::Inbound, Outcome::Answered),
        ("json-queue-ringall", Direction::Inbound, Outcome::Answered),
        ("json-queue-abandon", Direction::Inbound, Outcome::Missed),
        ("json-blind-transfer", Direction::Inbound, Outcome::Answered),
    ] {
        let calls = replay(event_socket(name)).calls();
        let [call] = calls.as_slice() else { panic!("{name}: {calls:#?}") };
        assert_eq!((call.direction, call.outcome), (direction, Some(outcome)), "{name}");
    }
}

#[test]
fn an_event_socket_log_that_is_cut_short_or_no_frame_ends_with_a_word_that_says_so() {
    let whole = event_socket("json-register");
    assert!(replay(whole.clone()).errors.is_empty());
    let cut = replay_from(Box::new(Cursor::new(whole[..whole.len() - 10].to_vec())), &Links::default());
    assert_eq!(cut.errors.len(), 1, "{:?}", cut.errors);
    let endless = [&whole[..], b"Content-Length: lots\n\n"].concat();
    let found = replay_from(Box::new(Cursor::new(endless)), &Links::default());
    assert_eq!(found.errors.len(), 1, "{:?}", found.errors);
}
