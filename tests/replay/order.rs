//! Findings come in the order in which they happened.

use std::path::PathBuf;
use std::process::Command;

use hookswitch::ingest::capture::Captures;
use hookswitch::ingest::replay::{Links, News};
use hookswitch::model::UnixMillis;

use crate::heard::{Found, drive, replay};
use crate::support::packets::{RAW, ip, pcap};

/// Every capture and log there is, as one: many calls overlap, some last long, and legs are lost.
fn everything() -> Vec<PathBuf> {
    let folders = ["fixtures/pcap", "fixtures/hep", "fixtures/ami", "fixtures/esl"];
    let files = folders.iter().flat_map(|folder| std::fs::read_dir(folder).expect("a folder of fixtures").flatten());
    let is_capture = |path: &PathBuf| {
        let name = path.to_string_lossy();
        let is_log = name.contains("/esl-json-") || name.contains("/esl-plain-");
        is_log || [".pcap", ".bin", ".ami"].iter().any(|end| name.ends_with(end))
    };
    let mut files: Vec<PathBuf> = files.map(|entry| entry.path()).filter(is_capture).collect();
    files.sort();
    assert!(files.len() > 80, "{}", files.len());
    files
}

/// When it happened; calls when they ended.
fn at(news: &News) -> Option<UnixMillis> {
    match news {
        News::Registration(registration) => Some(registration.at),
        News::Transition(transition) => Some(transition.at),
        News::Queue(event) => Some(event.at),
        News::Call(record) => record.call.ended_at,
        _ => None,
    }
}

#[test]
fn findings_of_all_captures_together_are_in_strict_order_of_time() {
    let mut found = Found::default();
    let mut captures = Captures::open(&everything()).expect("all can be read");
    drive(&mut captures, &Links::default(), &mut found);
    assert_eq!(found.totals().clock_set_back, 0);
    let times: Vec<UnixMillis> = found.news.iter().chain(&found.end).filter_map(at).collect();
    assert!(times.len() > 100, "{}", times.len());
    assert!(times.is_sorted(), "{times:?}");
    let live = found.calls().into_iter().filter(|call| call.ended_at.is_none()).map(|call| call.began_at);
    assert!(live.is_sorted());
}

#[test]
fn a_register_that_is_never_answered_is_told_before_what_happens_after_it_was_given_up() {
    let mut frames: Vec<_> = ip("register").into_iter().take(1).map(|packet| (packet.at_us, packet.ip)).collect();
    // The call begins 31 s later, so that it goes on when the REGISTER is given up.
    let later = frames[0].0 + 31_000_000;
    let call = ip("direct-answered");
    frames.extend(call.iter().map(|packet| (packet.at_us - call[0].at_us + later, packet.ip.clone())));
    let found = replay(pcap(RAW, frames));
    let kinds: Vec<_> = found.events().iter().filter(|news| at(news).is_some()).map(std::mem::discriminant).collect();
    let registration =
        found.events().iter().find(|news| matches!(news, News::Registration(_))).map(std::mem::discriminant);
    assert_eq!((kinds.len(), kinds.first()), (2, registration.as_ref()), "{:#?}", found.events());
}

#[test]
fn rows_of_the_table_never_go_back_in_time() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hookswitch"));
    let output = command.arg("replay").args(everything()).output().expect("it runs");
    let out = String::from_utf8_lossy(&output.stdout).into_owned();
    let (calls, _) = out.split_once("\nDEVICES").expect("devices come after the calls");
    let rows: Vec<&str> = calls.lines().filter(|line| line.starts_with("20")).map(|line| &line[..23]).collect();
    assert!(rows.len() > 50, "{out}");
    assert!(rows.is_sorted(), "{out}");
}
