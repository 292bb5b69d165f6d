//! A registrar that stores before it answers, beside one that keeps all in memory: REGISTERs a second, how long answers
//! take, what each costs, and what a binding takes in memory. Rewrites the tables of `docs/benchmarks.md`.
//!
//! `cargo bench --bench registrar` (or `make bench`) starts Kamailio, hookswitch on Postgres and hookswitch on `SQLite` and
//! offers each the same load in turn, over and over, so that what else the machine does befalls all alike. `QUICK=1`
//! offers little and leaves the page as it is.

#[path = "registrar/cost.rs"]
mod cost;
#[path = "registrar/load.rs"]
mod load;
#[path = "registrar/report.rs"]
mod report;
#[path = "../tests/support/mod.rs"]
#[allow(unused_imports, reason = "without a test harness its own tests are empty")]
mod support;

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use load::{Load, Outcome, offer};
use report::{Memory, Row};
use support::daemon::Daemon;
use support::folder::Folder;
use support::ports::Ports;
use support::postgres::Server;
use support::process::Process;

fn main() {
    let quick = std::env::var_os("QUICK").is_some();
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
    let (rows, memory) = runtime.block_on(async { (side_by_side(quick).await, at_scale(quick).await) });
    let page = report::page(&rows, &memory);
    println!("{page}");
    if !quick {
        report::write(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/benchmarks.md")), &page);
    }
}

/// A registrar under load.
struct Registrar {
    name: &'static str,
    address: SocketAddr,
    domain: &'static str,
    /// Processes it consists of, with their descendants: itself, and the database's.
    processes: Vec<(&'static str, u32)>,
    cseq: usize,
    rounds: Vec<Round>,
}

/// One run of the load.
struct Round {
    outcome: Outcome,
    /// Time on a processor for each REGISTER, of each process.
    costs: Vec<(&'static str, Duration)>,
}

impl Registrar {
    fn run(&mut self, users: usize, requests: usize) -> Round {
        let to = self.address;
        let load = Load { to, domain: self.domain, users, requests, window: WINDOW, first_cseq: self.cseq };
        self.cseq += requests.div_ceil(users);
        let spent = || -> Vec<Duration> { self.processes.iter().map(|(_, process)| cost::cpu_of(*process)).collect() };
        let before = spent();
        let outcome = offer(&load);
        // What is written after the answer belongs to it as well.
        std::thread::sleep(Duration::from_millis(300));
        let each = u32::try_from(requests).expect("some hundred thousand");
        let costs = spent().into_iter().zip(before).map(|(after, before)| after.saturating_sub(before) / each);
        Round { outcome, costs: self.processes.iter().map(|(name, _)| *name).zip(costs).collect() }
    }
}

/// All registrars in turn, [`ROUNDS`] times.
async fn side_by_side(quick: bool) -> Vec<Row> {
    let (users, requests) = if quick { (2_000, 10_000) } else { (100_000, 200_000) };
    let folder = Folder::new("bench-registrar");
    let server = Server::durable();
    let database = server.database();
    let ports = Ports::take();
    let kamailio = start_kamailio(&folder, ports.address(0));
    let (on_postgres, on_sqlite) = (Folder::new("bench-postgres"), Folder::new("bench-sqlite"));
    let postgres = Daemon::start_with(&on_postgres, &settings(Some(&database))).await;
    let sqlite = Daemon::start_with(&on_sqlite, &settings(None)).await;
    let registrar = |name, address, processes| Registrar {
        name,
        address,
        domain: "pbx.example",
        processes,
        cseq: 1,
        rounds: Vec::new(),
    };
    let mut registrars = [
        registrar("Kamailio, in memory only, 4 workers", ports.address(0), vec![("kamailio", kamailio.id())]),
        registrar(
            "hookswitch on Postgres, stored before the 200",
            postgres.registrar,
            vec![("hookswitch", postgres.id()), ("postgres", server.id())],
        ),
        registrar("hookswitch on SQLite, stored before the 200", sqlite.registrar, vec![("hookswitch", sqlite.id())]),
    ];
    for registrar in &mut registrars {
        eprintln!("{}: {users} phones register", registrar.name);
        let first = registrar.run(users, users);
        assert_eq!(first.outcome.refused, 0, "{} refuses", registrar.name);
    }
    for round in 1..=ROUNDS {
        for registrar in &mut registrars {
            let found = registrar.run(users, requests);
            eprintln!("round {round} of {ROUNDS}: {}: {:.0}/s", registrar.name, found.outcome.rate());
            registrar.rounds.push(found);
        }
    }
    let name = database.rsplit('/').next().expect("a URL ends with the name");
    let stored = server.psql(name, "SELECT count(*) FROM devices");
    assert_eq!(stored.trim(), users.to_string(), "every phone that was told 200 is in the database");
    registrars.iter().map(Row::of).collect()
}

/// One daemon with more and more phones: what each takes in memory, what a refresh costs, how long a restart takes.
async fn at_scale(quick: bool) -> Vec<Memory> {
    let sizes: &[usize] = if quick { &[1_000, 5_000] } else { &[10_000, 300_000, 1_000_000] };
    let refreshes = if quick { 5_000 } else { 100_000 };
    let folder = Folder::new("bench-scale");
    let server = Server::durable();
    let url = server.database();
    let mut daemon = Daemon::start_with(&folder, &settings(Some(&url))).await;
    let empty = cost::resident(daemon.id());
    let mut found = Vec::new();
    for users in sizes {
        let processes = vec![("hookswitch", daemon.id()), ("postgres", server.id())];
        let mut registrar = Registrar {
            name: "hookswitch",
            address: daemon.registrar,
            domain: "pbx.example",
            processes,
            cseq: 1 + found.len() * 100,
            rounds: Vec::new(),
        };
        let started = Instant::now();
        let fill = registrar.run(*users, *users);
        eprintln!("{users} phones register: {:.1} s, {} lost", started.elapsed().as_secs_f64(), fill.outcome.lost);
        tokio::time::sleep(SETTLE).await;
        let resident = cost::resident(daemon.id()) - empty;
        let round = registrar.run(*users, refreshes);
        let started = Instant::now();
        daemon.restart().await;
        let restart = started.elapsed();
        found.push(Memory { users: *users, resident, cost: round.costs.iter().map(|(_, cost)| *cost).sum(), restart });
    }
    found
}

/// Many more phones appear in a moment than in an office.
fn settings(database: Option<&str>) -> String {
    let database = database.map_or_else(String::new, |url| format!("[database]\nurl = \"{url}\"\n"));
    format!("[limits]\ndevices_max = 2000000\ndevices_per_second_max = 1000000\n{database}")
}

fn start_kamailio(folder: &Folder, address: SocketAddr) -> Process {
    let config = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/registrar/kamailio.cfg");
    let mut kamailio = Command::new("kamailio");
    kamailio.args(["-f", config, "-m", "2048", "-M", "32", "-DD", "-E", "-w"]).arg(folder.path());
    kamailio.arg("-P").arg(folder.join("pid")).args(["-A", &format!("LISTEN=udp:{address}")]);
    let mut process = Process::start("kamailio", &mut kamailio, &folder.join("kamailio.log"));
    std::thread::sleep(Duration::from_secs(2));
    process.assert_runs();
    process
}

/// REGISTERs that wait for their answer at a time.
const WINDOW: usize = 256;
const ROUNDS: usize = 5;
/// Until memory that is freed now and then has been.
const SETTLE: Duration = Duration::from_secs(5);
