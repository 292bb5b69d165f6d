//! From configuration to a serving daemon, and back to nothing.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::time::Duration;

use axum::Router;
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::accept::{Bounded, Source};
use crate::activation::{Handed, HandedError};
use crate::census::{Bounds, Census};
use crate::clock::Clock;
use crate::config::{self, Changes, Config, SECRET_KEY};
use crate::data_dir::{DataDir, DataDirError};
use crate::http::secret::Secret;
use crate::http::{self, AppState, Settings};
use crate::ingest::feeds;
use crate::ingest::sip::{BindError, Listeners, Listening};
use crate::ingest::site::Sites;
use crate::ingest::webhook::Webhook;
use crate::metrics;
use crate::model::{Scope, Token, TokenId};
use crate::registry::{ChangeError, Defaults, Limits, Registry};
use crate::sealing::{KeyFile, Keys};
use crate::store::{NotStored, Retention, SealedWith, Store, StoreError};
use crate::supervision::{Liveness, Pulse, Supervisor};
use crate::telemetry;

/// A daemon that serves.
pub struct Daemon {
    /// Where the API listens.
    pub http: Vec<SocketAddr>,
    /// Where metrics and health listen.
    pub ops: Vec<SocketAddr>,
    /// Where SIP listens.
    pub sip: Vec<Listening>,
    /// The first admin token and the file it is kept in; only while a database has no token at all.
    pub first_token: Option<(Secret, PathBuf)>,
    data_dir: DataDir,
    registry: Arc<Registry>,
    /// What runs. Each change of it has files read again, also where it is the same.
    running: watch::Sender<Arc<Config>>,
    /// Of the HTTP addresses.
    censuses: Vec<Census>,
    liveness: Liveness,
    stop: CancellationToken,
    tasks: TaskTracker,
}

