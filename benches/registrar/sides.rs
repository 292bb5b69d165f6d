//! Side by side: Kamailio with its registrations in memory, hookswitch on Postgres, hookswitch on `SQLite`.

use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use crate::disk::Disk;
use crate::figures::is_quick;
use crate::measure::Registrar;
use crate::report::{Row, table};
use crate::support::daemon::Daemon;
use crate::support::folder::Folder;
use crate::support::ports::Ports;
use crate::support::postgres::Server;
use crate::support::process::Process;
use crate::{rounds, settings};

/// All registrars in turn, [`rounds`] times.
pub async fn run() -> String {
    let (users, requests) = if is_quick() { (2_000, 5_000) } else { (100_000, 200_000) };
    let folder = Folder::new("bench-sides");
    let server = Server::durable();
    let database = server.database();
    let ports = Ports::take();
    let kamailio = start_kamailio(&folder, ports.address(0));
    let (on_postgres, on_sqlite) = (Folder::new("bench-postgres"), Folder::new("bench-sqlite"));
    let postgres = Daemon::start_with(&on_postgres, &settings(Some(&database))).await;
    let sqlite = Daemon::start_with(&on_sqlite, &settings(None)).await;
    let mut registrars = [
        Registrar::new("Kamailio, in memory only, 4 workers", ports.address(0), vec![("kamailio", kamailio.id())]),
        Registrar::new(
            "hookswitch on Postgres, stored before the 200",
            postgres.registrar,
            vec![("hookswitch", postgres.id()), ("postgres", server.id())],
        ),
        Registrar::new(
            "hookswitch on SQLite, stored before the 200",
            sqlite.registrar,
            vec![("hookswitch", sqlite.id())],
        ),
    ];
    for registrar in &mut registrars {
        eprintln!("{}: {users} phones register", registrar.name);
        let first = registrar.run(users, users);
        assert_eq!(first.outcome.refused, 0, "{} refuses", registrar.name);
    }
    let mut disk = Disk::default();
    for round in 1..=rounds() {
        disk.measure(&folder);
        for registrar in &mut registrars {
            let found = registrar.run(users, requests);
            eprintln!("round {round}: {}: {:.0}/s", registrar.name, found.outcome.rate());
            registrar.rounds.push(found);
        }
    }
    let name = database.rsplit('/').next().expect("a URL ends with the name");
    let stored = server.psql(name, "SELECT count(*) FROM devices");
    assert_eq!(stored.trim(), users.to_string(), "every phone that was told 200 is in the database");
    let table = table("registrar", &registrars.iter().map(Row::of).collect::<Vec<_>>());
    format!("{table}\n{}", disk.line())
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
