//! Starts the connectors that the configuration names (`[feeds.NAME]`).

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::asterisk::Asterisk;
use super::feed::supervise;
use super::freeswitch::Freeswitch;
use super::site::Sites;
use super::subscribe::Subscriptions;
use crate::clock::Clock;
use crate::config::{self, Kind};
use crate::model::{FeedKind, PbxId};
use crate::registry::{FeedHandle, Registry};

/// All that a connector works with.
#[derive(Clone)]
pub struct Connector {
    /// What the configuration says of it.
    pub config: config::Feed,
    /// The PBX it tells of.
    pub pbx: PbxId,
    /// Where devices and queues are reported.
    pub registry: Arc<Registry>,
    /// Where legs are told.
    pub sites: Sites,
    /// The time.
    pub clock: Clock,
    /// Where its own state shows.
    pub handle: FeedHandle,
}

impl Connector {
    /// Whether its PBX may be changed, now (promise 8).
    ///
    /// # Errors
    /// Why not, for a person.
    pub(super) fn may_control(&self) -> Result<(), String> {
        let on = self.registry.pbxs.get(self.pbx).is_some_and(|pbx| pbx.value.control);
        if on { Ok(()) } else { Err("this PBX may not be changed from here (control is off)".into()) }
    }
}

/// Starts every configured feed as a task of its own; they end with `stop`. One whose PBX is not there waits for it.
pub fn start(
    feeds: &[config::Feed],
    registry: &Arc<Registry>,
    sites: &Sites,
    clock: &Clock,
    tasks: &TaskTracker,
    stop: &CancellationToken,
) {
    for config in feeds {
        let (config, registry, sites) = (config.clone(), registry.clone(), sites.clone());
        let (clock, stop) = (clock.clone(), stop.clone());
        tasks.spawn(async move {
            let Some(pbx) = pbx_of(&config, &registry, &stop).await else { return };
            let handle = registry.feeds.open(pbx, &config.name, feed_kind(config.kind), clock.now());
            let connector = Connector { config, pbx, registry, sites, clock: clock.clone(), handle: handle.clone() };
            match connector.config.kind {
                Kind::Asterisk => supervise(Asterisk::new(connector), handle, clock, stop).await,
                Kind::Subscription => supervise(Subscriptions::new(connector), handle, clock, stop).await,
                Kind::Freeswitch => supervise(Freeswitch::new(connector), handle, clock, stop).await,
            }
        });
    }
}

/// The PBX a feed belongs to, as soon as there is one of that name.
async fn pbx_of(config: &config::Feed, registry: &Registry, stop: &CancellationToken) -> Option<PbxId> {
    let mut told = false;
    loop {
        if let Some(pbx) = registry.pbx_named(config.pbx.as_deref()) {
            return Some(pbx);
        }
        if !told {
            told = true;
            tracing::error!(
                feed = config.name,
                pbx = config.pbx,
                "there is no PBX of this name; the feed waits for it"
            );
        }
        tokio::select! {
            () = stop.cancelled() => return None,
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
    }
}

fn feed_kind(kind: Kind) -> FeedKind {
    match kind {
        Kind::Asterisk => FeedKind::Asterisk,
        Kind::Freeswitch => FeedKind::Freeswitch,
        Kind::Subscription => FeedKind::Subscription,
    }
}

const LOOK_EVERY: Duration = Duration::from_secs(5);
