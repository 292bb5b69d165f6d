//! A year of calls in the database, asked through the API: how long a page of calls, one call's trail and one device's
//! history take. Rewrites its table of `docs/benchmarks.md`.
//!
//! `cargo bench --bench history` (or `make bench`) fills `SQLite` and then Postgres with a year at 10 000 calls a day: what one
//! call left behind, many times, made by SQL in the database itself. Then it asks, one request after another, for things
//! chosen at random. It needs about 10 GB for each, one after the other. `QUICK=1` fills in three days and leaves the page as
//! it is.

#[path = "figures/mod.rs"]
mod figures;
#[path = "history/fill.rs"]
mod fill;
#[path = "../tests/support/mod.rs"]
#[allow(unused_imports, reason = "without a test harness its own tests are empty")]
mod support;

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use figures::{all_but, is_quick, keep, millis};
use fill::{Year, call_of, fill};
use futures_util::{StreamExt as _, stream};
use serde_json::json;
use support::api::{Api, items, text};
use support::daemon::{Daemon, hookswitch};
use support::folder::Folder;
use support::postgres::Server;
use support::wait::until;

fn main() {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
    keep("history", &runtime.block_on(run()));
}

async fn run() -> String {
    let mut table = "| database | calls | asked for | requests | half within | 99 % within | longest |\n\
                     | --- | --- | --- | --- | --- | --- | --- |\n"
        .to_owned();
    let mut starts = String::new();
    for engine in ["SQLite", "Postgres"] {
        let (rows, start) = measure(engine).await;
        table.push_str(&rows);
        let _ = write!(starts, " {engine}: {:.0} ms.", millis(start));
    }
    format!("{table}\nFrom the start of the daemon to its first answer, with all that:{starts}\n")
}

/// The table's rows for one engine, and how long a start took.
async fn measure(engine: &str) -> (String, Duration) {
    let folder = Folder::new("bench-history");
    let server = (engine == "Postgres").then(Server::durable);
    let url = server.as_ref().map(Server::database);
    let database = url.as_ref().map(|url| format!("[database]\nurl = \"{url}\"\n")).unwrap_or_default();
    // Longer than a year, or the daemon would begin to forget.
    let settings = format!("[retention]\ncalls_days = 400\n[limits]\ndevices_per_second_max = 1000000\n{database}");
    let mut daemon = Daemon::start_with(&folder, &settings).await;
    let api = daemon.api();
    let phones = office(&api, if is_quick() { 50 } else { 1_000 }).await;
    ring(&daemon, &phones[0].0).await;
    daemon.stop();
    let year = Year { days: if is_quick() { 3 } else { 365 }, calls_a_day: 10_000, phones };
    eprintln!("{engine}: {} calls are made", year.calls());
    let url = url.unwrap_or_else(|| format!("sqlite:{}", daemon.data.join("hookswitch.db").display()));
    let filled = Instant::now();
    let times = fill(&url, &year).await;
    eprintln!("{engine}: filled in {:.0} s", filled.elapsed().as_secs_f64());
    let began = Instant::now();
    daemon.start_again().await;
    let start = began.elapsed();
    let rows = questions(&api, engine, &year, &times).await;
    (rows, start)
}

async fn questions(api: &Api, engine: &str, year: &Year, times: &fill::Times) -> String {
    let mut random = Random(0x2545_F491_4F6C_DD1D);
    let requests = if is_quick() { 100 } else { 2_000 };
    let mut rows = String::new();
    let mut ask = async |what: &str, paths: Vec<String>| {
        let mut took = Vec::with_capacity(paths.len());
        for path in &paths {
            let asked = Instant::now();
            let answer = api.get(path).await;
            took.push(asked.elapsed());
            assert!(answer.is_object(), "{path}: {answer}");
        }
        took.sort_unstable();
        let _ = writeln!(
            rows,
            "| {engine} | {} | {what} | {} | {:.1} ms | {:.1} ms | {:.1} ms |",
            year.calls(),
            took.len(),
            millis(all_but(2, &took)),
            millis(all_but(100, &took)),
            millis(took.last().copied().unwrap_or_default())
        );
    };
    let phone = |random: &mut Random| &year.phones[random.below(year.phones.len())];
    let paths = |random: &mut Random, path: &dyn Fn(&mut Random) -> String| -> Vec<String> {
        (0..requests).map(|_| path(random)).collect()
    };
    let newest = paths(&mut random, &|_| "/v1/calls?limit=50".into());
    ask("the newest 50 calls", newest).await;
    let before =
        paths(&mut random, &|random| format!("/v1/calls?limit=50&until={}", times.at(random.below(year.calls()))));
    ask("50 calls before a moment of the year", before).await;
    ask("50 calls of a user", paths(&mut random, &|random| format!("/v1/calls?limit=50&user={}", phone(random).2)))
        .await;
    let of_device = paths(&mut random, &|random| format!("/v1/calls?limit=50&device={}", phone(random).1));
    ask("50 calls of a device", of_device).await;
    ask("50 calls of a rare outcome", paths(&mut random, &|_| "/v1/calls?limit=50&outcome=failed".into())).await;
    ask("calls of a direction nobody took", paths(&mut random, &|_| "/v1/calls?limit=50&direction=outbound".into()))
        .await;
    let recent = year.calls_with_trail();
    let trails =
        paths(&mut random, &|random| format!("/v1/calls/{}/trail", call_of(year.calls() - 1 - random.below(recent))));
    ask("one call's trail", trails).await;
    let history = paths(&mut random, &|random| format!("/v1/devices/{}/history?limit=50", phone(random).1));
    ask("one device's history", history).await;
    rows
}

/// Phones with a user each: extension, device, user.
async fn office(api: &Api, phones: usize) -> Vec<(String, String, String)> {
    let pbxs = api.get("/v1/pbxs").await;
    let pbx = &text(&items(&pbxs)[0]["id"]);
    let each = stream::iter(0..phones).map(async |phone| {
        let extension = format!("{}", 1_000 + phone);
        let device = api.post("/v1/devices", json!({ "pbx": pbx, "user": extension })).await;
        let user = api.post("/v1/users", json!({ "name": format!("agent {phone}"), "enabled": true })).await;
        let (device_id, user) = (text(&device["id"]), text(&user["id"]));
        api.link(&user, &device).await;
        (extension, device_id, user)
    });
    each.buffered(32).collect().await
}

/// One call that nobody answers, as the daemon writes it down.
async fn ring(daemon: &Daemon, extension: &str) {
    let arguments = ["ring", extension, "--from", "+14155550100", "--answer-after", "0", "--missed"];
    let rang = hookswitch(&daemon.config).args(arguments).output().expect("it runs");
    assert!(rang.status.success(), "{}", String::from_utf8_lossy(&rang.stderr));
    until("the call is over", async || {
        let calls = daemon.api().get("/v1/calls").await;
        (items(&calls).first()?["state"] == "ended").then_some(())
    })
    .await;
}

/// The same numbers every time (xorshift64).
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % end.max(1) as u64).unwrap_or(0)
    }
}
