//! How the feeds are: which are up, since when, and what is wrong with those that are not. Kept in memory only.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::Serialize;
use tokio::sync::{mpsc, oneshot};

use crate::model::{FeedKind, Now, PbxId, UnixMillis};

/// All feeds that were opened since the start.
#[derive(Debug, Default)]
pub struct Feeds {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    feeds: BTreeMap<(PbxId, Arc<str>), Arc<Feed>>,
    controls: HashMap<PbxId, mpsc::Sender<ControlRequest>>,
}

/// A feed's own hand on its state. Cheap to clone.
#[derive(Clone, Debug)]
pub struct FeedHandle(Arc<Feed>);

#[derive(Debug)]
struct Feed {
    pbx: PbxId,
    name: Arc<str>,
    kind: FeedKind,
    status: Mutex<Status>,
}

#[derive(Clone, Debug)]
struct Status {
    state: FeedState,
    since: UnixMillis,
    last_event_at: Option<UnixMillis>,
    last_error: Option<String>,
    retry_at: Option<UnixMillis>,
    events: u64,
    /// Events of the second that goes on, and of the one before.
    second: (i64, u64, u64),
}

/// Where a feed stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum FeedState {
    /// It is being connected, or has not told anything yet.
    Connecting,
    /// It is connected and has told where things stand.
    Up,
    /// It broke and is tried again at `retry_at`.
    Waiting,
    /// It listens, and nothing has come for a while.
    Idle,
}

/// A feed as operators see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct FeedStatus {
    /// Its name in the configuration; of a listener, the listener's.
    #[schema(value_type = String)]
    pub name: Arc<str>,
    /// Its kind.
    pub kind: FeedKind,
    /// Where it stands.
    pub state: FeedState,
    /// Since when.
    pub since: UnixMillis,
    /// When it last told something.
    pub last_event_at: Option<UnixMillis>,
    /// Events in the last whole second.
    pub events_per_second: u64,
    /// Events since the start.
    pub events: u64,
    /// What went wrong last, in words for a person.
    pub last_error: Option<String>,
    /// When it is tried again.
    pub retry_at: Option<UnixMillis>,
}

/// Something to be changed on a PBX, and where the answer goes. It counts only when the PBX's own event confirms it.
#[derive(Debug)]
pub struct ControlRequest {
    /// What.
    pub command: Command,
    /// Told when the PBX has accepted or refused; the text says why not.
    pub done: oneshot::Sender<Result<(), String>>,
}

/// What can be changed on a PBX whose `control` is on (promise 8).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Puts a device into a queue.
    AddMember {
        /// The queue's name on the PBX.
        queue: String,
        /// The device's user part.
        user: String,
        /// What the PBX shows for it.
        name: Option<String>,
        /// Order of preference.
        penalty: u32,
    },
    /// Takes a device out of a queue.
    RemoveMember {
        /// The queue's name on the PBX.
        queue: String,
        /// The device's user part.
        user: String,
    },
    /// Holds calls back from a member, or no longer.
    Pause {
        /// The queue's name on the PBX; none = all it is in.
        queue: Option<String>,
        /// The device's user part.
        user: String,
        /// Whether to pause.
        paused: bool,
        /// Why.
        reason: Option<String>,
    },
}

impl Feeds {
    /// Makes a feed known; its state shows from now on. Opening one again goes on with it.
    pub fn open(&self, pbx: PbxId, name: &str, kind: FeedKind, now: Now) -> FeedHandle {
        let name: Arc<str> = name.into();
        let mut inner = self.inner();
        let feed = inner.feeds.entry((pbx, name.clone())).or_insert_with(|| {
            let status = Status {
                state: FeedState::Connecting,
                since: now.unix,
                last_event_at: None,
                last_error: None,
                retry_at: None,
                events: 0,
                second: (0, 0, 0),
            };
            Arc::new(Feed { pbx, name, kind, status: Mutex::new(status) })
        });
        FeedHandle(feed.clone())
    }

