//! What the decoder asks, and what it makes of the answers.

use hookswitch::ingest::freeswitch::codec::Frame;
use hookswitch::ingest::freeswitch::decode::Output;
use hookswitch::ingest::freeswitch::question::Question;

use crate::bench::Bench;
use crate::recorded::{answers, frames, stamp};

#[test]
fn channels_that_were_there_before_are_found_by_asking() {
    let recorded = answers("direct-answered");
    let mut bench = Bench::new();
    bench.decoder.connected(&mut bench.out);
    bench.answer(|question| match question {
        Question::Channels => recorded["api show channels as json"].last().unwrap().clone(),
        Question::Channel(uuid) => recorded[&format!("api uuid_dump {uuid} json")].last().unwrap().clone(),
        _ => "-ERR not here\n".to_owned(),
    });
    bench.advance(5_000);
    let mut told = bench.told();
    let live = told.pop().unwrap();
    told.sort();
    assert_eq!(told.iter().filter(|line| line.contains("answered")).count(), 2, "{told:#?}");
    assert_eq!(told.iter().filter(|line| line.contains(") ")).count(), 2, "{told:#?}");
    assert_eq!(live, "live: AB");
}

#[test]
fn a_channel_that_a_list_lacks_is_gone_only_after_a_grace_and_a_young_one_never() {
    let mut bench = Bench::new();
    let recording = frames("json", "direct-answered");
    let created = recording.iter().position(|(_, frame)| stamp(frame).is_some()).unwrap() + 2;
    bench.frames(&recording[..created]);
    bench.out.clear();
    let empty = |question: &Question| match question {
        Question::Channels => "{\"row_count\": 0}\n".to_owned(),
        _ => "-ERR\n".to_owned(),
    };
    bench.decoder.snapshot(&mut bench.out);
    bench.answer(empty);
    bench.advance(5_000);
    assert_eq!(bench.told(), ["live: AB"], "they are younger than the list may be");
    bench.out.clear();
    bench.decoder.snapshot(&mut bench.out);
    bench.answer(empty);
    assert_eq!(bench.told(), [""; 0], "their ends may still be on their way");
    bench.advance(5_000);
    assert_eq!(bench.told(), ["live: "]);
}

#[test]
fn a_new_core_is_looked_at_from_the_start() {
    let mut bench = Bench::new();
    bench.frames(&frames("json", "register"));
    bench.out.clear();
    let other = frames("json", "internal-call");
    bench.frame(&other.iter().find(|(_, frame)| stamp(frame).is_some()).unwrap().1);
    assert!(bench.out.contains(&Output::Ask(Question::Channels)), "{:#?}", bench.out);
}

#[test]
fn an_answer_that_is_cut_short_or_refused_makes_nothing_go_away() {
    let mut bench = Bench::new();
    let recording = frames("json", "direct-answered");
    recording.iter().take(6).for_each(|(_, frame)| bench.frame(frame));
    bench.advance(60_000);
    bench.out.clear();
    for nonsense in ["-ERR permission denied", "", "{\"row_count\":5", "+OK", "garbage\u{fffd}", "====\n====\n"] {
        bench.decoder.connected(&mut bench.out);
        bench.answer(|_| nonsense.to_owned());
        bench.advance(5_000);
    }
    assert!(!bench.out.iter().any(|o| matches!(o, Output::Live(_) | Output::AllContacts(..))), "{:#?}", bench.out);
}

#[test]
fn callers_who_wait_are_found_by_asking_and_those_who_abandoned_are_not() {
    let recorded = answers("queue-ringall");
    let list = &recorded["api callcenter_config queue list members sales@default"];
    let mut bench = Bench::new();
    let recording = frames("json", "queue-ringall");
    let upto = recording
        .iter()
        .position(|(_, frame)| matches!(frame, Frame::Event(e) if e.name() == "CHANNEL_ANSWER"))
        .unwrap();
    bench.frames(&recording[..=upto]);
    bench.out.clear();
    let waiting = Question::Waiting("sales@default".into());
    bench.decoder.answer(&waiting, &list[0], bench.now, bench.now, &mut bench.out);
    assert_eq!(bench.told(), ["A waits in sales@default"]);
    bench.out.clear();
    bench.advance(10_000);
    // The same caller has been answered since.
    bench.decoder.answer(&waiting, list.last().unwrap(), bench.now, bench.now, &mut bench.out);
    assert_eq!(bench.told(), ["A unqueued"]);
}
