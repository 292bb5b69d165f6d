//! HEP over a real socket into the release binary: 50 000 messages a second offered for ten seconds, none lost.

#[allow(dead_code, reason = "shared with another program")]
mod office;
#[path = "../tests/support/mod.rs"]
#[allow(unused_imports, reason = "without a test harness its own tests are empty")]
mod support;

use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use support::daemon::Daemon;
use support::folder::Folder;

/// As the daemon's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(run());
}

async fn run() {
    let folder = Folder::new("bench");
    // Many more phones appear in a moment than in an office.
    let more = "[limits]\ndevices_per_second_max = 100000\n[listeners.hep]\nbind = \"udp:127.0.0.1:0\"";
    let daemon = Daemon::start_with(&folder, more).await;
    let address = daemon.listening("hep", "udp");
    let seconds = if std::env::var_os("QUICK").is_some() { 1 } else { SECONDS };
    let packets = office::packets(office::PHONES, RATE_PER_SECOND * seconds / office::UNIT);
    let sent = f64::from(u32::try_from(packets.len()).expect("some hundred thousand"));
    let sending = std::thread::spawn(move || send(address, &packets));
    let took = sending.join().expect("all are sent");
    tokio::time::sleep(Duration::from_secs(2)).await;
    let page = daemon.metrics().await;
    let sum = |wanted: &str| -> f64 {
        let lines = page.lines().filter(|line| line.starts_with(wanted));
        lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    };
    let taken = sum("hookswitch_sip_messages_total{listener=\"hep\"");
    let rate = sent / took.as_secs_f64();
    println!("HEP over UDP into the release binary: {sent} messages offered at {rate:.0} a second");
    println!("  lost before they were read  {:>8.0}", sent - taken);
    for (place, what) in [("hep", "by HEP"), ("sip_mirror", "by a registration's memory"), ("site", "by the site")] {
        let dropped = sum(&format!("hookswitch_dropped_total{{where=\"{place}\""));
        println!("  dropped {what:<27} {dropped:>8.0}");
    }
    println!(
        "  registrations applied       {:>8.0}",
        sum("hookswitch_sip_messages_total{listener=\"hep\",method=\"REGISTER\",outcome=\"applied\"")
    );
    println!(
        "  legs ended                  {:>8.0}",
        sum("hookswitch_events_total{feed_kind=\"hep\",kind=\"leg_ended\"")
    );
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    println!("  load of this machine: {}", load.trim());
}

/// Sends at an even rate, a millisecond's worth at a time.
fn send(to: SocketAddr, packets: &[Vec<u8>]) -> Duration {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    socket.connect(to).expect("it can be reached");
    let started = Instant::now();
    for (burst, number) in packets.chunks(RATE_PER_SECOND / 1_000).zip(0_u32..) {
        let due = Duration::from_millis(1) * number;
        if let Some(early) = due.checked_sub(started.elapsed()) {
            std::thread::sleep(early);
        }
        for packet in burst {
            socket.send(packet).expect("it is sent");
        }
    }
    started.elapsed()
}

const RATE_PER_SECOND: usize = 50_000;
const SECONDS: usize = 10;
