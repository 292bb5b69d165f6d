//! How fast a capture is replayed, and how fast tshark counts the SIP in the same file, in one run.
//!
//! `cargo bench --bench replay` (or `make bench`) makes a capture of an office's day under `target/`, of the fixtures'
//! calls and registrations with numbers and identifiers of their own, then replays it on one core.

#[path = "replay/generator.rs"]
mod generator;

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use hookswitch::ingest::capture::{Captures, Heard, Wire};
use hookswitch::ingest::replay::{Links, News, Replay, Totals};

fn main() {
    let messages: u64 = std::env::var("MESSAGES").ok().and_then(|text| text.parse().ok()).unwrap_or(1_000_000);
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("target/bench-replay-{messages}.pcap"));
    if !path.exists() {
        generator::write(&path, messages);
    }
    // The first run brings the file into the cache.
    let runs: Vec<(Duration, Totals)> = (0..4).map(|_| replay(&path)).collect();
    let best = runs.iter().skip(1).map(|(elapsed, _)| *elapsed).min().unwrap_or_default();
    let totals = &runs[0].1;
    let calls: u64 = totals.calls.values().sum();
    let rate = totals.messages as f64 / best.as_secs_f64();
    println!("replay   {} SIP messages, {calls} calls, {} devices", totals.messages, totals.devices);
    println!("replay   {:.3} s, {rate:.0} messages/s on one core", best.as_secs_f64());
    if !totals.dropped.is_empty() || !totals.malformed.is_empty() {
        println!("replay   dropped {:?}, malformed {:?}", totals.dropped, totals.malformed);
    }
    println!("replay   {:?} {:?}", totals.calls, totals.registrations);
    match tshark(&path) {
        Some((elapsed, counted)) => {
            let theirs = counted as f64 / elapsed.as_secs_f64();
            println!("tshark   {counted} SIP messages, {:.3} s, {theirs:.0} messages/s", elapsed.as_secs_f64());
            println!("replay is {:.1} times as fast as tshark -q -z sip,stat", rate / theirs);
            assert_eq!(counted, totals.messages, "both count the same");
        }
        None => println!("tshark   not there"),
    }
}

fn replay(path: &Path) -> (Duration, Totals) {
    let started = Instant::now();
    let mut captures = Captures::open(&[path.to_owned()]).expect("the capture is good");
    let mut replay = Replay::new(&Links::default()).expect("no links");
    let (mut wire, mut records, mut last_us) = (Wire::default(), 0, 0);
    while let Some((at_us, record)) = captures.next().expect("the capture is whole") {
        wire.take(at_us, record, &mut |heard: Heard<'_>| replay.hear(&heard));
        (records, last_us) = (records + 1, at_us);
        replay.news().for_each(drop);
    }
    wire.finish(last_us, &mut |heard: Heard<'_>| replay.hear(&heard));
    let totals = replay.finish(records, wire.skipped).into_iter().find_map(|news| match news {
        News::Totals(totals) => Some(*totals),
        _ => None,
    });
    (started.elapsed(), totals.expect("the totals come last"))
}

fn tshark(path: &Path) -> Option<(Duration, u64)> {
    let started = Instant::now();
    let output = Command::new("tshark").arg("-r").arg(path).args(["-n", "-q", "-z", "sip,stat"]).output().ok()?;
    let elapsed = started.elapsed();
    let text = String::from_utf8_lossy(&output.stdout);
    let counted = text.lines().find_map(|line| line.strip_prefix("Number of SIP messages:")?.trim().parse().ok())?;
    Some((elapsed, counted))
}
