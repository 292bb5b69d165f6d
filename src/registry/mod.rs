//! The truth for reads: everything the daemon knows, in concurrent maps.
//!
//! Every change happens here first, gets a number from the journal under the changed record's own lock, and is stored by
//! the next group commit. Who promises a change to anyone waits for its number ([`Registry::committed`]).

mod agents;
mod bound;
mod bucket;
mod contact;
mod control;
mod defaults;
mod devices;
mod drift;
mod edit;
mod error;
mod feeds;
mod health;
mod history;
mod homes;
mod index;
mod lead;
mod limits;
mod links;
mod live;
mod membership;
mod noun;
mod nouns;
mod order;
mod outbox;
mod record;
mod register;
mod reported;
mod resolve;
mod restore;
mod ring;
mod secrets;
pub mod streams;
mod table;
mod tasks;
mod transitions;
mod view;
mod wall;
mod wheel;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::{broadcast, watch};

use crate::clock::Clock;
use crate::model::{
    Account, AccountId, Call, CallId, CallState, DeviceId, DeviceState, LinkId, Now, Pbx, PbxId, Queue, Site, Token,
    TrailEntry, Transition, User, UserId,
};
use crate::store::{DirtyKey, Journal, Kind, Records, Row, Store, StoreError, line};

pub use crate::store::{CallFilter, HistoryPage, LinksOf, NotStored, Seq, Stored};
pub use control::{Command, ControlRequest};
pub use defaults::Defaults;
pub use devices::DeviceFilter;
pub use drift::{Compared, Difference, DriftKind, Side};
pub use error::ChangeError;
pub use feeds::{FeedHandle, FeedState, FeedStatus, Feeds};
pub use health::{ContactHealth, Health, Trouble};
pub use limits::Limits;
pub use live::Live;
pub use noun::{Kept, Noun, UniqueKey};
pub use record::{BindingSummary, DeviceView};
pub use register::{Change, Registered, Target};
pub(crate) use reported::merged;
pub use reported::{ReportedContact, ReportedMember, ReportedQueue};
pub use streams::Streams;
pub use table::{Page, Table};
pub(crate) use transitions::transitions;

use agents::Agents;
use health::Pings;
use homes::Devices;
use links::Links;
use membership::Known;
use outbox::Outbox;
use secrets::Secrets;

/// Everything the daemon knows.
#[derive(Debug)]
pub struct Registry {
    /// Tenants.
    pub accounts: Table<Account>,
    /// Sites.
    pub sites: Table<Site>,
    /// PBXs.
    pub pbxs: Table<Pbx>,
    /// People.
    pub users: Table<User>,
    /// Queues.
    pub queues: Table<Queue>,
    /// API tokens.
    pub tokens: Table<Token>,
    /// Calls that go on.
    pub live: Live,
    /// Who listens.
    pub streams: Streams,
    /// How the feeds are.
    pub feeds: Feeds,
    /// What a site task must hear about; subscribe to it. Who lags looks at everything again.
    pub changes: broadcast::Sender<Changed>,
    devices: Devices,
    secrets: Secrets,
    links: Links,
    agents: Agents,
    outbox: Outbox,
    /// What PBXs found when they asked contacts whether they live.
    health: Pings,
    /// What PBXs have, as far as their feeds tell.
    known: Known,
    /// Moves with every change of a queue that a feed reported.
    queues_moved: watch::Sender<u64>,
    /// One edit at a time.
    edit: Mutex<()>,
    journal: Arc<Journal>,
    store: Store,
    clock: Clock,
    /// Replaced as a whole when the configuration is read again.
    limits: ArcSwap<Limits>,
    /// When it was opened.
    started: Now,
    /// What the site tasks take over.
    calls_at_start: Mutex<Vec<(Call, u32)>>,
}

/// What changed about those whose offers may have to be closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Changed {
    /// A user, or the user's links.
    User(UserId),
    /// A device, or its links.
    Device(DeviceId),
}

impl Registry {
    /// Reads everything from the database and starts the tasks that write it back. They end when the registry is
    /// dropped; [`Registry::drain`] first, so that nothing is left behind.
    ///
    /// # Errors
    /// [`StoreError`] when the database can't be read.
    pub async fn open(store: Store, clock: Clock, limits: Limits) -> Result<Arc<Self>, StoreError> {
        let now = clock.now();
        let mut loaded = store.load().await?;
        let log = std::mem::take(&mut loaded.log);
        let journal = Arc::new(Journal::new(loaded.seq, log, clock.clone(), limits.history_max));
        let streams = Streams::default();
        let registry = Arc::new(Self {
            accounts: Table::default(),
            sites: Table::default(),
            pbxs: Table::default(),
            users: Table::default(),
            queues: Table::default(),
            tokens: Table::default(),
            live: Live::new(journal.clone(), streams.clone(), limits.live_calls_max),
            streams,
            feeds: Feeds::default(),
            changes: broadcast::Sender::new(CHANGES_MAX),
            devices: Devices::default(),
            secrets: Secrets::default(),
            links: Links::default(),
            agents: Agents::default(),
            outbox: Outbox::default(),
            health: Pings::default(),
            known: Known::default(),
            queues_moved: watch::Sender::new(0),
            edit: Mutex::new(()),
            journal,
            store,
            started: now,
            calls_at_start: Mutex::default(),
            clock,
            limits: ArcSwap::from_pointee(limits),
        });
        registry.restore(loaded, now)?;
        tasks::start(&registry);
        Ok(registry)
    }

