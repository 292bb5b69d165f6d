//! What of a listener changes when the configuration is read again: limits, who may send, what registrars grant. Sockets,
//! modes and everything else need a restart.

use std::net::IpAddr;
use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::census::Bounds;
use crate::config::{self, Config};
use crate::model::Network;

use super::front::{Core, Front};

/// The limits of all listeners. Replaced as a whole; who reads them goes by one state of them.
pub(super) type Limits = Arc<ArcSwap<config::Limits>>;

/// The networks of a listener. Cloning it shares them.
#[derive(Clone, Debug)]
pub(super) struct Admission(Arc<ArcSwap<Vec<Network>>>);

/// Everything here that serves and can be changed.
pub(super) struct Serving {
    pub core: Arc<Core>,
    pub limits: Limits,
    pub fronts: Vec<Arc<Front>>,
}

impl Admission {
    pub(super) fn new(networks: &[Network]) -> Self {
        Self(Arc::new(ArcSwap::from_pointee(networks.to_vec())))
    }

    /// Whether a peer at `address` may send; with no networks anybody may.
    pub(super) fn admits(&self, address: IpAddr) -> bool {
        let networks = self.0.load();
        networks.is_empty() || networks.iter().any(|network| network.contains(address))
    }

    fn set(&self, networks: &[Network]) {
        self.0.store(Arc::new(networks.to_vec()));
    }
}

impl Serving {
    /// Takes up each new configuration until `stop`.
    pub(super) async fn follow(self, mut config: watch::Receiver<Arc<Config>>, stop: CancellationToken) {
        while let Some(Ok(())) = stop.run_until_cancelled(config.changed()).await {
            let config = config.borrow_and_update().clone();
            self.take_up(&config);
        }
    }

    fn take_up(&self, config: &Config) {
        self.limits.store(Arc::new(config.limits.clone()));
        self.core.census.bound(Bounds::of_sip(&config.limits));
        self.core.grant(&config.registrar);
        for front in &self.fronts {
            let listener = config.listeners.iter().find(|listener| listener.name == front.name);
            // One that was taken out of the file serves on until a restart.
            if let Some(listener) = listener {
                front.admission.set(&listener.networks);
            }
        }
    }
}
