//! Event streams: what connected clients hear, without a database and without a task of its own.
//!
//! A stream is a ring of the last events of one user (their offers) or one account (what admins watch). Rings exist only
//! for keys somebody listens to, or listened to lately: an event nobody can hear costs one map look-up. Subscribers pull,
//! each at its own pace; one that falls behind the ring, or comes back too late, is told to take a snapshot. A ring's
//! epoch is drawn at random when the ring is made, so that an id of an earlier ring, or of an earlier run of the daemon,
//! is never mistaken for a place in this one.
//!
//! Whoever publishes a change must have made it visible in the registry first: a subscriber notes its place in the ring
//! *before* it reads the snapshot, and would otherwise miss a change that was published before it but shows up after.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use dashmap::DashMap;
use serde::Serialize;
use tokio::sync::watch;

pub use super::ring::{Event, EventId};

use super::ring::{Place, Ring, lock};
use crate::model::{AccountId, Offer, Tick, UserId};

/// All event streams. Cloning it shares them.
#[derive(Clone, Debug)]
pub struct Streams(Arc<Inner>);

/// How much the streams may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamLimits {
    /// Subscriptions in all.
    pub total_max: u32,
    /// Subscriptions of one user.
    pub user_max: u32,
    /// Admin subscriptions of one account.
    pub account_max: u32,
    /// Events kept for a user.
    pub user_ring: usize,
    /// Events kept for an account.
    pub account_ring: usize,
    /// Rings kept after their last subscriber left, so that it can come back and replay.
    pub idle_max: usize,
}

/// Whose stream it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StreamKey {
    /// The offers of a user.
    User(UserId),
    /// What the admins of an account watch.
    Account(AccountId),
}

/// Why a subscription was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SubscribeError {
    /// This user or account has as many as it may.
    #[error("too many streams are open for this {0}")]
    TooMany(&'static str),
    /// The daemon has as many as it may.
    #[error("too many streams are open")]
    Full,
    /// The daemon is stopping.
    #[error("the daemon is stopping")]
    Closed,
}

/// What a subscriber must do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// Read the present state and send it under this id: events up to it are lost or in the state.
    Snapshot(EventId),
    /// Send this event. `live` is false when it is a replay of the past.
    Event {
        /// The event.
        event: Arc<Event>,
        /// Whether it happened after the subscription began.
        live: bool,
    },
    /// End the stream.
    Closed,
}

/// One subscriber's place in a ring. Dropping it ends the session.
#[derive(Debug)]
pub struct Subscription {
    streams: Streams,
    key: StreamKey,
    ring: Arc<Ring>,
    head: watch::Receiver<u64>,
    position: Option<u64>,
    began_at: u64,
}

impl Default for StreamLimits {
    fn default() -> Self {
        Self { total_max: 10_000, user_max: 16, account_max: 64, user_ring: 64, account_ring: 1_000, idle_max: 1_000 }
    }
}

impl Streams {
    /// No streams yet.
    #[must_use]
    pub fn new(limits: StreamLimits) -> Self {
        metrics::gauge!("hookswitch_sessions").increment(0.0);
        Self(Arc::new(Inner {
            limits,
            rings: DashMap::new(),
            idle: Mutex::new(VecDeque::new()),
            open: AtomicU32::new(0),
            closed: watch::Sender::new(false),
        }))
    }

    /// Tells the admins who watch `account` that `kind` happened. The change must already show in the registry.
    pub fn publish(&self, account: AccountId, kind: &'static str, data: impl Serialize) {
        // What is published is plain data with string keys: writing it as JSON can't fail.
        self.append(StreamKey::Account(account), kind, None, || serde_json::to_string(&data).unwrap_or_default());
    }

    /// Tells the sessions of the offer's user how it stands now; `read_at` is when the event behind it was read off its
    /// feed. The change must already show in the registry.
    pub fn publish_offer(&self, offer: &Offer, read_at: Tick) {
        self.append(StreamKey::User(offer.user), OFFER, Some(read_at), || {
            serde_json::to_string(offer).unwrap_or_default()
        });
    }

