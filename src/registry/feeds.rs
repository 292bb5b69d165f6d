//! How the feeds are: which are up, since when, and what is wrong with those that are not. Kept in memory only.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use serde::Serialize;

use super::control::Controls;
use super::lead::Lead;
use crate::model::{FeedKind, Now, PbxId, UnixMillis};

/// All feeds that were opened since the start.
#[derive(Debug, Default)]
pub struct Feeds {
    inner: Mutex<Inner>,
    leads: RwLock<HashMap<PbxId, Arc<Lead>>>,
    pub(super) controls: Controls,
}

#[derive(Debug, Default)]
struct Inner {
    feeds: BTreeMap<(PbxId, Arc<str>), Arc<Feed>>,
}

/// A feed's own hand on its state. Cheap to clone.
#[derive(Clone, Debug)]
pub struct FeedHandle(Arc<Feed>);

#[derive(Debug)]
struct Feed {
    pbx: PbxId,
    name: Arc<str>,
    kind: FeedKind,
    lead: Arc<Lead>,
    status: Mutex<Status>,
    count: Count,
}

#[derive(Clone, Debug)]
struct Status {
    state: FeedState,
    since: UnixMillis,
    last_error: Option<String>,
    retry_at: Option<UnixMillis>,
    /// Whether admins were last told that it is up.
    announced: bool,
    /// How often it went down since they were told something.
    falls: u32,
    /// The PBX's name that its gauge was last shown under.
    label: Option<String>,
}

/// Events, counted without a lock: a listener has many thousands a second. A reader may see a second's count a little
/// off.
#[derive(Debug, Default)]
struct Count {
    total: AtomicU64,
    /// When the last one came; 0 = never.
    last_at: AtomicI64,
    /// The second that goes on, its count, and that of the one before.
    second: AtomicI64,
    this: AtomicU64,
    before: AtomicU64,
}

/// Something admins should hear about a feed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct FeedNews {
    pub(super) pbx: PbxId,
    /// `feed.up` or `feed.down`.
    pub(super) event: &'static str,
    pub(super) status: FeedStatus,
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

