//! One daemon with more and more phones: what each takes in memory, what a refresh costs, how long a restart takes.

use std::fmt::Write as _;
use std::time::Instant;

use crate::figures::{cost, is_quick, micros};
use crate::measure::Registrar;
use crate::support::daemon::Daemon;
use crate::support::folder::Folder;
use crate::support::postgres::Server;
use crate::{settings, settle};

pub async fn run() -> String {
    let sizes: &[usize] = if is_quick() { &[1_000, 5_000] } else { &[10_000, 300_000, 1_000_000] };
    let refreshes = if is_quick() { 5_000 } else { 100_000 };
    let folder = Folder::new("bench-scale");
    let server = Server::durable();
    let url = server.database();
    let mut daemon = Daemon::start_with(&folder, &settings(Some(&url))).await;
    let empty = cost::resident(daemon.id());
    let mut table = "| phones | memory each | processor time of a refresh, Postgres included | restart |\n\
                     | --- | --- | --- | --- |\n"
        .to_owned();
    let mut round = 0;
    for users in sizes {
        let processes = vec![("hookswitch", daemon.id()), ("postgres", server.id())];
        let mut registrar = Registrar { round, ..Registrar::new("hookswitch", daemon.registrar, processes) };
        let started = Instant::now();
        let fill = registrar.run(*users, *users);
        eprintln!("{users} phones register: {:.1} s, {} lost", started.elapsed().as_secs_f64(), fill.outcome.lost);
        settle().await;
        let resident = cost::resident(daemon.id()).saturating_sub(empty);
        let refreshed = registrar.run(*users, refreshes);
        round = registrar.round;
        let started = Instant::now();
        daemon.restart().await;
        let restart = started.elapsed().as_secs_f64();
        let each = resident / u64::try_from(*users).unwrap_or(1);
        // Writing to a String can't fail.
        let _ = writeln!(table, "| {users} | {each} bytes | {:.1} µs | {restart:.1} s |", micros(refreshed.cost()));
    }
    table
}
