//! The database goes away, freezes, breaks connections, refuses rows: nothing acknowledged is lost, nobody waits for ever,
//! and it recovers by itself.

use std::sync::Arc;
use std::time::{Duration, Instant};

use hookswitch::clock::Clock;
use hookswitch::ingest::site::{Observation, Sites};
use hookswitch::model::{BindingSource, DeviceState, FeedKind, Hop};
use hookswitch::registry::streams::{Next, StreamKey};
use hookswitch::registry::{Limits, NotStored, Registry, Seq};
use hookswitch::store::{Store, StoreError, Timeouts};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use sqlx::Connection as _;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::database::{Database, on_both_engines, timeouts};
use crate::postgres::Server;
use crate::samples::{self, START};

on_both_engines! {
    an_answer_given_under_load_is_already_in_the_database,
    what_was_acknowledged_survives_a_process_that_just_stops,
    a_row_the_database_refuses_is_dropped_and_counted_and_the_others_are_stored,
    a_second_daemon_is_kept_out_and_let_in_afterwards,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopped_server_means_a_bounded_wait_and_then_everything_is_stored() {
    let server = Server::start_new();
    let url = server.database();
    let (clock, wait) = (Clock::manual(START), Duration::from_millis(300));
    let registry = open(&url, &clock, wait).await;
    let defaults = registry.ensure_defaults().unwrap();
    let (_, seq) = samples::register(&registry, &defaults, "100");
    registry.committed(seq).await.unwrap();

    server.stop();
    let (device, seq) = samples::register(&registry, &defaults, "101");
    not_stored_in_time(&registry, seq, wait).await;
    assert!(!registry.is_stored(seq));
    assert_eq!(registry.device(device).unwrap().state, DeviceState::Connected, "the change stays");
    // A retransmission shows the same change and waits for the same commit.
    let again =
        registry.register(&samples::target(&defaults, "101"), BindingSource::Registrar, clock.now(), |bindings| {
            (hookswitch::registry::Change::Keep, bindings.len())
        });
    assert_eq!((again.value, again.seq), (1, Some(seq)));
    assert!(registry.holders_at(device, START).await.is_err(), "the past can't be asked");
    tokio::time::sleep(Duration::from_secs(1)).await;

    server.start();
    stored_after_all(&registry, seq).await;
    let user = registry.create_user(samples::user(&registry, defaults.account, "ann")).unwrap();
    registry.committed(user.seq).await.unwrap();
    drop(registry);
    let registry = open(&url, &clock, wait).await;
    assert_eq!(registry.bindings(device).len(), 1);
    assert_eq!(registry.users.get(user.value.id), Some(user));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frozen_server_means_a_bounded_wait_and_then_everything_is_stored() {
    let server = Server::start_new();
    let url = server.database();
    let (clock, wait) = (Clock::manual(START), Duration::from_millis(300));
    let registry = open(&url, &clock, wait).await;
    let defaults = registry.ensure_defaults().unwrap();
    let (gone, seq) = samples::register(&registry, &defaults, "100");
    registry.committed(seq).await.unwrap();

    server.freeze();
    let (device, seq) = samples::register(&registry, &defaults, "101");
    not_stored_in_time(&registry, seq, wait).await;
    // Longer than a commit may take: the connection is given up while its server still holds the statement.
    tokio::time::sleep(timeouts().write + Duration::from_secs(1)).await;
    let last = registry.delete_device(gone, None).unwrap();
    not_stored_in_time(&registry, last, wait).await;

    server.thaw();
    stored_after_all(&registry, last).await;
    assert!(registry.is_stored(seq));
    drop(registry);
    let registry = open(&url, &clock, wait).await;
    assert_eq!(registry.bindings(device).len(), 1);
    assert_eq!(registry.device(gone), None, "what the frozen server was told before does not come back");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_freezes_right_after_a_start_holds_up_no_popup() {
    let server = Server::start_new();
    let url = server.database();
    let (clock, wait) = (Clock::manual(START), Duration::from_millis(300));
    let registry = open(&url, &clock, wait).await;
    let defaults = registry.ensure_defaults().unwrap();
    let (device, _) = samples::register(&registry, &defaults, "101");
    let ann = defaults.admin.unwrap();
    registry.link(ann, device, START).unwrap();
    for n in 0..20 {
        let call = samples::ringing(&samples::call(&defaults, n, ann, device));
        registry.record_trail(samples::trail(call.id, 7));
        registry.live.put_call(Arc::new(call));
    }
    registry.drain(Duration::from_secs(5)).await.unwrap();
    drop(registry);
    let registry = open(&url, &clock, wait).await;

    server.freeze();
    let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
    let sites = Sites::new(registry.clone(), &tasks, &stop, &Handle::current());
    let before = registry.live.offers_of(ann).len();
    let headers = "Via: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bKa\r\nFrom: <sip:+14155550177@192.0.2.1>;tag=1\r\n\
                   To: <sip:101@pbx.local>\r\nCall-ID: fresh\r\nCSeq: 1 INVITE\r\n\r\n";
    for start in ["INVITE sip:101@pbx.local SIP/2.0", "SIP/2.0 180 Ringing"] {
        sites.observe(Observation {
            pbx: defaults.pbx,
            feed: FeedKind::Mirror,
            bytes: format!("{start}\r\n{headers}").into(),
            source: None,
            destination: None,
            hop: Hop::FromPbx,
            at: clock.now(),
        });
    }
    let asked = Instant::now();
    while registry.live.offers_of(ann).len() == before {
        assert!(asked.elapsed() < Duration::from_secs(1), "the popup waits for the database");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    stop.cancel();
    server.thaw();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_cut_in_the_middle_of_commits_lose_nothing_acknowledged() {
    let server = Server::shared();
    let url = server.database();
    let clock = Clock::manual(START);
    let registry = open(&url, &clock, Duration::from_secs(10)).await;
    let defaults = registry.ensure_defaults().unwrap();
    let writers = async {
        for round in 0..400 {
            let user = (round % 50).to_string();
            let (device, seq) = samples::register(&registry, &defaults, &user);
            registry.committed(seq).await.unwrap();
            assert!(registry.device(device).is_some());
        }
    };
    let cutter = {
        let server = server.clone();
        tokio::task::spawn_blocking(move || {
            for _ in 0..20 {
                std::thread::sleep(Duration::from_millis(30));
                server.psql(
                    "postgres",
                    "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
                     WHERE application_name LIKE 'hookswitch%'",
                );
            }
        })
    };
    let ((), cut) = tokio::join!(writers, cutter);
    cut.unwrap();
    drop(registry);
    let registry = open(&url, &clock, Duration::from_secs(10)).await;
    for user in 0..50 {
        let device = samples::target(&defaults, &user.to_string()).device();
        assert_eq!(registry.bindings(device).len(), 1, "device {user}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn history_that_does_not_fit_loses_its_oldest_entries_and_counts_them() {
    let metrics = metrics();
    let server = Server::start_new();
    let url = server.database();
    let clock = Clock::manual(START);
    let limits = Limits { history_max: 10, commit_wait: Duration::from_millis(100), ..Limits::default() };
    let registry = Registry::open(Store::open_with(&url, timeouts()).await.unwrap(), clock, limits).await.unwrap();
    let defaults = registry.ensure_defaults().unwrap();
    registry.drain(Duration::from_secs(5)).await.unwrap();

    server.stop();
    let before = counted(metrics, r#"where="history",reason="full""#);
    let (user, device) = (defaults.admin.unwrap(), samples::target(&defaults, "101").device());
    let calls: Vec<_> = (0..25).map(|n| samples::call(&defaults, n, user, device)).collect();
    for call in &calls {
        registry.record_call(Arc::new(call.clone()));
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(registry.drain(Duration::from_millis(500)).await.is_err());
    assert_eq!(counted(metrics, r#"where="history",reason="full""#) - before, 15);

    server.start();
    registry.drain(Duration::from_secs(20)).await.unwrap();
    let page = registry.calls_page(defaults.account, &hookswitch::registry::CallFilter::default(), None, 100).await;
    let newest: Vec<_> = calls[15..].iter().rev().map(|call| call.id).collect();
    assert_eq!(page.unwrap().items.iter().map(|call| call.id).collect::<Vec<_>>(), newest);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sqlite_file_that_somebody_else_has_locked_is_waited_for_and_written_afterwards() {
    let (database, clock) = (Database::sqlite(), Clock::manual(START));
    let registry = database.registry(&clock).await;
    let defaults = registry.ensure_defaults().unwrap();
    registry.committed(defaults.seq).await.unwrap();
    let mut other = sqlx::SqliteConnection::connect(&database.url).await.unwrap();
    sqlx::query("BEGIN IMMEDIATE").execute(&mut other).await.unwrap();
    let (_, seq) = samples::register(&registry, &defaults, "101");
    not_stored_in_time(&registry, seq, registry.limits().commit_wait).await;
    tokio::time::sleep(timeouts().write).await;
    sqlx::query("COMMIT").execute(&mut other).await.unwrap();
    stored_after_all(&registry, seq).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_hears_of_a_change_that_a_crash_could_undo() {
    let (database, clock) = (Database::sqlite(), Clock::manual(START));
    let registry = database.registry(&clock).await;
    let defaults = registry.ensure_defaults().unwrap();
    registry.committed(defaults.seq).await.unwrap();
    let mut events = registry.streams.subscribe(StreamKey::Account(defaults.account), None).unwrap();
    assert!(matches!(events.next().await, Next::Snapshot(_)));
    let mut other = sqlx::SqliteConnection::connect(&database.url).await.unwrap();
    sqlx::query("BEGIN IMMEDIATE").execute(&mut other).await.unwrap();
    let granted = samples::register(&registry, &defaults, "101").1;
    let silence = tokio::time::timeout(Duration::from_millis(300), events.next()).await;
    assert!(silence.is_err(), "{silence:?}");
    sqlx::query("COMMIT").execute(&mut other).await.unwrap();
    let mut heard = Vec::new();
    while heard.len() < 2 {
        if let Next::Event { event, .. } = events.next().await {
            heard.push(event.kind);
            assert!(registry.is_stored(granted));
        }
    }
    assert_eq!(heard, ["device.created", "device.up"]);
}

#[tokio::test]
async fn a_url_or_a_server_that_is_none_is_said_so() {
    assert!(matches!(Store::open("mysql://localhost/x").await, Err(StoreError::Url(_))));
    let patience = Timeouts { connect: Duration::from_secs(1), ..Timeouts::default() };
    let nobody = Store::open_with("postgres://test@127.0.0.1:1/x", patience).await;
    assert!(matches!(nobody, Err(StoreError::Unavailable(_))), "{nobody:?}");
    let nowhere = Store::open("sqlite:/nonexistent/folder/x.db").await;
    assert!(matches!(nowhere, Err(StoreError::Unavailable(_))), "{nowhere:?}");
}

async fn an_answer_given_under_load_is_already_in_the_database(database: Database) {
    let clock = Clock::manual(START);
    let registry = database.registry(&clock).await;
    let defaults = registry.ensure_defaults().unwrap();
    let mut tasks = tokio::task::JoinSet::new();
    for task in 0..8 {
        let (registry, defaults) = (registry.clone(), defaults.clone());
        let mut side = database.side().await;
        tasks.spawn(async move {
            for round in 0..40 {
                // Some devices are everybody's, some are one task's.
                let user = if round % 2 == 0 { format!("{}", round % 10) } else { format!("{task}-{round}") };
                let (device, seq) = samples::register(&registry, &defaults, &user);
                registry.committed(seq).await.unwrap();
                let rows = side.texts(ROWS_OF, &device.to_string()).await;
                let lines = rows.iter().flat_map(|row| row.lines());
                let numbers = lines.filter_map(|line| line.strip_prefix(&format!("{device} "))?.split(' ').next());
                let stored = numbers.map(|number| number.parse::<u64>().unwrap()).max();
                assert!(stored >= Some(seq.0), "{stored:?} for {seq}");
            }
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
}

/// The runtime is torn down with commits in flight; nothing is drained and nothing says goodbye.
async fn what_was_acknowledged_survives_a_process_that_just_stops(database: Database) {
    let clock = Clock::manual(START);
    let url = database.url.clone();
    let acknowledged = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let clock = Clock::manual(START);
        let devices = runtime.block_on(async {
            let registry = open(&url, &clock, Duration::from_secs(10)).await;
            let defaults = registry.ensure_defaults().unwrap();
            let mut devices = Vec::new();
            for n in 0..100 {
                let (device, seq) = samples::register(&registry, &defaults, &n.to_string());
                if n % 3 == 0 {
                    registry.committed(seq).await.unwrap();
                    devices.push(device);
                }
            }
            devices
        });
        runtime.shutdown_background();
        devices
    })
    .join()
    .unwrap();
    let registry = database.registry(&clock).await;
    assert_eq!(acknowledged.len(), 34);
    for device in acknowledged {
        assert_eq!(registry.bindings(device).len(), 1);
    }
}

async fn a_row_the_database_refuses_is_dropped_and_counted_and_the_others_are_stored(database: Database) {
    let metrics = metrics();
    let clock = Clock::manual(START);
    let registry = database.registry(&clock).await;
    let defaults = registry.ensure_defaults().unwrap();
    registry.committed(defaults.seq).await.unwrap();
    database.refuse_users_named("poison").await;

    let before = counted(metrics, r#"where="journal",reason="refused""#);
    let create = |name: &str| registry.create_user(samples::user(&registry, defaults.account, name)).unwrap();
    let good: Vec<_> = ["ann", "bob"].map(create).into();
    let poisoned = create("poison");
    let more: Vec<_> = ["cy", "dan", "eve"].map(create).into();
    let (_, seq) = samples::register(&registry, &defaults, "101");
    assert_eq!(registry.committed(poisoned.seq).await, Err(NotStored));
    for user in good.iter().chain(&more) {
        registry.committed(user.seq).await.unwrap();
    }
    registry.committed(seq).await.unwrap();
    assert!(counted(metrics, r#"where="journal",reason="refused""#) > before);
    assert_eq!(registry.committed(poisoned.seq).await, Err(NotStored), "not later either");

    let cured = registry
        .update_user(poisoned.value.id, None, |user| {
            user.name = "cured".into();
            Ok(())
        })
        .unwrap();
    registry.committed(cured.seq).await.unwrap();
    drop(registry);
    let registry = database.registry(&clock).await;
    assert_eq!(registry.users.count(defaults.account), 7);
}

async fn a_second_daemon_is_kept_out_and_let_in_afterwards(database: Database) {
    let clock = Clock::manual(START);
    let registry = database.registry(&clock).await;
    let defaults = registry.ensure_defaults().unwrap();
    registry.committed(defaults.seq).await.unwrap();
    let impatient = Timeouts { exclusive: Duration::from_millis(200), ..timeouts() };
    let second = Store::open_with(&database.url, impatient).await;
    assert!(matches!(second, Err(StoreError::InUse)), "{second:?}");
    let (_, seq) = samples::register(&registry, &defaults, "101");
    registry.committed(seq).await.unwrap();
    drop(registry);
    assert!(Store::open_with(&database.url, timeouts()).await.is_ok());
}

async fn open(url: &str, clock: &Clock, commit_wait: Duration) -> Arc<Registry> {
    let store = Store::open_with(url, timeouts()).await.unwrap();
    Registry::open(store, clock.clone(), Limits { commit_wait, ..Limits::default() }).await.unwrap()
}

async fn not_stored_in_time(registry: &Registry, seq: Seq, wait: Duration) {
    let asked = Instant::now();
    assert_eq!(registry.committed(seq).await, Err(NotStored));
    let waited = asked.elapsed();
    assert!(waited >= wait && waited < wait + Duration::from_secs(1), "{waited:?}");
}

async fn stored_after_all(registry: &Registry, seq: Seq) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while registry.committed(seq).await.is_err() {
        assert!(Instant::now() < deadline, "never stored");
    }
}

fn metrics() -> &'static PrometheusHandle {
    static HANDLE: std::sync::OnceLock<PrometheusHandle> = std::sync::OnceLock::new();
    HANDLE.get_or_init(|| PrometheusBuilder::new().install_recorder().expect("the first recorder"))
}

fn counted(metrics: &PrometheusHandle, labels: &str) -> u64 {
    let text = metrics.render();
    let line = text.lines().find(|line| line.starts_with("hookswitch_dropped_total") && line.contains(labels));
    line.and_then(|line| line.rsplit(' ').next()).and_then(|count| count.parse().ok()).unwrap_or(0)
}

/// Rows of the log with a line of this device.
const ROWS_OF: &str = "SELECT body FROM bindings_log WHERE body LIKE '%' || $1 || '%'";