    /// How many sessions `user` has connected.
    #[must_use]
    pub fn sessions(&self, user: UserId) -> u32 {
        self.0.rings.get(&StreamKey::User(user)).map_or(0, |ring| ring.subscribers.load(Ordering::Acquire))
    }

    /// Begins a subscription: after `last` when the ring still holds all that followed it, else with a snapshot.
    ///
    /// # Errors
    /// When the key or the daemon has as many as it may, or the daemon is stopping.
    pub fn subscribe(&self, key: StreamKey, last: Option<EventId>) -> Result<Subscription, SubscribeError> {
        if *self.0.closed.borrow() {
            return Err(SubscribeError::Closed);
        }
        let (max, name) = match key {
            StreamKey::User(_) => (self.0.limits.user_max, "user"),
            StreamKey::Account(_) => (self.0.limits.account_max, "account"),
        };
        take(&self.0.open, self.0.limits.total_max).ok_or(SubscribeError::Full).inspect_err(|_| refused("full"))?;
        // The entry's lock is held until the subscriber is counted, so that the ring can't be let go in between.
        let entry = self.0.rings.entry(key).or_insert_with(|| Arc::new(Ring::new(self.0.limits.ring(key))));
        if take(&entry.subscribers, max).is_none() {
            drop(entry);
            self.0.open.fetch_sub(1, Ordering::AcqRel);
            refused(name);
            return Err(SubscribeError::TooMany(name));
        }
        let ring = Arc::clone(&entry);
        drop(entry);
        if matches!(key, StreamKey::User(_)) {
            metrics::gauge!("hookswitch_sessions").increment(1.0);
        }
        let head = ring.head.subscribe();
        let began_at = *head.borrow();
        let position = last.filter(|id| id.epoch == ring.epoch && ring.holds_after(id.n)).map(|id| id.n);
        Ok(Subscription { streams: self.clone(), key, ring, head, position, began_at })
    }

    /// Ends every subscription and refuses new ones.
    pub fn close(&self) {
        self.0.closed.send_replace(true);
    }

    fn append(&self, key: StreamKey, kind: &'static str, read_at: Option<Tick>, data: impl FnOnce() -> String) {
        let Some(ring) = self.0.rings.get(&key).map(|ring| Arc::clone(&ring)) else { return };
        ring.append(kind, data().into_boxed_str(), read_at);
    }

    /// Counts a subscriber out; the ring is kept for a while in case it comes back.
    fn left(&self, key: StreamKey, ring: &Ring) {
        self.0.open.fetch_sub(1, Ordering::AcqRel);
        if matches!(key, StreamKey::User(_)) {
            metrics::gauge!("hookswitch_sessions").decrement(1.0);
        }
        if ring.subscribers.fetch_sub(1, Ordering::AcqRel) > 1 {
            return;
        }
        let idled = ring.idled.fetch_add(1, Ordering::AcqRel) + 1;
        let mut idle = lock(&self.0.idle);
        idle.push_back((key, ring.epoch, idled));
        while idle.len() > self.0.limits.idle_max {
            let Some((key, epoch, idled)) = idle.pop_front() else { break };
            self.0.rings.remove_if(&key, |_, ring| {
                ring.epoch == epoch
                    && ring.idled.load(Ordering::Acquire) == idled
                    && ring.subscribers.load(Ordering::Acquire) == 0
            });
        }
    }
}

impl Default for Streams {
    fn default() -> Self {
        Self::new(StreamLimits::default())
    }
}

impl Subscription {
    /// Waits for what to do next. Safe to drop before it is ready.
    pub async fn next(&mut self) -> Next {
        let mut closed = self.streams.0.closed.subscribe();
        loop {
            if *closed.borrow_and_update() {
                return Next::Closed;
            }
            let Some(position) = self.position else {
                let n = *self.head.borrow_and_update();
                self.position = Some(n);
                return Next::Snapshot(EventId { epoch: self.ring.epoch, n });
            };
            self.head.borrow_and_update();
            match self.ring.after(position) {
                Place::Event(event) => {
                    self.position = Some(event.id.n);
                    let live = event.id.n > self.began_at;
                    return Next::Event { event, live };
                }
                Place::Gap => {
                    metrics::counter!("hookswitch_dropped_total", "where" => "streams", "reason" => "slow")
                        .increment(1);
                    self.position = None;
                }
                Place::Head => {
                    // Neither sender can go away: this subscription holds the ring and the streams.
                    tokio::select! {
                        _ = self.head.changed() => {}
                        _ = closed.changed() => {}
                    }
                }
            }
        }
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.streams.left(self.key, &self.ring);
    }
}

