//! A registrar that stores before it answers: REGISTERs a second, how long answers take and what each costs, beside one that
//! keeps all in memory, with passwords, over connections, and with more and more phones. Rewrites its tables of
//! `docs/benchmarks.md`.
//!
//! `cargo bench --bench registrar` (or `make bench`) runs all parts, `cargo bench --bench registrar -- digest` one of
//! `sides`, `digest`, `connections` and `scale`. What is compared is offered the same load in turn, over and over, so that
//! what else the machine does befalls all alike. `QUICK=1` offers little and leaves the page as it is.

#[path = "registrar/connections.rs"]
mod connections;
#[path = "registrar/digest.rs"]
mod digest;
#[path = "registrar/disk.rs"]
mod disk;
#[path = "figures/mod.rs"]
mod figures;
#[path = "registrar/lines.rs"]
mod lines;
#[path = "registrar/load.rs"]
mod load;
#[path = "registrar/measure.rs"]
mod measure;
#[path = "registrar/report.rs"]
mod report;
#[path = "registrar/request.rs"]
mod request;
#[path = "registrar/scale.rs"]
mod scale;
#[path = "registrar/sides.rs"]
mod sides;
#[path = "../tests/support/mod.rs"]
#[allow(unused_imports, reason = "without a test harness its own tests are empty")]
mod support;
#[path = "registrar/wallet.rs"]
mod wallet;

use std::time::Duration;

fn main() {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
    for part in figures::parts(&["sides", "digest", "connections", "scale"]) {
        let tables = match part {
            "sides" => runtime.block_on(sides::run()),
            "digest" => runtime.block_on(digest::run()),
            "connections" => runtime.block_on(connections::run()),
            _ => runtime.block_on(scale::run()),
        };
        figures::keep(part, &tables);
    }
}

/// How a daemon is set up to be measured: many more phones appear in a moment than in an office.
fn settings(database: Option<&str>) -> String {
    let database = database.map_or_else(String::new, |url| format!("[database]\nurl = \"{url}\"\n"));
    format!("[limits]\ndevices_max = 2000000\ndevices_per_second_max = 1000000\n{database}")
}

/// Until memory that is freed now and then has been.
async fn settle() {
    tokio::time::sleep(Duration::from_secs(if figures::is_quick() { 1 } else { 5 })).await;
}

/// How often each load is offered, if `ROUNDS` does not say; the medians are shown.
fn rounds() -> usize {
    let usual = if figures::is_quick() { 1 } else { 5 };
    std::env::var("ROUNDS").ok().and_then(|text| text.parse().ok()).filter(|rounds| *rounds > 0).unwrap_or(usual)
}

/// REGISTERs that wait for their answer at a time.
const WINDOW: usize = 256;
