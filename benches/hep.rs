//! HEP from the packet to the popup, on one core: what `make bench` prints first.
//!
//! A PBX's packets ([`office`]) go through the same code as from a socket: decode, scan, duplicates, registrations, the
//! hand-over to the site's task, dialog tracker, switchboard, offers, streams, and the queue of the journal, all on one thread. The
//! journal's task and the database (in memory) have threads of their own, whose work is told apart. Time is what the processor spent, not what passed.
//! Time per stage is measured by running stages alone over the same
//! packets; what no stage alone explains is told as such.

#[allow(dead_code, reason = "shared with another program")]
mod office;

use std::hint::black_box;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hookswitch::clock::Clock;
use hookswitch::config::Config;
use hookswitch::ingest::sip::HepIntake;
use hookswitch::ingest::site::Sites;
use hookswitch::model::{FeedKind, Hop, Now, PbxEvent, PbxId, PopOn, QueueLogin, SiteId, UnixMillis, User, UserId};
use hookswitch::registry::{Defaults, DeviceFilter, Limits, Registry};
use hookswitch::sip::dialog::{Sighting, Tracker};
use hookswitch::sip::{Method, hep, scan};
use hookswitch::store::Store;
use hookswitch::switchboard::{Input, Switchboard};
use rustix::time::{ClockId, clock_gettime};
use tokio::runtime::{Builder, Handle};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// As the daemon's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    let recorder = hookswitch::metrics::install();
    let clock = Clock::manual(UnixMillis(1_790_000_000_000));
    // What the registry starts runs where it is opened.
    let journal = Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
    let (registry, defaults) = journal.block_on(office_of(&clock));
    let here = Builder::new_current_thread().enable_all().build().expect("a runtime");
    here.block_on(run(&clock, &registry, &defaults, || recorder.render()));
    journal.shutdown_background();
}