/// Why the daemon can't start. Each is one line that says what to change.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The data folder can't be used.
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    /// A SIP listener can't listen.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The service manager handed over what can't be used.
    #[error(transparent)]
    Handed(#[from] HandedError),
    /// The API or the operator's pages can't listen.
    #[error("{key}: can't listen on {address}: {reason}")]
    Listen {
        /// Which key to change.
        key: &'static str,
        /// Where.
        address: SocketAddr,
        /// Why.
        reason: String,
    },
    /// The database can't be opened or read.
    #[error("database.url: {shown}: {error}")]
    Store {
        /// Its URL without the password.
        shown: String,
        /// Why.
        error: StoreError,
    },
    /// No key opens the secrets in the database.
    #[error(
        "secret_key_file: phones' passwords in the database ({devices}) are sealed with key {key}, and {at_hand}; bring back \
         the file that holds that key, or name both: secret_key_file = [\"NEW\", \"OLD\"]; docs/digest.md says what to do \
         when it is lost"
    )]
    Locked {
        /// The id of the key that is wanted.
        key: String,
        /// How many devices have a secret sealed with it.
        devices: i64,
        /// What there is instead.
        at_hand: String,
    },
    /// The key file in the data folder can't be read or made.
    #[error("secret_key_file: {0}")]
    KeyFile(String),
    /// What a first start needs can't be made.
    #[error("can't set up an empty database: {0}")]
    Change(#[from] ChangeError),
    /// What a first start needs can't be stored.
    #[error("can't set up an empty database: the database does not confirm it in time")]
    NotStored(#[from] NotStored),
    /// The system refuses something it should not.
    #[error("the system refuses: {0}")]
    System(#[from] io::Error),
}

impl Daemon {
    /// Starts everything `config` asks for. Nothing is answered before all of it could be had.
    ///
    /// # Errors
    /// [`StartError`]; what was bound or opened before is closed again.
    pub async fn start(config: &Config) -> Result<Self, StartError> {
        Self::start_on(config, Handed::default(), &Handle::current()).await
    }

    /// The same on the sockets that were `handed` over, as far as they are. What SIP's datagrams and the journal need not
    /// wait for runs on `workers`; they themselves, and this, best have a runtime of one thread: on their way from a REGISTER
    /// to the database and back each change of threads costs more than the work between two of them.
    ///
    /// # Errors
    /// [`StartError`], also when a socket was handed over that nobody wants.
    pub async fn start_on(config: &Config, mut handed: Handed, workers: &Handle) -> Result<Self, StartError> {
        let handed_count = handed.len();
        let recorder = metrics::install();
        let clock = Clock::system();
        let data_dir = DataDir::open(&config.data_dir)?;
        let listeners = Listeners::bind(&config.listeners, &config.limits, &mut handed)?;
        let http = listen("http.listen", &config.http.listen, &mut handed).await?;
        let ops = listen("ops.listen", &config.ops.listen, &mut handed).await?;
        handed.finish()?;
        let store = open_store(config, &data_dir).await?;
        let opened = Registry::open(store, clock.clone(), limits(config)).await;
        let registry = opened.map_err(|error| StartError::store(config, error))?;
        let first_token = first_token(&registry, &data_dir).await?;
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let sites = Sites::new(registry.clone(), &tasks, &stop, workers);
        let (running, reload) = watch::channel(Arc::new(config.clone()));
        let mut daemon = Self {
            http: addresses(&http)?,
            ops: addresses(&ops)?,
            sip: listeners.addresses()?,
            first_token,
            data_dir,
            registry: registry.clone(),
            running,
            censuses: Vec::new(),
            liveness: Liveness::new(),
            stop: stop.clone(),
            tasks: tasks.clone(),
        };
        let webhook = Arc::new(Webhook::new(registry.clone(), sites.clone()));
        note_own_sockets(handed_count, &daemon);
        listeners.serve(&registry, sites.clone(), &tasks, &reload, &daemon.liveness, &stop)?;
        let _on_workers = workers.enter();
        feeds::start(&config.feeds, &registry, &sites, &clock, &tasks, &stop);
        let realm = config.registrar.realm.as_str().into();
        let state = AppState { registry: registry.clone(), webhook, clock, realm, settings: Settings::default() };
        let router = http::fronted(http::router(state), &config.http);
        daemon.censuses.push(serve(http, &router, &config.limits, &tasks, &stop)?);
        let ops_router = http::ops_router(recorder.clone(), registry);
        daemon.censuses.push(serve(ops, &ops_router, &config.limits, &tasks, &stop)?);
        tasks.spawn(turn(daemon.liveness.enrol("workers".to_owned()), stop.clone()));
        metrics::process::started(daemon.registry.clock().now().unix);
        tasks.spawn(upkeep(recorder, daemon.data_dir.path().to_path_buf(), stop));
        Ok(daemon)
    }

    /// The data folder.
    #[must_use]
    pub fn data_dir(&self) -> &Path {
        self.data_dir.path()
    }

    /// How we are, in a few words.
    #[must_use]
    pub fn status(&self) -> &'static str {
        status(self.registry.database_up())
    }

    /// What runs.
    #[must_use]
    pub fn config(&self) -> Arc<Config> {
        self.running.borrow().clone()
    }

    /// Takes up `new` as far as that needs no restart, and has certificates read again. Answers what changed.
    #[must_use]
    pub fn reload(&self, new: Config) -> Changes {
        let (running, changes) = self.config().reload(new);
        self.registry.set_limits(limits(&running));
        for census in &self.censuses {
            census.bound(Bounds::of_http(&running.limits));
        }
        self.running.send_replace(Arc::new(running));
        changes
    }

    /// Has certificates read again, and nothing else.
    pub fn reload_certificates(&self) {
        self.running.send_modify(|_| {});
    }

    /// Feeds the watchdog of `supervisor` while all listeners turn and the journal goes on, and tells it how the database
    /// is. It ends with the runtime; once we stop, the time that may take is what bounds us.
    pub fn report_to(&self, supervisor: Supervisor) {
        if supervisor.is_there() {
            let (liveness, registry, stop) = (self.liveness.clone(), self.registry.clone(), self.stop.clone());
            tokio::spawn(report(supervisor, liveness, Arc::downgrade(&registry), stop));
        }
    }

    /// Stops within `limits.stop_s`: accepts nothing more, sends what is owed, ends the streams, writes what is left.
    pub async fn stop(self) {
        let within = Duration::from_secs(self.config().limits.stop_s.into());
        let stopwatch = Clock::stopwatch();
        self.stop.cancel();
        self.registry.streams.close();
        self.tasks.close();
        // Held replies end within their own wait; the rest of the time is for what is not stored yet.
        if tokio::time::timeout(within / 2, self.tasks.wait()).await.is_err() {
            tracing::warn!("some connections did not end in time; they are cut");
        }
        if self.registry.drain(within.saturating_sub(stopwatch.elapsed())).await.is_ok() {
            tracing::info!("stopped; everything is stored");
        } else {
            tracing::error!("stopped before the database had confirmed everything");
        }
    }
}

/// Opens the database that `config` names, and the secrets in it.
///
/// # Errors
/// [`StartError`], when the database or a key for it can't be had.
pub async fn open_store(config: &Config, data_dir: &DataDir) -> Result<Store, StartError> {
    let failed = |error| StartError::store(config, error);
    let store = Store::open(&config.database.url).await.map_err(failed)?;
    let files = match config.secret_keys.as_slice() {
        [] => vec![own_key(config, &store, data_dir).await?],
        named => named.to_vec(),
    };
    for file in files.iter().filter(|file| file.is_open_to_others()) {
        let path = file.path.display();
        tracing::warn!(%path, "others can read or change the key of all passwords; chmod 600 closes it to them");
    }
    let shown: Vec<String> =
        files.iter().map(|file| format!("{} holds key {}", file.path.display(), file.key.id())).collect();
    let mut keys = files.into_iter().map(|file| file.key);
    let Some(first) = keys.next() else { return Ok(store) };
    store.unlock(Keys::new(first, keys.collect())).await.map_err(|error| match error {
        StoreError::Locked { key, devices } => StartError::Locked { key, devices, at_hand: shown.join(", ") },
        error => failed(error),
    })
}

/// The key in the data folder. A new one is made only while nothing is sealed with another: else the old one is missing.
async fn own_key(config: &Config, store: &Store, data_dir: &DataDir) -> Result<KeyFile, StartError> {
    let path = data_dir.path().join(SECRET_KEY);
    if path.exists() {
        return KeyFile::read(&path).map_err(StartError::KeyFile);
    }
    let sealed = store.sealed_with().await.map_err(|error| StartError::store(config, error))?;
    if let Some(SealedWith { key, devices }) = sealed.into_iter().next() {
        return Err(StartError::Locked { key, devices, at_hand: format!("there is no file {}", path.display()) });
    }
    KeyFile::make(&path).map_err(|error| StartError::KeyFile(format!("can't make {}: {error}", path.display())))
}

impl StartError {
    fn store(config: &Config, error: StoreError) -> Self {
        Self::Store { shown: config.database.shown(), error }
    }
}

fn limits(config: &Config) -> Limits {
    let (limits, retention) = (&config.limits, &config.retention);
    let days = |days: u32| Duration::from_hours(24 * u64::from(days));
    Limits {
        retention: Retention { calls: days(retention.calls_days), trails: days(retention.trails_days) },
        devices_max: usize::try_from(limits.devices_max).unwrap_or(usize::MAX),
        devices_per_second_max: limits.devices_per_second_max,
        devices_burst_max: limits.devices_per_second_max.saturating_mul(10),
        commit_wait: Duration::from_millis(limits.commit_wait_ms.into()),
        ..Limits::default()
    }
}

/// Makes what an empty database needs; the answer is the admin's token, which nobody could make otherwise.
async fn first_token(registry: &Registry, data_dir: &DataDir) -> Result<Option<(Secret, PathBuf)>, StartError> {
    let defaults = registry.ensure_defaults()?;
    registry.committed_patiently(defaults.seq).await?;
    // Not "was it made just now": a start that was cut off here must not leave a database nobody can enter.
    if !registry.tokens.is_empty() {
        return Ok(None);
    }
    let secret = Secret::generate().map_err(io::Error::other)?;
    // Filed before it is stored: cut off in between, the file is good for nothing and the next start makes another one;
    // the other way round nobody would ever know the token.
    let file = data_dir.keep_secret(FIRST_TOKEN, secret.reveal())?;
    let seq = registry.create_token(admin_token(registry, &defaults, &secret, "first start"))?.seq;
    registry.committed_patiently(seq).await?;
    Ok(Some((secret, file)))
}

fn admin_token(registry: &Registry, defaults: &Defaults, secret: &Secret, label: &str) -> Token {
    Token {
        id: TokenId(registry.clock().uuid()),
        account: defaults.account,
        scope: Scope::Admin,
        user: defaults.admin,
        pbx: None,
        label: label.to_owned(),
        hash: secret.hash(),
        created_at: registry.clock().now().unix,
        expires_at: None,
    }
}

async fn listen(
    key: &'static str,
    addresses: &[SocketAddr],
    handed: &mut Handed,
) -> Result<Vec<TcpListener>, StartError> {
    let mut listeners = Vec::with_capacity(addresses.len());
    for address in addresses {
        let bound = match handed.tcp(*address) {
            Some(socket) => TcpListener::from_std(socket),
            None => TcpListener::bind(address).await,
        };
        listeners.push(bound.map_err(|error| StartError::Listen {
            key,
            address: *address,
            reason: match error.kind() {
                io::ErrorKind::AddrInUse => "another program has this port; choose another one".into(),
                _ => error.to_string(),
            },
        })?);
    }
    Ok(listeners)
}

fn addresses(listeners: &[TcpListener]) -> io::Result<Vec<SocketAddr>> {
    listeners.iter().map(TcpListener::local_addr).collect()
}

/// Serves each of `listeners` where it is called; who is counted at all of them.
fn serve(
    listeners: Vec<TcpListener>,
    router: &Router,
    limits: &config::Limits,
    tasks: &TaskTracker,
    stop: &CancellationToken,
) -> io::Result<Census> {
    let census = Census::new("http", Bounds::of_http(limits));
    for listener in listeners {
        let service = router.clone().into_make_service_with_connect_info::<Source>();
        let listener = TcpListener::from_std(listener.into_std()?)?;
        let listener = Bounded::new(listener, census.clone());
        let stop = stop.clone();
        tasks.spawn(async move {
            let served = axum::serve(listener, service).with_graceful_shutdown(stop.cancelled_owned()).await;
            if let Err(error) = served {
                tracing::error!(%error, "an HTTP listener ended");
            }
        });
    }
    Ok(census)
}

/// Shows that tasks get their turn, until `stop`.
async fn turn(mut pulse: Pulse, stop: CancellationToken) {
    while stop.run_until_cancelled(pulse.beat()).await.is_some() {}
}

/// With some sockets kept by the service manager, one that is not may be forgotten.
fn note_own_sockets(handed: usize, daemon: &Daemon) {
    let all = daemon.sip.len() + daemon.http.len() + daemon.ops.len();
    if handed > 0 && handed < all {
        tracing::info!(handed, all, "addresses that were not handed over refuse connections during a restart");
    }
}

fn status(database_up: bool) -> &'static str {
    if database_up { "serving" } else { "serving without the database: what changes waits in memory" }
}

