//! One task a site owns its calls: it follows the SIP that the feeds saw and hears what connectors tell, lets the
//! switchboard decide, and carries out what it says. Nothing here waits for the database.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::runtime::Handle;
use tokio::sync::{broadcast, mpsc};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::model::{
    Call, CallId, CallState, FeedKind, Hop, LegEvent, LegKey, LegState, Now, Offer, OfferState, PbxEvent, PbxId, SiteId,
};
use crate::registry::{Changed, Registry};
use crate::sip::dialog::{Seen, Sighting, Tracker};
use crate::sip::scan;
use crate::switchboard::{Effect, Input, Switchboard};

/// The way to all site tasks. Cheap to clone.
#[derive(Clone)]
pub struct Sites(Arc<Inner>);

struct Inner {
    registry: Arc<Registry>,
    tasks: TaskTracker,
    stop: CancellationToken,
    workers: Handle,
    doors: Mutex<HashMap<SiteId, Door>>,
}

/// The ways into one site's task. Connectors have their own, so that a flood of SIP can't crowd them out.
struct Door {
    observations: mpsc::Sender<Observation>,
    told: mpsc::Sender<Told>,
}

/// What a connector tells.
enum Told {
    Event(Box<PbxEvent>, Now),
    Snapshot { pbx: PbxId, feed: FeedKind, legs: HashSet<LegKey>, at: Now },
}

/// One message a feed saw.
#[derive(Clone, Debug)]
pub struct Observation {
    /// The PBX it belongs to.
    pub pbx: PbxId,
    /// The kind of feed that saw it.
    pub feed: FeedKind,
    /// The whole message.
    pub bytes: Bytes,
    /// Who sent it, when the feed knows.
    pub source: Option<SocketAddr>,
    /// Who received it, when the feed knows.
    pub destination: Option<SocketAddr>,
    /// Which way it crossed the PBX's edge.
    pub hop: Hop,
    /// When it was read off the feed.
    pub at: Now,
}

impl Sites {
    /// Starts the tasks of all sites with calls that were live when the process stopped; the others start when a feed
    /// first shows them something. They run on `workers` and end with `stop`.
    #[must_use]
    pub fn new(registry: Arc<Registry>, tasks: &TaskTracker, stop: &CancellationToken, workers: &Handle) -> Self {
        // Shown from the start, so that the first of a day is seen as a rise.
        for state in [CallState::Calling, CallState::Ringing, CallState::Answered] {
            metrics::gauge!("hookswitch_calls", "state" => state_label(state)).increment(0.0);
        }
        for outcome in [OfferState::Offered, OfferState::Answered, OfferState::Rescinded, OfferState::Ended] {
            metrics::counter!("hookswitch_offers_total", "outcome" => offer_events(outcome).1).increment(0);
        }
        let mut left: HashMap<SiteId, Vec<(Call, u32)>> = HashMap::new();
        for (call, trail) in registry.calls_at_start() {
            if call.state != CallState::Ended {
                metrics::gauge!("hookswitch_calls", "state" => state_label(call.state)).increment(1.0);
            }
            left.entry(call.site).or_default().push((call, trail));
        }
        let (tasks, stop, workers) = (tasks.clone(), stop.clone(), workers.clone());
        let sites = Self(Arc::new(Inner { registry, tasks, stop, workers, doors: Mutex::default() }));
        for (site, calls) in left {
            let door = sites.0.start(site, calls);
            sites.0.doors.lock().unwrap_or_else(PoisonError::into_inner).insert(site, door);
        }
        sites
    }

    /// Where their tasks run, as may whatever else SIP's datagrams need not wait for.
    #[must_use]
    pub fn workers(&self) -> &Handle {
        &self.0.workers
    }

    /// Hands a message to its site. Never waits: a site that is behind by more than its queue loses it, counted.
    pub fn observe(&self, observation: Observation) {
        let sent = self.through(observation.pbx, |door| door.observations.try_send(observation).is_ok());
        if sent == Some(false) {
            count_dropped("site_queue");
        }
    }

    /// Tells a connector's event to its site. Never waits; false = the site is behind and lost it (counted), so the
    /// connector should look at everything again.
    #[must_use]
    pub fn tell(&self, event: PbxEvent, at: Now) -> bool {
        self.told(event.pbx, Told::Event(Box::new(event), at))
    }

    /// Tells which legs a connector's PBX has now, all of them: those of this feed that are not among them have ended
    /// unseen. Never waits; false as with [`Sites::tell`].
    #[must_use]
    pub fn snapshot(&self, pbx: PbxId, feed: FeedKind, legs: HashSet<LegKey>, at: Now) -> bool {
        self.told(pbx, Told::Snapshot { pbx, feed, legs, at })
    }

    fn told(&self, pbx: PbxId, told: Told) -> bool {
        let sent = self.through(pbx, |door| door.told.try_send(told).is_ok());
        if sent == Some(false) {
            count_dropped("site_queue");
        }
        sent.unwrap_or(false)
    }