async fn run(clock: &Clock, registry: &Arc<Registry>, defaults: &Defaults, page: impl Fn() -> String) {
    let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
    let sites = Sites::new(registry.clone(), &tasks, &stop, &Handle::current());
    let config = Config::parse("[listeners.hep]", std::iter::empty()).expect("a good configuration");
    let intake = HepIntake::new(&config.listeners[0], registry, sites);
    settle(&intake, registry, defaults, clock).await;

    let mut whole = Spent::default();
    let mut alone = Alone::new(registry, defaults);
    let mut bytes = 0;
    let mut database = Duration::ZERO;
    let usual = if std::env::var_os("QUICK").is_some() { 1 } else { ROUNDS };
    let rounds: usize = std::env::var("ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(usual);
    for round in 0..rounds + WARM_UP {
        let (process, thread) = (Cpu::of(ClockId::ProcessCPUTime), Cpu::now());
        let packets = office::packets(office::PHONES + round * UNITS, UNITS);
        let spent = through(&intake, &packets, clock).await;
        let stages = alone.run(&packets, clock);
        if round >= WARM_UP {
            whole += spent;
            let process = Cpu::of(ClockId::ProcessCPUTime).0.saturating_sub(process.0);
            database += process.saturating_sub(thread.elapsed());
            alone.spent += stages;
            bytes += packets.iter().map(Vec::len).sum::<usize>();
        }
    }
    report(&whole, &alone.spent, database, bytes);
    check(&page(), &alone);
    stop.cancel();
}

/// Phones register, half of them are linked to somebody.
async fn settle(intake: &HepIntake, registry: &Arc<Registry>, defaults: &Defaults, clock: &Clock) {
    for phone in 0..office::PHONES {
        for packet in office::registration(phone) {
            intake.take(&packet, source(), clock.now());
        }
    }
    let page = registry.devices_page(defaults.account, &DeviceFilter::default(), None, office::PHONES);
    assert_eq!(page.items.len(), office::PHONES, "every phone is there");
    for (number, device) in page.items.iter().enumerate().filter(|(number, _)| number % 2 == 0) {
        let user = User {
            id: UserId(clock.uuid()),
            account: defaults.account,
            email: None,
            name: format!("user {number}"),
            enabled: true,
            dnd: false,
            pop_on: PopOn::Ring,
            queues: Vec::new(),
            queue_login: QueueLogin::default(),
            parked: Vec::new(),
            created_at: clock.now().unix,
        };
        let user = registry.create_user(user).expect("a new user").value.id;
        registry.link(user, device.device.id, clock.now().unix).expect("a link");
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
}

async fn office_of(clock: &Clock) -> (Arc<Registry>, Defaults) {
    let store = Store::open("sqlite::memory:").await.expect("a database in memory");
    let registry = Registry::open(store, clock.clone(), Limits::default()).await.expect("an empty registry");
    let defaults = registry.ensure_defaults().expect("defaults");
    (registry, defaults)
}

/// Where time went, in all.
#[derive(Clone, Copy, Debug, Default)]
struct Spent {
    messages: u32,
    /// On the listener's side: until the message is handed to its site.
    intake: Duration,
    /// In the site's task, and whatever else the runtime ran meanwhile: streams, the journal.
    site: Duration,
}

impl std::ops::AddAssign for Spent {
    fn add_assign(&mut self, other: Self) {
        self.messages += other.messages;
        self.intake += other.intake;
        self.site += other.site;
    }
}

/// The whole way.
async fn through(intake: &HepIntake, packets: &[Vec<u8>], clock: &Clock) -> Spent {
    let mut spent = Spent { messages: u32::try_from(packets.len()).expect("a round is small"), ..Spent::default() };
    for burst in packets.chunks(BURST) {
        clock.advance(Duration::from_millis(BURST_MS));
        let now = clock.now();
        let started = Cpu::now();
        for packet in burst {
            black_box(intake.take(packet, source(), now));
        }
        spent.intake += started.elapsed();
        let started = Cpu::now();
        // The site's task takes all there is in one go; the others get their turn too.
        for _ in 0..8 {
            tokio::task::yield_now().await;
        }
        spent.site += started.elapsed();
    }
    spent
}

/// Stages alone.
struct Alone {
    registry: Arc<Registry>,
    pbx: PbxId,
    tracker: Tracker,
    switchboard: Switchboard,
    spent: Stages,
    events: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Stages {
    decode: Duration,
    scan: Duration,
    rescan: Duration,
    tracker: Duration,
    switchboard: Duration,
}

impl std::ops::AddAssign for Stages {
    fn add_assign(&mut self, other: Self) {
        self.decode += other.decode;
        self.scan += other.scan;
        self.rescan += other.rescan;
        self.tracker += other.tracker;
        self.switchboard += other.switchboard;
    }
}

impl Alone {
    fn new(registry: &Arc<Registry>, defaults: &Defaults) -> Self {
        Self {
            registry: registry.clone(),
            pbx: defaults.pbx,
            tracker: Tracker::default(),
            // Another site's, so that it can't disturb the one that is measured whole.
            switchboard: Switchboard::new(SiteId(uuid::Uuid::nil())),
            spent: Stages::default(),
            events: 0,
        }
    }

    fn run(&mut self, packets: &[Vec<u8>], clock: &Clock) -> Stages {
        let now = clock.now();
        let mut stages = Stages::default();
        let started = Cpu::now();
        let decoded: Vec<_> = packets.iter().map(|packet| hep::decode(packet).expect("it is HEP")).collect();
        stages.decode = started.elapsed();
        let started = Cpu::now();
        let followed: Vec<_> = decoded.iter().filter(|packet| is_of_a_call(packet.payload)).collect();
        stages.scan = started.elapsed();
        let mut events = Vec::new();
        let started = Cpu::now();
        for packet in &followed {
            black_box(scan(packet.payload).expect("it is SIP"));
        }
        stages.rescan = started.elapsed();
        let started = Cpu::now();
        self.tracker.poll(now, &mut events);
        for packet in followed {
            self.track(packet, now, &mut events);
        }
        stages.tracker = started.elapsed().saturating_sub(stages.rescan);
        let started = Cpu::now();
        black_box(self.switchboard.apply(now, &Input::Time, &*self.registry));
        for event in &events {
            black_box(self.switchboard.apply(now, &Input::Event(event), &*self.registry));
        }
        stages.switchboard = started.elapsed();
        self.events += events.len() as u64;
        stages
    }

    fn track(&mut self, packet: &hep::Packet<'_>, now: Now, events: &mut Vec<PbxEvent>) {
        let message = scan(packet.payload).expect("it is SIP");
        let own = |end: Option<SocketAddr>| end.is_some_and(|end| end.ip() == PBX);
        let hop = if own(packet.source) { Hop::FromPbx } else { Hop::ToPbx };
        let (source, destination) = (packet.source, packet.destination);
        let sighting = Sighting { message: &message, pbx: self.pbx, feed: FeedKind::Hep, source, destination, hop };
        black_box(self.tracker.observe(now, &sighting, events));
    }
}

fn is_of_a_call(payload: &[u8]) -> bool {
    let message = scan(payload).expect("it is SIP");
    let method = message.cseq().expect("it has one").method;
    !matches!(method, Method::Register | Method::Options)
}

#[expect(clippy::cast_precision_loss, reason = "shown to people")]
fn report(whole: &Spent, alone: &Stages, database: Duration, bytes: usize) {
    let messages = f64::from(whole.messages);
    let all = whole.intake + whole.site;
    println!("HEP to tracked state, one core, {} messages of {:.0} bytes:", whole.messages, bytes as f64 / messages);
    println!("  {:>9.0} messages/s", messages / all.as_secs_f64());
    let line = |name: &str, time: Duration| {
        let share = 100.0 * time.as_secs_f64() / all.as_secs_f64();
        println!("  {:>8.3} µs {share:>5.1} %  {name}", time.as_secs_f64() * 1e6 / messages);
    };
    line("decode the packet", alone.decode);
    line("find the headers", alone.scan);
    let rest = whole.intake.saturating_sub(alone.decode + alone.scan);
    line("PBX, key, duplicates, registrations, hand-over", rest);
    line("find the headers again, in the site's task", alone.rescan);
    line("dialog tracker", alone.tracker);
    line("switchboard: calls, offers, reasons", alone.switchboard);
    let rest = whole.site.saturating_sub(alone.rescan + alone.tracker + alone.switchboard);
    line("live calls, effects, tasks", rest);
    println!(
        "  {:>8.3} µs          the journal and the database, on threads of their own",
        database.as_secs_f64() * 1e6 / messages
    );
}

/// A fast way that loses something is no way.
fn check(page: &str, alone: &Alone) {
    let sum = |name: &str| -> f64 {
        let lines =
            page.lines().filter(|line| line.starts_with(name) && !line.contains("dropped_total{where=\"journal\""));
        lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    };
    let dropped: Vec<_> = page.lines().filter(|line| line.starts_with("hookswitch_dropped_total")).collect();
    println!(
        "  events {} (alone {}), offers {}",
        sum("hookswitch_events_total"),
        alone.events,
        sum("hookswitch_offers_total")
    );
    println!("  dropped: {dropped:?}");
}

/// Time a thread has worked, since others work on this machine too.
#[derive(Clone, Copy)]
struct Cpu(Duration);

impl Cpu {
    fn now() -> Self {
        Self::of(ClockId::ThreadCPUTime)
    }

    fn of(clock: ClockId) -> Self {
        Self(clock_gettime(clock).try_into().expect("time goes forward"))
    }

    fn elapsed(self) -> Duration {
        Self::now().0.saturating_sub(self.0)
    }
}

fn source() -> SocketAddr {
    SocketAddr::from(([192, 0, 2, 10], 40_000))
}

const PBX: std::net::IpAddr = std::net::IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 10));
/// Calls, registrations and keepalives of one round, of [`office::UNIT`] messages each.
const UNITS: usize = 2_000;
const ROUNDS: usize = 10;
const WARM_UP: usize = 2;
/// Messages between two turns of the site's task, and the time they take on the wire: 20 000 a second.
const BURST: usize = 240;
const BURST_MS: u64 = 12;