async fn report(supervisor: Supervisor, liveness: Liveness, registry: Weak<Registry>, stop: CancellationToken) {
    // Three times, so that a machine that is slow for a moment ends nothing.
    let every = supervisor.watchdog().map_or(REPORT_EVERY, |within| within / 3);
    let mut was_up = true;
    loop {
        tokio::time::sleep(every.min(REPORT_EVERY)).await;
        let Some(registry) = registry.upgrade() else { return };
        let (is_up, journal) = (registry.database_up(), registry.journal_alive());
        drop(registry);
        if std::mem::replace(&mut was_up, is_up) != is_up && !stop.is_cancelled() {
            supervisor.status(status(is_up));
        }
        let silent = match liveness.check(every).await {
            // Loops end when we stop.
            Err(silent) if !stop.is_cancelled() => silent.join(", "),
            _ => String::new(),
        };
        match journal {
            Ok(()) if silent.is_empty() => supervisor.alive(),
            journal => tracing::error!(silent, journal = journal.err(), "not alive; the watchdog is not fed"),
        }
    }
}

/// Keeps the recorder's histograms from growing, tells what the process takes up, and how many lines the log lacks.
async fn upkeep(recorder: metrics_exporter_prometheus::PrometheusHandle, data_dir: PathBuf, stop: CancellationToken) {
    let mut report: Option<JoinHandle<()>> = None;
    loop {
        // A disk that does not answer must keep neither this task nor a worker.
        if report.as_ref().is_none_or(JoinHandle::is_finished) {
            let data_dir = data_dir.clone();
            report = Some(tokio::task::spawn_blocking(move || metrics::process::report(&data_dir)));
        }
        if tokio::time::timeout(UPKEEP_EVERY, stop.cancelled()).await.is_ok() {
            return;
        }
        recorder.run_upkeep();
        telemetry::report_left_out();
    }
}

/// The file in the data folder that holds the first admin token until somebody has seen it.
pub const FIRST_TOKEN: &str = "admin-token";

const UPKEEP_EVERY: Duration = Duration::from_secs(5);
/// How often a service manager is told how we are, unless its watchdog wants to hear it sooner.
const REPORT_EVERY: Duration = Duration::from_secs(10);