    /// The feeds of a PBX, by name.
    #[must_use]
    pub fn of(&self, pbx: PbxId, now: Now) -> Vec<FeedStatus> {
        let inner = self.inner();
        inner.feeds.values().filter(|feed| feed.pbx == pbx).map(|feed| feed.shown(now)).collect()
    }

    /// Whether a connector of this PBX is up, so that its channels are the measure of what goes on there.
    #[must_use]
    pub fn is_led(&self, pbx: PbxId) -> bool {
        let channels = |kind| matches!(kind, FeedKind::Asterisk | FeedKind::Freeswitch);
        let inner = self.inner();
        inner.feeds.values().any(|feed| feed.pbx == pbx && channels(feed.kind) && feed.status().state == FeedState::Up)
    }

    /// Where commands for a PBX go; none while no feed of it takes any.
    #[must_use]
    pub fn control(&self, pbx: PbxId) -> Option<mpsc::Sender<ControlRequest>> {
        self.inner().controls.get(&pbx).filter(|sender| !sender.is_closed()).cloned()
    }

    /// A feed that can change its PBX takes commands from here on. The newest one gets them.
    #[must_use]
    pub fn take_control(&self, pbx: PbxId) -> mpsc::Receiver<ControlRequest> {
        let (sender, receiver) = mpsc::channel(COMMANDS_MAX);
        self.inner().controls.insert(pbx, sender);
        receiver
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl FeedHandle {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// The PBX it tells of.
    #[must_use]
    pub fn pbx(&self) -> PbxId {
        self.0.pbx
    }

    /// Whether it is connected and has told where things stand.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.0.status().state == FeedState::Up
    }

    /// It is connected and has told where things stand.
    pub fn up(&self, now: Now) {
        self.turn(FeedState::Up, now, |status| {
            status.last_error = None;
            status.retry_at = None;
        });
    }

    /// It is being connected.
    pub fn connecting(&self, now: Now) {
        self.turn(FeedState::Connecting, now, |status| status.retry_at = None);
    }

    /// It broke; `error` is for a person and holds no secret.
    pub fn failed(&self, now: Now, error: &str, retry_at: UnixMillis) {
        self.turn(FeedState::Waiting, now, |status| {
            status.last_error = Some(error.to_owned());
            status.retry_at = Some(retry_at);
        });
    }

    /// It told something.
    pub fn event(&self, now: Now) {
        let mut status = self.0.status();
        let second = now.unix.0.div_euclid(1000);
        let (at, count, _) = status.second;
        status.second = match second - at {
            0 => (at, count + 1, status.second.2),
            1 => (second, 1, count),
            _ => (second, 1, 0),
        };
        status.events += 1;
        status.last_event_at = Some(now.unix);
    }

    fn turn(&self, state: FeedState, now: Now, change: impl FnOnce(&mut Status)) {
        let mut status = self.0.status();
        if status.state != state {
            status.state = state;
            status.since = now.unix;
        }
        change(&mut status);
        let up = f64::from(u8::from(state == FeedState::Up));
        drop(status);
        let (pbx, feed) = (self.0.pbx.to_string(), self.0.name.to_string());
        metrics::gauge!("hookswitch_feed_up", "pbx" => pbx, "feed" => feed).set(up);
    }
}

impl Feed {
    fn shown(&self, now: Now) -> FeedStatus {
        let status = self.status().clone();
        let events_per_second = match now.unix.0.div_euclid(1000) - status.second.0 {
            0 => status.second.2,
            1 => status.second.1,
            _ => 0,
        };
        FeedStatus {
            name: self.name.clone(),
            kind: self.kind,
            state: status.state,
            since: status.since,
            last_event_at: status.last_event_at,
            events_per_second,
            events: status.events,
            last_error: status.last_error,
            retry_at: status.retry_at,
        }
    }

    fn status(&self) -> MutexGuard<'_, Status> {
        self.status.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Commands a PBX may be behind.
const COMMANDS_MAX: usize = 64;