    /// Goes through the door of a PBX's site, whose task is started when it does not run.
    fn through<T>(&self, pbx: PbxId, go: impl FnOnce(&Door) -> T) -> Option<T> {
        let Some(pbx) = self.0.registry.pbxs.get(pbx) else {
            count_dropped("unknown_pbx");
            return None;
        };
        let site = pbx.value.site;
        let mut doors = self.0.doors.lock().unwrap_or_else(PoisonError::into_inner);
        let door = doors.entry(site).or_insert_with(|| self.0.start(site, Vec::new()));
        if door.observations.is_closed() && !self.0.stop.is_cancelled() {
            // The task panicked, which is a bug of ours; the site goes on with the calls it had written down.
            tracing::error!(%site, "a site's task ended and is started anew");
            count_dropped("site_restart");
            let live = self.0.registry.live.all().into_iter().filter(|call| call.site == site);
            *door = self.0.start(site, live.map(|call| ((*call).clone(), TRAIL_UNKNOWN)).collect());
        }
        Some(go(door))
    }
}

impl Inner {
    fn start(&self, site: SiteId, left: Vec<(Call, u32)>) -> Door {
        let (observations, seen) = mpsc::channel(OBSERVATIONS_MAX);
        let (told, heard) = mpsc::channel(OBSERVATIONS_MAX);
        let task = SiteTask {
            registry: self.registry.clone(),
            tracker: Tracker::default(),
            switchboard: Switchboard::new(site),
            events: Vec::new(),
        };
        let (changes, stop) = (self.registry.changes.subscribe(), self.stop.clone());
        let task = async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = task.run(left, seen, heard, changes) => {}
            }
        };
        self.tasks.spawn_on(task, &self.workers);
        Door { observations, told }
    }
}

struct SiteTask {
    registry: Arc<Registry>,
    tracker: Tracker,
    switchboard: Switchboard,
    /// What the tracker said last; kept for its allocation.
    events: Vec<PbxEvent>,
}

impl SiteTask {
    async fn run(
        mut self,
        left: Vec<(Call, u32)>,
        mut seen: mpsc::Receiver<Observation>,
        mut heard: mpsc::Receiver<Told>,
        mut changes: broadcast::Receiver<Changed>,
    ) {
        self.take_over(left);
        let mut batch = Vec::with_capacity(BATCH_MAX);
        let mut news = Vec::with_capacity(BATCH_MAX);
        loop {
            let wait = self.until_next_deadline();
            tokio::select! {
                read = heard.recv_many(&mut news, BATCH_MAX) => {
                    if read == 0 {
                        return;
                    }
                    news.drain(..).for_each(|told| self.hear(told));
                }
                read = seen.recv_many(&mut batch, BATCH_MAX) => {
                    if read == 0 {
                        return;
                    }
                    batch.drain(..).for_each(|observation| self.observe(&observation));
                }
                change = changes.recv() => match change {
                    Ok(change) => self.on_change(change),
                    Err(broadcast::error::RecvError::Lagged(_)) => self.look_at_everyone(),
                    Err(broadcast::error::RecvError::Closed) => return,
                },
                () = tokio::time::sleep(wait) => self.on_time(),
            }
        }
    }

    /// Goes on with the calls of the process before this one.
    fn take_over(&mut self, left: Vec<(Call, u32)>) {
        let now = self.registry.clock().now();
        for (call, trail) in left {
            for leg in call.legs.iter().filter(|leg| leg.state != LegState::Ended) {
                self.tracker.restore(now, leg, FeedKind::Mirror);
            }
            self.switchboard.restore(now, call, trail);
        }
    }

    fn observe(&mut self, observation: &Observation) {
        let Observation { pbx, feed, bytes, source, destination, hop, at } = observation;
        let Ok(message) = scan(bytes) else { return count_dropped("scan") };
        let sighting = Sighting {
            message: &message,
            pbx: *pbx,
            feed: *feed,
            source: *source,
            destination: *destination,
            hop: *hop,
        };
        let mut events = std::mem::take(&mut self.events);
        match self.tracker.observe(*at, &sighting, &mut events) {
            Seen::Followed | Seen::Early | Seen::Ignored => {}
            Seen::Limited(limit) => count_dropped(limit),
            Seen::Broken(error) => count_dropped(error.label()),
        }
        self.apply_events(*at, &mut events);
        self.events = events;
    }

    fn hear(&mut self, told: Told) {
        match told {
            Told::Event(event, at) => {
                count_event(&event);
                self.apply(at, &Input::Event(&event));
            }
            Told::Snapshot { pbx, feed, legs, at } => self.apply(at, &Input::Snapshot { pbx, feed, legs: &legs }),
        }
    }

    fn on_time(&mut self) {
        let now = self.registry.clock().now();
        let mut events = std::mem::take(&mut self.events);
        self.tracker.poll(now, &mut events);
        self.apply_events(now, &mut events);
        self.events = events;
        self.apply(now, &Input::Time);
    }

    fn on_change(&mut self, change: Changed) {
        let now = self.registry.clock().now();
        match change {
            Changed::User(user) => self.apply(now, &Input::UserChanged(user)),
            Changed::Device(device) => self.apply(now, &Input::DeviceChanged(device)),
        }
    }

