//! SIP listeners: named, one mode each, over UDP, TCP, TLS and WebSocket, as many as wanted. One of them unwraps HEP.
//!
//! A socket task receives, hands each message to its listener's front, and sends what comes back. The front scans it and
//! asks the mode's desk; the desk decides and changes the registry. A reply that tells of a change waits in its socket's
//! pending table until the journal has committed it.

mod attempts;
mod auth;
mod counts;
mod datagrams;
mod flows;
mod front;
mod heard;
mod hep;
mod keepalive;
mod mail;
mod mirror;
mod nonces;
mod peers;
mod pending;
mod permission;
mod publications;
pub(super) mod recent;
mod redirect;
mod registrar;
mod reload;
mod replica;
mod siptrace;
mod socket;
mod tcp;
mod tls;
mod transactions;
mod udp;
mod ways;
mod wire;
mod ws;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::activation::Handed;
use crate::clock::Clock;
use crate::config::{self, Config};
use crate::registry::Registry;
use crate::sip::Salt;
use crate::supervision::Liveness;

use super::site::Sites;
use auth::Seed;
use front::{Core, Front};
use reload::Serving;
use socket::Bound;
use tcp::Door;
use tls::Handshake;

pub use hep::Intake as HepIntake;
pub use socket::BindError;

/// Listeners whose sockets are bound and not served yet.
#[derive(Debug)]
pub struct Listeners {
    bound: Vec<(config::Listener, Vec<Bound>)>,
}

/// One address something listens on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listening {
    /// The listener's name.
    pub listener: String,
    /// Its mode.
    pub mode: config::Mode,
    /// Its transport.
    pub protocol: config::Protocol,
    /// Its real address, also when port 0 was asked for.
    pub address: SocketAddr,
}

impl Listeners {
    /// Has all sockets of all listeners: those that were `handed` over, and the others bound now.
    ///
    /// # Errors
    /// When one can't be had; those bound before it are closed again.
    pub fn bind(
        listeners: &[config::Listener],
        limits: &config::Limits,
        handed: &mut Handed,
    ) -> Result<Self, BindError> {
        let mut bound = Vec::with_capacity(listeners.len());
        for listener in listeners {
            let sockets = listener.bind.iter().map(|bind| socket::bind(&listener.name, *bind, limits, handed));
            bound.push((listener.clone(), sockets.collect::<Result<_, _>>()?));
        }
        Ok(Self { bound })
    }

    /// Where they listen.
    ///
    /// # Errors
    /// When the system can't say.
    pub fn addresses(&self) -> io::Result<Vec<Listening>> {
        let all =
            self.bound.iter().flat_map(|(listener, sockets)| sockets.iter().map(move |socket| (listener, socket)));
        all.map(|(listener, socket)| {
            let protocol = match socket {
                Bound::Udp(..) => config::Protocol::Udp,
                Bound::Stream(_, protocol) => *protocol,
            };
            Ok(Listening { listener: listener.name.clone(), mode: listener.mode, protocol, address: socket.address()? })
        })
        .collect()
    }

    /// Serves all of them, each socket a task of `tasks`, until `stop`. Every task then sends what it owes and ends. Those of
    /// connections and of captured packets run on the sites' workers. Each shows in `liveness` that it turns. They begin with
    /// the configuration that is `running`; a new one is taken up as far as it can be, and has certificates read again at once.
    ///
    /// # Errors
    /// When a socket can't be handed to the runtime, or the system gives no random bytes.
    pub fn serve(
        self,
        registry: &Arc<Registry>,
        sites: Sites,
        tasks: &TaskTracker,
        running: &watch::Receiver<Arc<Config>>,
        liveness: &Liveness,
        stop: &CancellationToken,
    ) -> io::Result<()> {
        let workers = sites.workers().clone();
        let config = running.borrow().clone();
        let clock = registry.clock();
        let mut salt = [0; 16];
        getrandom::fill(&mut salt).map_err(io::Error::other)?;
        let mut seed = [0; 64];
        getrandom::fill(&mut seed).map_err(io::Error::other)?;
        warn_of_void_secrets(registry, &config.registrar.realm);
        let core = Arc::new(Core::new(registry, sites, &config, Salt(salt), Seed(seed)));
        let answers = |mode| matches!(mode, config::Mode::Registrar | config::Mode::Replica);
        if self.bound.iter().any(|(listener, _)| answers(listener.mode)) {
            tasks.spawn(expire(core.clone(), clock.clone(), stop.clone()));
        }
        if self.bound.iter().any(|(listener, _)| listener.mode == config::Mode::Registrar) {
            tasks.spawn(keepalive::run(core.clone(), clock.clone(), stop.clone()));
        }
        let limits = Arc::new(ArcSwap::from_pointee(config.limits.clone()));
        let mut serving = Serving { core: core.clone(), limits: limits.clone(), fronts: vec![] };
        for (listener, sockets) in self.bound {
            let handshake = listener.certificate.clone().map(|certificate| {
                let handshake = Handshake::new(&certificate, limits.clone());
                let name = listener.name.clone();
                tasks.spawn(handshake.clone().follow(name, certificate, running.clone(), stop.clone()));
                handshake
            });
            let committed = registry.committed_watch();
            let is_registrar = listener.mode == config::Mode::Registrar;
            let is_hep = listener.mode == config::Mode::Hep;
            let front = Arc::new(Front::new(listener, core.clone(), clock.clone(), committed, limits.clone()));
            serving.fronts.push(front.clone());
            for socket in sockets {
                let name = format!("listeners.{} {}", front.name, socket.address()?);
                match socket {
                    Bound::Udp(socket, opened) => {
                        socket::note_receive_buffer(&front.name, &socket, opened, &config.limits);
                        let _on_workers = is_hep.then(|| workers.enter());
                        let socket = Arc::new(tokio::net::UdpSocket::from_std(socket)?);
                        let doors = is_registrar.then_some(&core.keepalive.doors);
                        let number = doors.map(|doors| doors.open(&socket, &front.admission)).transpose()?.flatten();
                        tasks.spawn(udp::serve(
                            front.clone(),
                            socket,
                            opened,
                            number,
                            liveness.enrol(name),
                            stop.clone(),
                        ));
                    }
                    Bound::Stream(socket, protocol) => {
                        let _on_workers = workers.enter();
                        let listener = tokio::net::TcpListener::from_std(socket)?;
                        // The configuration has no certificate only where nothing is encrypted.
                        let handshake = handshake.clone().filter(|_| protocol.is_encrypted());
                        if handshake.is_none() && protocol.is_encrypted() {
                            continue;
                        }
                        let (front, pulse) = (front.clone(), liveness.enrol(name));
                        let door = Door { front, listener, protocol, handshake, pulse };
                        tasks.spawn(door.serve(stop.clone()));
                    }
                }
            }
        }
        tasks.spawn(serving.follow(running.clone(), stop.clone()));
        Ok(())
    }
}

fn warn_of_void_secrets(registry: &Registry, realm: &str) {
    let void = registry.secrets_beyond(realm);
    if void > 0 {
        tracing::warn!(
            devices = void,
            realm,
            "passwords were set under another realm and prove nothing under this one; set them again, or registrar.realm back"
        );
    }
}

/// Ends publications and the bindings of closed connections in time, until `stop`.
async fn expire(core: Arc<Core>, clock: Clock, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(EXPIRE_EVERY) => {
                core.publications.expire(&core, clock.now());
                core.flows.expire(&core.registry, clock.now());
            }
        }
    }
}

/// How late a publication or a binding may end.
const EXPIRE_EVERY: Duration = Duration::from_secs(1);
