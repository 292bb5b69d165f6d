//! What the registry does by itself: store, expire, announce, forget.

use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::time::MissedTickBehavior;

use super::Registry;
use super::wall::{Wall, restate};

/// Starts them. They hold the registry weakly and end with it.
pub(super) fn start(registry: &Arc<Registry>) {
    let weak = Arc::downgrade(registry);
    registry.store.start(registry.journal.clone(), weak.clone());
    tokio::spawn(every_second(weak.clone()));
    tokio::spawn(announce(weak.clone(), registry.journal.committed_watch()));
    tokio::spawn(forget(weak));
}

/// Notices when the wall clock is stepped, ends bindings in time, lets go of what is stored, reports how far behind the database is.
async fn every_second(registry: Weak<Registry>) {
    let mut seconds = 0_u64;
    let Some(mut wall) = registry.upgrade().map(|registry| Wall::at(registry.started)) else { return };
    let mut second = tokio::time::interval(Duration::from_secs(1));
    // After a stall one look is enough: expiry goes by deadlines, not by counting seconds.
    second.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        second.tick().await;
        let weak = registry.clone();
        let Some(registry) = registry.upgrade() else { return };
        if let Some(step_ms) = wall.stepped(registry.clock.now()) {
            tracing::warn!(step_ms, "the wall clock was stepped; what is stored by it is written anew");
            tokio::spawn(restate(weak));
        }
        while registry.expire(registry.clock.now()) {
            tokio::task::yield_now().await;
        }
        registry.links.forget(|seq| registry.journal.is_committed(seq));
        registry.journal.report();
        registry.look_at_feeds(registry.clock.now());
        if seconds.is_multiple_of(COUNT_EVERY_S) {
            // A million devices take a while to count, and other tasks want this thread.
            tokio::task::spawn_blocking(move || registry.report());
        }
        seconds += 1;
    }
}

/// Publishes events as the commits they wait for are made.
async fn announce(registry: Weak<Registry>, mut committed: tokio::sync::watch::Receiver<u64>) {
    while committed.changed().await.is_ok() {
        let Some(registry) = registry.upgrade() else { return };
        registry.release();
    }
}

/// Forgets old history, a while after the start and then every hour.
async fn forget(registry: Weak<Registry>) {
    let mut hour = tokio::time::interval_at(tokio::time::Instant::now() + FIRST_PRUNE, PRUNE_EVERY);
    hour.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        hour.tick().await;
        let Some((store, retention, now)) = registry
            .upgrade()
            .map(|registry| (registry.store.clone(), registry.limits.load().retention, registry.clock.now()))
        else {
            return;
        };
        match store.prune(retention, now.unix).await {
            Ok(0) => {}
            Ok(entries) => tracing::info!(entries, "old history forgotten"),
            Err(error) => tracing::warn!(%error, "old history can't be forgotten now"),
        }
    }
}

const COUNT_EVERY_S: u64 = 10;
const FIRST_PRUNE: Duration = Duration::from_mins(1);
const PRUNE_EVERY: Duration = Duration::from_hours(1);