impl Feeds {
    /// Makes a feed known; its state shows from now on. Opening one again goes on with it.
    pub fn open(&self, pbx: PbxId, name: &str, kind: FeedKind, now: Now) -> FeedHandle {
        let name: Arc<str> = name.into();
        let lead = self.lead(pbx);
        let mut inner = self.inner();
        let feed = inner.feeds.entry((pbx, name.clone())).or_insert_with(|| {
            let status = Status {
                state: FeedState::Connecting,
                since: now.unix,
                last_error: None,
                retry_at: None,
                announced: false,
                falls: 0,
                label: None,
            };
            Arc::new(Feed { pbx, name, kind, lead, status: Mutex::new(status), count: Count::default() })
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
        self.leads.read().unwrap_or_else(PoisonError::into_inner).get(&pbx).is_some_and(|lead| lead.has_channels())
    }

    /// The connectors of a PBX that are up.
    pub(super) fn lead(&self, pbx: PbxId) -> Arc<Lead> {
        if let Some(lead) = self.leads.read().unwrap_or_else(PoisonError::into_inner).get(&pbx) {
            return lead.clone();
        }
        self.leads.write().unwrap_or_else(PoisonError::into_inner).entry(pbx).or_default().clone()
    }

    /// Sets the gauges, notes which listeners have gone quiet, and says what admins have not been told yet. `label` is
    /// what operators call a PBX; none when it is gone.
    pub(super) fn look(&self, now: Now, label: impl Fn(PbxId) -> Option<String>) -> Vec<FeedNews> {
        let feeds: Vec<Arc<Feed>> = self.inner().feeds.values().cloned().collect();
        feeds.iter().flat_map(|feed| feed.look(now, label(feed.pbx))).collect()
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

    /// It told something. A listener's peer is up by that.
    pub fn event(&self, now: Now) {
        let feed = &self.0;
        // No second ever begins twice: of two that see it begin, one wins.
        let second = now.unix.0.div_euclid(1000);
        let began = feed.count.second.load(Ordering::Relaxed);
        if second != began
            && feed.count.second.compare_exchange(began, second, Ordering::Relaxed, Ordering::Relaxed).is_ok()
        {
            let this = feed.count.this.swap(0, Ordering::Relaxed);
            feed.count.before.store(if second == began + 1 { this } else { 0 }, Ordering::Relaxed);
            // Once a second is soon enough.
            if !feed.kind.is_connector() {
                self.turn(FeedState::Up, now, |_| {});
            }
        }
        feed.count.this.fetch_add(1, Ordering::Relaxed);
        feed.count.total.fetch_add(1, Ordering::Relaxed);
        feed.count.last_at.store(now.unix.0, Ordering::Relaxed);
    }

    fn turn(&self, state: FeedState, now: Now, change: impl FnOnce(&mut Status)) {
        self.0.turn(state, now, change);
    }
}

impl Feed {
    fn turn(&self, state: FeedState, now: Now, change: impl FnOnce(&mut Status)) {
        let mut status = self.status();
        let before = status.state;
        if before != state {
            status.state = state;
            status.since = now.unix;
        }
        change(&mut status);
        // Under the status' lock, so that the counts go with the states.
        match (before, state) {
            (FeedState::Up, FeedState::Up) => {}
            (_, FeedState::Up) => self.lead.join(self.kind),
            (FeedState::Up, _) => {
                status.falls += 1;
                self.lead.leave(self.kind, now.tick);
            }
            _ => {}
        }
    }

    fn look(&self, now: Now, label: Option<String>) -> Vec<FeedNews> {
        let last_at = self.count.last_at.load(Ordering::Relaxed);
        let quiet = !self.kind.is_connector() && now.unix.0.saturating_sub(last_at) > IDLE_MS;
        if quiet && self.status().state == FeedState::Up {
            self.turn(FeedState::Idle, now, |_| {});
        }
        let shown = self.shown(now);
        let mut status = self.status();
        let up = status.state == FeedState::Up;
        self.gauge(&mut status, label, up);
        let news = |event| FeedNews { pbx: self.pbx, event, status: shown.clone() };
        let mut told = Vec::new();
        if status.announced && status.falls > 0 {
            status.announced = false;
            told.push(news("feed.down"));
        }
        status.falls = 0;
        if up && !status.announced {
            status.announced = true;
            told.push(news("feed.up"));
        }
        told
    }

    fn gauge(&self, status: &mut Status, label: Option<String>, up: bool) {
        let set = |label: &str, value: f64| {
            let (pbx, feed, kind) = (label.to_owned(), self.name.to_string(), self.kind.as_str());
            metrics::gauge!("hookswitch_feed_up", "pbx" => pbx, "feed" => feed, "kind" => kind).set(value);
        };
        if let Some(label) = &label {
            set(label, f64::from(u8::from(up)));
        }
        if status.label != label {
            if let Some(before) = &status.label {
                // The PBX was renamed or deleted. A gauge can't be taken back, and 0 would raise an alarm for ever.
                set(before, f64::NAN);
            }
            status.label = label;
        }
    }

    fn shown(&self, now: Now) -> FeedStatus {
        let status = self.status().clone();
        let count = &self.count;
        let events_per_second = match now.unix.0.div_euclid(1000) - count.second.load(Ordering::Relaxed) {
            0 => count.before.load(Ordering::Relaxed),
            1 => count.this.load(Ordering::Relaxed),
            _ => 0,
        };
        FeedStatus {
            name: self.name.clone(),
            kind: self.kind,
            state: status.state,
            since: status.since,
            last_event_at: Some(count.last_at.load(Ordering::Relaxed)).filter(|at| *at != 0).map(UnixMillis),
            events_per_second,
            events: count.total.load(Ordering::Relaxed),
            last_error: status.last_error,
            retry_at: status.retry_at,
        }
    }

    fn status(&self) -> MutexGuard<'_, Status> {
        self.status.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A listener's peer that told nothing for so long is idle.
const IDLE_MS: i64 = 300_000;

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::model::Tick;

    const PBX: PbxId = PbxId(Uuid::from_u128(1));

    fn at(ms: u64) -> Now {
        Now { tick: Tick(1_000), unix: UnixMillis(1_790_000_000_000) }.after(ms)
    }

    fn told(feeds: &Feeds, now: Now) -> Vec<&'static str> {
        feeds.look(now, |_| Some("office".into())).iter().map(|news| news.event).collect()
    }

    #[test]
    fn a_connector_is_up_waits_with_its_error_and_is_up_again() {
        let feeds = Feeds::default();
        let feed = feeds.open(PBX, "ami", FeedKind::Asterisk, at(0));
        assert_eq!((told(&feeds, at(1)), feeds.is_led(PBX)), (vec![], false));
        feed.up(at(10));
        assert_eq!((told(&feeds, at(11)), feeds.is_led(PBX)), (vec!["feed.up"], true));
        feed.failed(at(20), "wrong password", UnixMillis(9));
        let shown = feeds.of(PBX, at(21)).remove(0);
        assert_eq!((shown.state, shown.since), (FeedState::Waiting, at(20).unix));
        assert_eq!((shown.last_error.as_deref(), shown.retry_at), (Some("wrong password"), Some(UnixMillis(9))));
        assert_eq!((told(&feeds, at(22)), feeds.is_led(PBX)), (vec!["feed.down"], false));
        feed.connecting(at(30));
        feed.failed(at(40), "refused", UnixMillis(10));
        assert_eq!(told(&feeds, at(41)), [""; 0], "it is down still");
        feed.up(at(50));
        assert_eq!((told(&feeds, at(51)), feeds.of(PBX, at(51)).remove(0).last_error), (vec!["feed.up"], None));
        feed.failed(at(60), "cut", UnixMillis(70));
        feed.up(at(70));
        assert_eq!(told(&feeds, at(80)), ["feed.down", "feed.up"], "however short it was");
        assert_eq!(told(&feeds, at(81)), [""; 0]);
    }

    #[test]
    fn a_listener_is_up_by_what_comes_and_idle_after_five_quiet_minutes() {
        let feeds = Feeds::default();
        let feed = feeds.open(PBX, "mirror", FeedKind::Mirror, at(0));
        feed.event(at(0));
        assert_eq!(told(&feeds, at(100)), ["feed.up"]);
        assert_eq!(told(&feeds, at(299_000)), [""; 0]);
        assert_eq!(told(&feeds, at(301_000)), ["feed.down"]);
        assert_eq!(feeds.of(PBX, at(301_000)).remove(0).state, FeedState::Idle);
        feed.event(at(400_000));
        assert_eq!((told(&feeds, at(400_001)), feeds.is_led(PBX)), (vec!["feed.up"], false));
    }

    #[test]
    fn a_feed_whose_pbx_is_renamed_or_gone_is_not_down_by_its_old_name() {
        let recorder = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder();
        let feeds = Feeds::default();
        let feed = feeds.open(PBX, "ami", FeedKind::Asterisk, at(0));
        feed.up(at(1));
        let shown = |name: Option<&str>| {
            metrics::with_local_recorder(&recorder, || feeds.look(at(2), |_| name.map(str::to_owned)));
            let page = recorder.handle().render();
            let series = page.lines().filter_map(|line| line.strip_prefix("hookswitch_feed_up{pbx=\""));
            let mut series: Vec<String> =
                series.map(|line| line.replace("\",feed=\"ami\",kind=\"asterisk\"}", "")).collect();
            series.sort();
            series
        };
        assert_eq!(shown(Some("office")), ["office 1"]);
        assert_eq!(shown(Some("branch")), ["branch 1", "office NaN"]);
        assert_eq!(shown(None), ["branch NaN", "office NaN"]);
        assert_eq!(shown(Some("office")), ["branch NaN", "office 1"]);
    }

    #[test]
    fn events_are_counted_by_the_last_whole_second() {
        let feeds = Feeds::default();
        let feed = feeds.open(PBX, "ami", FeedKind::Asterisk, at(0));
        for ms in [0, 10, 20, 1_000, 1_100] {
            feed.event(at(ms));
        }
        let rate = |ms| feeds.of(PBX, at(ms)).remove(0).events_per_second;
        assert_eq!([rate(1_500), rate(2_500), rate(3_500)], [3, 2, 0]);
        let shown = feeds.of(PBX, at(3_500)).remove(0);
        assert_eq!((shown.events, shown.last_event_at), (5, Some(at(1_100).unix)));
    }
}