#[derive(Debug)]
struct Inner {
    limits: StreamLimits,
    rings: DashMap<StreamKey, Arc<Ring>>,
    /// Rings nobody listens to, longest first: key, epoch, and the ring's `idled` when it was put here.
    idle: Mutex<VecDeque<(StreamKey, u64, u32)>>,
    /// Subscriptions in all.
    open: AtomicU32,
    closed: watch::Sender<bool>,
}

impl StreamLimits {
    fn ring(&self, key: StreamKey) -> usize {
        match key {
            StreamKey::User(_) => self.user_ring,
            StreamKey::Account(_) => self.account_ring,
        }
    }
}

/// Adds one unless that would pass `max`.
fn take(count: &AtomicU32, max: u32) -> Option<u32> {
    count.fetch_update(Ordering::AcqRel, Ordering::Acquire, |n| (n < max).then_some(n + 1)).ok()
}

fn refused(reason: &'static str) {
    metrics::counter!("hookswitch_dropped_total", "where" => "streams", "reason" => reason).increment(1);
}

/// Name of the event that carries an offer.
const OFFER: &str = "offer";

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;
    use tokio::time::timeout;
    use uuid::Uuid;

    use super::*;

    const ACCOUNT: AccountId = AccountId(Uuid::from_u128(1));
    const KEY: StreamKey = StreamKey::Account(ACCOUNT);
    const PERSON: UserId = UserId(Uuid::from_u128(2));
    const USER: StreamKey = StreamKey::User(PERSON);

    fn small() -> Streams {
        Streams::new(StreamLimits {
            total_max: 4,
            user_max: 2,
            account_max: 3,
            user_ring: 2,
            account_ring: 3,
            idle_max: 1,
        })
    }

    fn publish(streams: &Streams, numbers: std::ops::RangeInclusive<u32>) {
        for number in numbers {
            streams.publish(ACCOUNT, "device.up", json!(number));
        }
    }

    async fn data(subscription: &mut Subscription) -> String {
        match subscription.next().await {
            Next::Event { event, .. } => event.data.to_string(),
            other => format!("{other:?}"),
        }
    }

    async fn begin(streams: &Streams) -> (Subscription, EventId) {
        let mut subscription = streams.subscribe(KEY, None).unwrap();
        let Next::Snapshot(id) = subscription.next().await else { panic!("no snapshot at connect") };
        (subscription, id)
    }

    #[tokio::test]
    async fn a_new_subscriber_takes_a_snapshot_and_then_hears_every_event_in_order() {
        let streams = small();
        let (mut one, _) = begin(&streams).await;
        publish(&streams, 1..=3);
        assert_eq!([data(&mut one).await, data(&mut one).await, data(&mut one).await], ["1", "2", "3"]);
        assert!(timeout(Duration::from_millis(5), one.next()).await.is_err());
    }

    #[tokio::test]
    async fn one_who_waits_is_woken() {
        let streams = small();
        let (mut one, _) = begin(&streams).await;
        let waiting = tokio::spawn(async move { data(&mut one).await });
        tokio::task::yield_now().await;
        publish(&streams, 7..=7);
        assert_eq!(timeout(Duration::from_secs(5), waiting).await.unwrap().unwrap(), "7");
    }

    #[tokio::test]
    async fn a_subscriber_that_comes_back_in_time_gets_what_it_missed_and_no_snapshot() {
        let streams = small();
        let (one, id) = begin(&streams).await;
        drop(one);
        publish(&streams, 1..=2);
        let mut again = streams.subscribe(KEY, Some(id)).unwrap();
        assert!(matches!(again.next().await, Next::Event { event, live: false } if &*event.data == "1"));
        assert!(matches!(again.next().await, Next::Event { event, live: false } if &*event.data == "2"));
        publish(&streams, 3..=3);
        assert!(matches!(again.next().await, Next::Event { event, live: true } if &*event.data == "3"));
    }

    #[tokio::test]
    async fn a_subscriber_that_comes_back_too_late_or_with_a_foreign_id_takes_a_snapshot() {
        let streams = small();
        let (_one, id) = begin(&streams).await;
        publish(&streams, 1..=4);
        for last in [id, EventId { epoch: id.epoch ^ 1, n: 4 }, EventId { n: 99, ..id }, EventId { n: u64::MAX, ..id }]
        {
            let mut again = streams.subscribe(KEY, Some(last)).unwrap();
            assert_eq!(again.next().await, Next::Snapshot(EventId { n: 4, ..id }), "{last}");
        }
    }

    #[tokio::test]
    async fn a_slow_subscriber_is_sent_to_a_snapshot_and_goes_on_after_it() {
        let streams = small();
        let (mut one, id) = begin(&streams).await;
        publish(&streams, 1..=9);
        assert_eq!(one.next().await, Next::Snapshot(EventId { n: 9, ..id }));
        publish(&streams, 10..=10);
        assert_eq!(data(&mut one).await, "10");
    }

    #[tokio::test]
    async fn streams_are_bounded_for_a_user_an_account_and_in_all() {
        let streams = small();
        let one = streams.subscribe(USER, None).unwrap();
        let two = streams.subscribe(USER, None).unwrap();
        assert_eq!(streams.sessions(PERSON), 2);
        assert_eq!(streams.subscribe(USER, None).unwrap_err(), SubscribeError::TooMany("user"));
        let _three = streams.subscribe(KEY, None).unwrap();
        let _four = streams.subscribe(KEY, None).unwrap();
        assert_eq!(streams.subscribe(KEY, None).unwrap_err(), SubscribeError::Full);
        drop(one);
        drop(two);
        assert_eq!(streams.sessions(PERSON), 0);
        let _five = streams.subscribe(KEY, None).unwrap();
        assert_eq!(streams.subscribe(KEY, None).unwrap_err(), SubscribeError::TooMany("account"));
    }

    #[tokio::test]
    async fn only_the_rings_left_last_are_kept_and_a_ring_in_use_is_never_let_go() {
        let streams = small();
        let (one, id) = begin(&streams).await;
        drop(one);
        let (mut again, _) = begin(&streams).await;
        drop(streams.subscribe(USER, None).unwrap());
        publish(&streams, 1..=1);
        assert_eq!(data(&mut again).await, "1", "the ring is in use, its old place in the queue does not count");
        drop(again);
        drop(streams.subscribe(USER, None).unwrap());
        assert_eq!(streams.0.rings.len(), 1);
        let mut late = streams.subscribe(KEY, Some(id)).unwrap();
        assert!(matches!(late.next().await, Next::Snapshot(now) if now.epoch != id.epoch));
    }

    #[tokio::test]
    async fn closing_ends_those_who_wait_and_refuses_others() {
        let streams = small();
        let (mut one, _) = begin(&streams).await;
        let waiting = tokio::spawn(async move { one.next().await });
        tokio::task::yield_now().await;
        streams.close();
        assert_eq!(timeout(Duration::from_secs(5), waiting).await.unwrap().unwrap(), Next::Closed);
        assert_eq!(streams.subscribe(KEY, None).unwrap_err(), SubscribeError::Closed);
    }

    #[test]
    fn ids_read_back_as_they_were_written_and_nothing_else_does() {
        let id = EventId { epoch: 0xab, n: 12 };
        assert_eq!(id.to_string(), "00000000000000ab-12");
        assert_eq!(id.to_string().parse(), Ok(id));
        for bad in ["", "12", "-", "x-1", "1-x", "1-2-3", "1--2"] {
            assert_eq!(bad.parse::<EventId>(), Err(()), "{bad}");
        }
    }
}