    /// Some changes were missed: every open offer is looked at again.
    fn look_at_everyone(&mut self) {
        let offers = self.switchboard.calls().flat_map(|call| &call.offers);
        let mut users: Vec<_> = offers.map(|offer| offer.user).collect();
        users.sort_unstable();
        users.dedup();
        for user in users {
            self.on_change(Changed::User(user));
        }
    }

    fn apply_events(&mut self, at: Now, events: &mut Vec<PbxEvent>) {
        for event in events.drain(..) {
            count_event(&event);
            self.apply(at, &Input::Event(&event));
        }
    }

    fn apply(&mut self, now: Now, input: &Input<'_>) {
        let effects = self.switchboard.apply(now, input, &*self.registry);
        // What a snapshot shows comes before what a stream says, so that who connects in between misses nothing.
        for effect in &effects {
            if let Effect::Call(call) = effect {
                self.keep_call(call);
            }
        }
        for effect in effects {
            match effect {
                Effect::Call(_) => {}
                Effect::Offer(offer) => self.show_offer(now, &offer),
                Effect::Trail(entry) => self.registry.record_trail(*entry),
                Effect::DeviceCalled { device, external_number, external, at } => {
                    self.registry.device_in_call(device, at, external, external_number.as_deref());
                }
                Effect::Merged { from, .. } => self.forget_call(from),
                Effect::Dropped(what) => count_dropped(what),
            }
        }
    }

    fn keep_call(&self, call: &Arc<Call>) {
        let before = self.registry.live.put_call(call.clone()).map(|before| before.state);
        if before == Some(call.state) {
            return;
        }
        if let Some(before) = before {
            metrics::gauge!("hookswitch_calls", "state" => state_label(before)).decrement(1.0);
        }
        if call.state != CallState::Ended {
            metrics::gauge!("hookswitch_calls", "state" => state_label(call.state)).increment(1.0);
        }
        let kind = match call.state {
            CallState::Calling => "call.started",
            CallState::Ringing => "call.ringing",
            CallState::Answered => "call.answered",
            CallState::Ended => "call.ended",
        };
        self.registry.streams.publish(call.account, kind, &**call);
    }

    /// It is another call, which goes on.
    fn forget_call(&self, id: CallId) {
        if let Some(call) = self.registry.live.call(id) {
            metrics::gauge!("hookswitch_calls", "state" => state_label(call.state)).decrement(1.0);
            self.registry.forget_call(id);
            self.registry.streams.publish(call.account, "call.merged", serde_json::json!({ "id": id }));
        }
    }

    fn show_offer(&self, now: Now, offer: &Offer) {
        self.registry.streams.publish_offer(offer, now.tick);
        let (kind, outcome) = offer_events(offer.state);
        metrics::counter!("hookswitch_offers_total", "outcome" => outcome).increment(1);
        self.registry.streams.publish(offer.account, kind, offer);
    }

    fn until_next_deadline(&self) -> Duration {
        let next = [self.tracker.next_deadline(), self.switchboard.next_deadline()].into_iter().flatten().min();
        let now = self.registry.clock().now().tick;
        next.map_or(IDLE_WAIT, |at| Duration::from_millis(at - now).min(IDLE_WAIT))
    }
}

fn state_label(state: CallState) -> &'static str {
    match state {
        CallState::Calling => "calling",
        CallState::Ringing => "ringing",
        CallState::Answered => "answered",
        CallState::Ended => "ended",
    }
}

/// What admins are told, and how it is counted.
fn offer_events(state: OfferState) -> (&'static str, &'static str) {
    match state {
        OfferState::Offered => ("offer.offered", "offered"),
        OfferState::Answered => ("offer.answered", "answered"),
        OfferState::Rescinded => ("offer.rescinded", "rescinded"),
        OfferState::Ended => ("offer.ended", "ended"),
    }
}

fn count_event(event: &PbxEvent) {
    let kind = match event.event {
        LegEvent::Started(_) => "leg_started",
        LegEvent::Rang => "leg_rang",
        LegEvent::Answered => "leg_answered",
        LegEvent::Cancelling => "leg_cancelling",
        LegEvent::Referred => "leg_referred",
        LegEvent::Named(_) => "leg_named",
        LegEvent::Queued(_) => "leg_queued",
        LegEvent::Unqueued => "leg_unqueued",
        LegEvent::Moved(_) => "leg_moved",
        LegEvent::TakesOver(_) => "leg_takes_over",
        LegEvent::Ended(_) => "leg_ended",
    };
    metrics::counter!("hookswitch_events_total", "feed_kind" => event.feed.as_str(), "kind" => kind).increment(1);
}

fn count_dropped(reason: &'static str) {
    metrics::counter!("hookswitch_dropped_total", "where" => "site", "reason" => reason).increment(1);
}

/// Messages a site may be behind.
const OBSERVATIONS_MAX: usize = 8_192;
const BATCH_MAX: usize = 256;
/// Where a trail goes on whose length is not at hand: past what any real call needs, below the switchboard's bound.
const TRAIL_UNKNOWN: u32 = 500;
const IDLE_WAIT: Duration = Duration::from_hours(1);
