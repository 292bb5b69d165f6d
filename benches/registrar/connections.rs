//! What connections cost: the same phones refresh over UDP, over a TCP connection each and over a TLS connection each.

use std::fmt::Write as _;
use std::net::SocketAddr;

use tokio::io::{AsyncRead, AsyncWrite};

use crate::figures::{cost, is_quick, open_files};
use crate::lines::{Line, open, register};
use crate::measure::{Meter, Processes, Registrar, Round};
use crate::report::{Row, table};
use crate::support::daemon::Daemon;
use crate::support::folder::Folder;
use crate::support::ports::Ports;
use crate::support::postgres::Server;
use crate::support::tls::Certificate;
use crate::{rounds, settings, settle};

/// A daemon, and the phones that register with it over one transport after the other.
struct Office {
    daemon: Daemon,
    server: Server,
    phones: usize,
    /// How often each has registered.
    round: usize,
}

/// What was found about connections of one kind.
struct Found {
    rounds: Vec<Round>,
    /// Bytes that the daemon holds more than without them.
    resident: u64,
}

pub async fn run() -> String {
    let wanted = if is_quick() { 500 } else { 10_000 };
    let phones = wanted.min(open_files().saturating_sub(1_000));
    let folder = Folder::new("bench-connections");
    let (server, ports, certificate) = (Server::durable(), Ports::take(), Certificate::make(&folder));
    let secure = ports.address(0);
    let listener =
        format!("[listeners.secure]\nmode = \"registrar\"\nbind = \"tls:{secure}\"\n{}", certificate.settings());
    // The connections of one part go before those of the next come; their bindings stay.
    let grace = "[registrar]\nconnection_grace_s = 3600\n";
    let daemon = Daemon::start_with(&folder, &format!("{listener}{grace}{}", settings(Some(&server.database())))).await;
    let tcp = daemon.registrar;
    let mut office = Office { daemon, server, phones, round: 0 };
    let udp = office.over_udp();
    let plain = office.over("TCP", tcp, async |stream, _| stream).await;
    let encrypted = office
        .over("TLS", secure, async |stream, user| {
            let shaken = certificate.shake(stream).await;
            shaken.unwrap_or_else(|error| panic!("connection {user}: {error}"))
        })
        .await;
    let rows = [
        Row::new("UDP".to_owned(), &udp),
        Row::new(format!("{phones} connections, TCP"), &plain.rounds),
        Row::new(format!("{phones} connections, TLS"), &encrypted.rounds),
    ];
    let mut tables = table(&format!("refreshes of {phones} phones"), &rows);
    tables.push_str("\n| connections | memory each |\n| --- | --- |\n");
    for (name, found) in [("TCP", &plain), ("TLS", &encrypted)] {
        let each = found.resident / u64::try_from(phones).unwrap_or(1);
        // Writing to a String can't fail.
        let _ = writeln!(tables, "| {phones} {name} | {each} bytes |");
    }
    if phones < wanted {
        let _ = writeln!(
            tables,
            "\nThis machine lets a process have {} files open, which bounds the connections.",
            open_files()
        );
    }
    tables
}

impl Office {
    fn processes(&self) -> Processes {
        vec![("hookswitch", self.daemon.id()), ("postgres", self.server.id())]
    }

    /// The phones without connections.
    fn over_udp(&mut self) -> Vec<Round> {
        let mut rounds: Vec<Round> = (0..=rounds()).map(|_| self.refresh_over_udp(EACH)).collect();
        // The first made the devices.
        rounds.remove(0);
        rounds
    }

    fn refresh_over_udp(&mut self, each: usize) -> Round {
        let (phones, round) = (self.phones, self.round);
        let mut registrar = Registrar { round, ..Registrar::new("UDP", self.daemon.registrar, self.processes()) };
        let refreshed = registrar.run(phones, phones * each);
        self.round = registrar.round;
        assert_eq!(refreshed.outcome.refused, 0, "UDP: refused");
        refreshed
    }

    /// The phones with a connection each. All of them are known before the first connects, so that what the daemon's memory
    /// grows by is the connections'.
    async fn over<S: AsyncRead + AsyncWrite + Unpin>(
        &mut self,
        transport: &'static str,
        to: SocketAddr,
        shake: impl AsyncFn(tokio::net::TcpStream, usize) -> S,
    ) -> Found {
        // What earlier connections left behind in the daemon's memory must not hide what these take.
        self.daemon.restart().await;
        self.refresh_over_udp(1);
        settle().await;
        let before = cost::resident(self.daemon.id());
        eprintln!("{transport}: {} phones connect", self.phones);
        let round = self.round;
        let mut lines = open(to, self.phones, async |stream, own, user| {
            Line::new(shake(stream, user).await, transport, own, user, round)
        })
        .await;
        let first = register(&mut lines, 1).await;
        assert_eq!(first.accepted, self.phones, "{transport}: {} refused, {} lost", first.refused, first.lost);
        settle().await;
        let resident = cost::resident(self.daemon.id()).saturating_sub(before);
        let mut found: Vec<Round> = Vec::new();
        for number in 1..=rounds() {
            let meter = Meter::start(&self.processes());
            let round = meter.stop(register(&mut lines, EACH).await);
            eprintln!("round {number}: {transport}: {:.0}/s", round.outcome.rate());
            found.push(round);
        }
        self.round += 1 + found.len() * EACH;
        Found { rounds: found, resident }
    }
}

/// Refreshes of each phone in one round.
const EACH: usize = 10;
