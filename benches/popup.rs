//! From a phone that rings to the popup on its user's screen: how long it takes with many sessions open and many calls a
//! second. Rewrites its table of `docs/benchmarks.md`.
//!
//! `cargo bench --bench popup` (or `make bench`) starts the daemon on Postgres, opens an event stream for each of 1000 agents
//! with a phone each, and has a PBX's mirror show 200 calls a second to those phones. This process both sends and reads, so
//! one clock tells the time from the 180 (Ringing) to the event with the offer. `QUICK=1` offers little and leaves the page
//! as it is.

#[path = "popup/calls.rs"]
mod calls;
#[path = "figures/mod.rs"]
mod figures;
#[path = "popup/screens.rs"]
mod screens;
#[path = "../tests/support/mod.rs"]
#[allow(unused_imports, reason = "without a test harness its own tests are empty")]
mod support;

use std::time::Duration;

use calls::{Load, offer};
use figures::{all_but, cost, is_quick, keep, micros, millis, open_files};
use screens::Screens;
use support::daemon::Daemon;
use support::folder::Folder;
use support::postgres::Server;

fn main() {
    open_files();
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
    keep("popup", &runtime.block_on(run()));
}

async fn run() -> String {
    let (sessions, per_second, seconds) = if is_quick() { (100, 50, 4) } else { (1_000, 200, 30) };
    let folder = Folder::new("bench-popup");
    let server = Server::durable();
    let settings = format!("[limits]\ndevices_per_second_max = 1000000\n[database]\nurl = \"{}\"\n", server.database());
    let daemon = Daemon::start_with(&folder, &settings).await;
    eprintln!("{sessions} agents open their streams");
    let screens = Screens::open(&daemon.api(), sessions).await;
    let processes = [daemon.id(), server.id()];
    let before = processes.map(cost::cpu_of);
    eprintln!("{per_second} calls a second for {seconds} s");
    let load = Load { mirror: daemon.mirror, phones: sessions, per_second, calls: per_second * seconds };
    let rang = tokio::task::spawn_blocking(move || offer(load)).await.expect("all are sent");
    // What is slow is to be seen, not cut off.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let each = u32::try_from(load.calls).expect("some thousand");
    let spent = std::array::from_fn::<_, 2, _>(|at| (cost::cpu_of(processes[at]).saturating_sub(before[at])) / each);
    let popups = screens.since(&rang);
    assert!(popups.early == 0, "{} popups came before their phone rang", popups.early);
    let told = Told::by(&daemon.metrics().await);
    format!(
        "| sessions | calls/s | popups | without a popup | half within | 99 % within | longest | processor time a call |\n\
         | --- | --- | --- | --- | --- | --- | --- | --- |\n\
         | {sessions} | {per_second} | {} | {} | {:.1} ms | {:.1} ms | {:.1} ms | hookswitch {:.0} µs, postgres {:.0} µs |\n\
         \n\
         The daemon's own `hookswitch_popup_seconds`, from the 180 read to the event written, in whole milliseconds: {} events, \
         half within {}, 99 % within {}.\n",
        popups.waits.len(),
        load.calls - popups.waits.len(),
        millis(all_but(2, &popups.waits)),
        millis(all_but(100, &popups.waits)),
        millis(popups.waits.last().copied().unwrap_or_default()),
        micros(spent[0]),
        micros(spent[1]),
        told.count,
        told.within(0.5),
        told.within(0.99),
    )
}

/// What the daemon tells of its popups.
struct Told {
    count: f64,
    /// Upper bounds in seconds, as written, and how many were within each.
    buckets: Vec<(String, f64)>,
}

impl Told {
    fn by(metrics: &str) -> Self {
        let buckets = metrics.lines().filter_map(|line| {
            let (bound, count) = line.strip_prefix("hookswitch_popup_seconds_bucket{le=\"")?.split_once("\"} ")?;
            Some((bound.to_owned(), count.parse().ok()?))
        });
        let count = metrics.lines().find_map(|line| line.strip_prefix("hookswitch_popup_seconds_count ")?.parse().ok());
        Self { count: count.unwrap_or(0.0), buckets: buckets.collect() }
    }

    /// The least bound that so large a share of them was within.
    fn within(&self, share: f64) -> String {
        let found = self.buckets.iter().find(|(_, count)| *count >= share * self.count);
        let bound = found.and_then(|(bound, _)| bound.parse::<f64>().ok()).unwrap_or(f64::INFINITY);
        format!("{} ms", bound * 1e3)
    }
}
