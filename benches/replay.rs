//! How fast a capture is replayed, and how much faster than tshark counts the SIP in one, in the same run.
//!
//! `cargo bench --bench replay` (or `make bench`) makes a capture of an office's day under `target/`, of the fixtures'
//! calls and registrations with numbers and identifiers of their own, then replays it on one core. With tshark it is compared
//! over a shorter one: tshark's time grows faster than its file. `MESSAGES=n` makes another length, `QUICK=1` a short one.

#[path = "replay/generator.rs"]
mod generator;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use hookswitch::ingest::capture::Captures;
use hookswitch::ingest::replay::{Links, News, Replay, Totals};

/// As the daemon's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    let usual = if std::env::var_os("QUICK").is_some() { 20_000 } else { 1_000_000 };
    let messages: u64 = std::env::var("MESSAGES").ok().and_then(|text| text.parse().ok()).unwrap_or(usual);
    let (long, short) = (capture(messages), capture(messages.min(COMPARED_MAX)));
    if long != short {
        best_of_three(&long);
        println!();
    }
    compare(&short);
}

/// A capture of so many messages.
fn capture(messages: u64) -> PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("target/bench-replay-{messages}.pcap"));
    if !path.exists() {
        generator::write(&path, messages);
    }
    path
}

/// Replays it and says how fast; the messages a second, and how many there were.
fn best_of_three(path: &Path) -> (f64, u64) {
    // The first run brings the file into the cache.
    let runs: Vec<(Times, Totals)> = (0..4).map(|_| replay(path)).collect();
    let best = runs.iter().skip(1).map(|(times, _)| *times).min_by_key(|times| times.cpu).expect("three runs");
    let totals = &runs[0].1;
    let calls: u64 = totals.calls.values().sum();
    let rate = per_second(totals.messages, best.cpu);
    println!("replay   {} SIP messages, {calls} calls, {} devices", totals.messages, totals.devices);
    println!("replay   {best}: {rate:.0} messages/s of one core");
    if !totals.dropped.is_empty() || !totals.malformed.is_empty() {
        println!("replay   dropped {:?}, malformed {:?}", totals.dropped, totals.malformed);
    }
    println!("replay   {:?} {:?}", totals.calls, totals.registrations);
    (rate, totals.messages)
}

/// Replays it and has tshark count it.
fn compare(path: &Path) {
    let (rate, messages) = best_of_three(path);
    match tshark(path) {
        Some((times, counted)) => {
            let theirs = per_second(counted, times.cpu);
            println!("tshark   {counted} SIP messages, {times}: {theirs:.0} messages/s");
            println!("replay is {:.1} times as fast as tshark -q -z sip,stat", rate / theirs);
            assert_eq!(counted, messages, "both count the same");
        }
        None => println!("tshark   not there"),
    }
}

/// How long something took: on the clock, and on a processor, which is what counts on a machine that does other things too.
#[derive(Clone, Copy)]
struct Times {
    wall: Duration,
    cpu: Duration,
}

impl std::fmt::Display for Times {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:.3} s ({:.3} s of a processor)", self.wall.as_secs_f64(), self.cpu.as_secs_f64())
    }
}

#[expect(clippy::cast_precision_loss, reason = "shown to people")]
fn per_second(messages: u64, time: Duration) -> f64 {
    messages as f64 / time.as_secs_f64()
}

/// Time this thread has been on a processor, as Linux counts it.
fn on_cpu() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    Duration::from_nanos(text.split(' ').next().and_then(|ns| ns.parse().ok()).unwrap_or(0))
}

fn replay(path: &Path) -> (Times, Totals) {
    let (started, cpu) = (Instant::now(), on_cpu());
    let mut captures = Captures::open(&[path.to_owned()]).expect("the capture is good");
    let mut replay = Replay::new(&Links::default()).expect("no links");
    while let Some((at_us, record)) = captures.next_record().expect("the capture is whole") {
        replay.take(at_us, record);
        replay.news().for_each(drop);
    }
    let totals = replay.finish().into_iter().find_map(|news| match news {
        News::Totals(totals) => Some(*totals),
        _ => None,
    });
    let wall = started.elapsed();
    let cpu = Some(on_cpu().saturating_sub(cpu)).filter(|cpu| !cpu.is_zero()).unwrap_or(wall);
    (Times { wall, cpu }, totals.expect("the totals come last"))
}

fn tshark(path: &Path) -> Option<(Times, u64)> {
    let started = Instant::now();
    let script = "TIMEFORMAT='cpu %U %S'; time tshark -r \"$0\" -n -q -z sip,stat 2>/dev/null";
    let output = Command::new("bash").args(["-c", script]).arg(path).output().ok()?;
    let wall = started.elapsed();
    let text = String::from_utf8_lossy(&output.stdout);
    let counted = text.lines().find_map(|line| line.strip_prefix("Number of SIP messages:")?.trim().parse().ok())?;
    let said = String::from_utf8_lossy(&output.stderr);
    let cpu = said.lines().find_map(|line| line.strip_prefix("cpu "));
    let cpu = cpu.map_or(wall.as_secs_f64(), |cpu| cpu.split(' ').filter_map(|s| s.parse::<f64>().ok()).sum());
    Some((Times { wall, cpu: Duration::from_secs_f64(cpu) }, counted))
}

/// The longest capture tshark is given; over a million messages it takes minutes.
const COMPARED_MAX: u64 = 200_000;