    /// The clock the registry goes by.
    #[must_use]
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// Its bounds.
    #[must_use]
    pub fn limits(&self) -> Arc<Limits> {
        self.limits.load_full()
    }

    /// Goes by these from now on; what was let in under the old ones stays. How much history may wait and how many calls
    /// may live is as it was at the start.
    pub fn set_limits(&self, limits: Limits) {
        self.limits.store(Arc::new(limits));
    }

    /// Whether the journal goes on, be it with a database that is away.
    ///
    /// # Errors
    /// In a few words, why it never will.
    pub fn journal_alive(&self) -> Result<(), &'static str> {
        self.journal.alive()
    }

    /// Waits until the change `seq` is stored, at most [`Limits::commit_wait`].
    ///
    /// # Errors
    /// [`NotStored`]: the change stays and is stored when it can be; ask again.
    pub async fn committed(&self, seq: Seq) -> Result<(), NotStored> {
        let wait = self.limits.load().commit_wait;
        self.committed_within(seq, wait).await
    }

    /// The same for who has time, as at the start and on the command line: a disk that is slow for a while fails nothing.
    ///
    /// # Errors
    /// [`NotStored`] after half a minute.
    pub async fn committed_patiently(&self, seq: Seq) -> Result<(), NotStored> {
        let wait = PATIENCE.max(self.limits.load().commit_wait);
        self.committed_within(seq, wait).await
    }

    async fn committed_within(&self, seq: Seq, wait: Duration) -> Result<(), NotStored> {
        self.journal.committed(seq, wait).await?;
        // Who gets an answer finds that the news of it is out.
        self.release();
        Ok(())
    }

    /// The number up to which changes are stored, for those who hold many answers at once. Ask [`Registry::is_stored`]
    /// about each number it has reached.
    #[must_use]
    pub fn committed_watch(&self) -> watch::Receiver<u64> {
        self.journal.committed_watch()
    }

    /// Number of the latest change, whoever made it: what an answer waits for that shows the absence of something.
    #[must_use]
    pub fn latest(&self) -> Seq {
        self.journal.latest()
    }

    /// Number of the latest deletion, whoever made it: what a listing waits for, which shows what is not there any more.
    #[must_use]
    pub fn gone(&self) -> Seq {
        self.journal.gone()
    }

    /// Whether the last attempt to write to the database succeeded.
    #[must_use]
    pub fn database_up(&self) -> bool {
        self.journal.is_up()
    }

    /// Whether the change `seq` is stored. Never waits.
    #[must_use]
    pub fn is_stored(&self, seq: Seq) -> bool {
        self.journal.is_committed(seq)
    }

    /// Waits until all changes so far are stored, at most `wait`; for a shutdown.
    ///
    /// # Errors
    /// [`NotStored`] when something was left.
    pub async fn drain(&self, wait: std::time::Duration) -> Result<(), NotStored> {
        self.journal.drain(wait).await
    }

    /// Calls the database had at start, live and lately ended, for the site tasks to go on with, each with the last
    /// position in its trail. Empty when asked again.
    #[must_use]
    pub fn calls_at_start(&self) -> Vec<(Call, u32)> {
        std::mem::take(&mut *self.calls_at_start.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Queues a call's state for the history.
    pub fn record_call(&self, call: Arc<Call>) {
        self.journal.record_call(call);
    }

    /// A call turned out to be another one: it leaves, as if it had never been.
    pub fn forget_call(&self, id: CallId) {
        let Some(call) = self.live.call(id) else { return };
        let void = Call { state: CallState::Ended, legs: Vec::new(), offers: Vec::new(), ..(*call).clone() };
        self.live.put_call(Arc::new(void));
    }

    /// Queues a reason for the history.
    pub fn record_trail(&self, mut entry: TrailEntry) {
        entry.event.retain(|character| character != '\0');
        self.journal.record_trail(entry);
    }

    /// Queues a transition for the history.
    pub fn record_transition(&self, transition: Transition) {
        self.journal.record_transition(transition);
    }

    /// Notes which feeds have gone quiet, sets their gauges, and tells the admins of their PBXs which came and which went.
    /// Every second; in tests by hand.
    pub fn look_at_feeds(&self, now: Now) {
        let pbxs = self.pbxs.all();
        let by_id: HashMap<PbxId, &Stored<Pbx>> = pbxs.iter().map(|pbx| (pbx.value.id, &**pbx)).collect();
        // Names are unique within an account only.
        let mut names: HashMap<&str, usize> = HashMap::new();
        for pbx in &pbxs {
            *names.entry(&pbx.value.name).or_default() += 1;
        }
        let label = |id| {
            let name = by_id.get(&id)?.value.name.as_str();
            Some(if names.get(name) == Some(&1) { name.to_owned() } else { id.to_string() })
        };
        for news in self.feeds.look(now, label) {
            let Some(pbx) = by_id.get(&news.pbx) else { continue };
            let data = serde_json::json!({ "pbx": news.pbx, "name": pbx.value.name, "feed": news.status });
            self.announce(Seq(0), pbx.value.account, news.event, data);
        }
    }

    /// Sets the gauges that count what there is.
    #[expect(clippy::cast_precision_loss, reason = "gauges are floating point")]
    fn report(&self) {
        let now = self.clock.now();
        let mut bindings = 0;
        let mut states = [0_usize; 4];
        for record in &self.devices.records {
            bindings += record.present(now).count();
            states[match record.state(now) {
                DeviceState::Connected => 0,
                DeviceState::Stale => 1,
                DeviceState::Disconnected => 2,
                DeviceState::Disabled => 3,
            }] += 1;
        }
        metrics::gauge!("hookswitch_bindings").set(bindings as f64);
        for (state, count) in ["connected", "stale", "disconnected", "disabled"].into_iter().zip(states) {
            metrics::gauge!("hookswitch_devices", "state" => state).set(count as f64);
        }
    }

    fn changed(&self, changed: Changed) {
        // Nobody listening is fine.
        let _ = self.changes.send(changed);
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.journal.close();
    }
}

impl Records for Registry {
    fn read(&self, key: DirtyKey, commit: u64) -> Option<Row> {
        fn row<T: Noun>(table: &Table<T>, id: T::Id) -> Option<Row> {
            table.get(id).map(T::row)
        }
        let id = key.id;
        match key.kind {
            Kind::Account => row(&self.accounts, AccountId(id)),
            Kind::Site => row(&self.sites, crate::model::SiteId(id)),
            Kind::Pbx => row(&self.pbxs, PbxId(id)),
            Kind::User => row(&self.users, UserId(id)),
            Kind::Queue => row(&self.queues, crate::model::QueueId(id)),
            Kind::Token => row(&self.tokens, crate::model::TokenId(id)),
            Kind::Secret => self.secrets.row(DeviceId(id)).map(Row::Secret),
            Kind::Link => self.links.get(LinkId(id)).map(Row::Link),
            Kind::Device => {
                let record = self.devices.records.get(&DeviceId(id))?;
                Some(Row::Device(Box::new(Stored { value: record.device().into(), seq: record.seq })))
            }
            Kind::Bindings => {
                let now = self.clock.now();
                let mut record = self.devices.records.get_mut(&DeviceId(id))?;
                record.logged = lower_half(commit);
                let written = record.bindings.iter().map(|bound| bound.to_contact(now.to_unix(bound.expires_at)));
                (!record.bindings.is_empty()).then(|| Row::Bindings {
                    line: line(record.id, record.bindings_seq, written),
                    seq: record.bindings_seq,
                })
            }
        }
    }

    fn write_anew(&self, device: DeviceId, commit: u64) {
        let Some(record) = self.devices.records.get(&device) else { return };
        // One without bindings needs no line once there is none before it.
        if record.logged == lower_half(commit) && !record.bindings.is_empty() {
            self.journal.mark(DirtyKey { kind: Kind::Bindings, id: device.0 });
        }
    }

    fn devices(&self) -> usize {
        self.devices.records.len()
    }
}

/// What a record keeps of a commit's number.
fn lower_half(commit: u64) -> u32 {
    u32::try_from(commit & u64::from(u32::MAX)).unwrap_or_default()
}

/// Counts what a limit turned away.
fn count_dropped(reason: &'static str) {
    metrics::counter!("hookswitch_dropped_total", "where" => "registry", "reason" => reason).increment(1);
}

/// Accounts above an account, at most.
const ACCOUNT_DEPTH_MAX: usize = 8;

/// Changes a slow site task may lag behind before it must look at everything again.
const CHANGES_MAX: usize = 4_096;
/// How long the start and the command line wait for the database.
const PATIENCE: Duration = Duration::from_secs(30);
