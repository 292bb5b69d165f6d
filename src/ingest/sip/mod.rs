//! SIP listeners: named, one mode each, over UDP, TCP and TLS, as many as wanted. One of them unwraps HEP.
//!
//! A socket task receives, hands each message to its listener's front, and sends what comes back. The front scans it and
//! asks the mode's desk; the desk decides and changes the registry. A reply that tells of a change waits in its socket's
//! pending table until the journal has committed it.

mod attempts;
mod auth;
mod counts;
mod front;
mod heard;
mod hep;
mod mirror;
mod nonces;
mod peers;
mod pending;
mod permission;
mod publications;
pub(super) mod recent;
mod redirect;
mod registrar;
mod replica;
mod siptrace;
mod socket;
mod tcp;
mod tls;
mod transactions;
mod udp;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::clock::Clock;
use crate::config::{self, Config};
use crate::registry::Registry;
use crate::sip::Salt;

use super::site::Sites;
use auth::Seed;
use front::{Core, Front};
use socket::Bound;
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
    /// Binds all sockets of all listeners.
    ///
    /// # Errors
    /// When one can't be had; those bound before it are closed again.
    pub fn bind(listeners: &[config::Listener], limits: &config::Limits) -> Result<Self, BindError> {
        let mut bound = Vec::with_capacity(listeners.len());
        for listener in listeners {
            let sockets = listener.bind.iter().map(|bind| socket::bind(&listener.name, *bind, limits));
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
                Bound::Udp(_) => config::Protocol::Udp,
                Bound::Tcp(_) => config::Protocol::Tcp,
                Bound::Tls(_) => config::Protocol::Tls,
            };
            Ok(Listening { listener: listener.name.clone(), mode: listener.mode, protocol, address: socket.address()? })
        })
        .collect()
    }

    /// Serves all of them, each socket a task of `tasks`, until `stop`. Every task then sends what it owes and ends.
    ///
    /// # Errors
    /// When a socket can't be handed to the runtime, or the system gives no random bytes.
    pub fn serve(
        self,
        config: &Config,
        registry: &Arc<Registry>,
        sites: Sites,
        clock: &Clock,
        tasks: &TaskTracker,
        stop: &CancellationToken,
    ) -> io::Result<()> {
        let mut salt = [0; 16];
        getrandom::fill(&mut salt).map_err(io::Error::other)?;
        let mut seed = [0; 64];
        getrandom::fill(&mut seed).map_err(io::Error::other)?;
        let void = registry.secrets_beyond(&config.registrar.realm);
        if void > 0 {
            tracing::warn!(
                devices = void,
                realm = config.registrar.realm,
                "passwords were set under another realm and prove nothing under this one; set them again, or registrar.realm back"
            );
        }
        let core = Arc::new(Core::new(registry, sites, &config.registrar, Salt(salt), Seed(seed)));
        if self.bound.iter().any(|(listener, _)| listener.mode == config::Mode::Replica) {
            tasks.spawn(expire(core.clone(), clock.clone(), stop.clone()));
        }
        for (listener, sockets) in self.bound {
            let certificate = listener.certificate.clone();
            let committed = registry.committed_watch();
            let front = Front::new(listener, core.clone(), clock.clone(), committed, config.limits.clone());
            let front = Arc::new(front);
            for socket in sockets {
                match socket {
                    Bound::Udp(socket) => {
                        socket::note_receive_buffer(&front.name, &socket, &front.limits);
                        let socket = tokio::net::UdpSocket::from_std(socket)?;
                        tasks.spawn(udp::serve(front.clone(), socket, stop.clone()));
                    }
                    Bound::Tcp(socket) => {
                        let socket = tokio::net::TcpListener::from_std(socket)?;
                        tasks.spawn(tcp::serve(front.clone(), socket, None, stop.clone()));
                    }
                    Bound::Tls(socket) => {
                        let socket = tokio::net::TcpListener::from_std(socket)?;
                        // The configuration has none only without such an address.
                        let Some(certificate) = &certificate else { continue };
                        let handshake = Handshake::new(certificate.server(), front.limits.message_wait_ms());
                        tasks.spawn(tcp::serve(front.clone(), socket, Some(handshake), stop.clone()));
                    }
                }
            }
        }
        Ok(())
    }
}

/// Ends publications in time, until `stop`.
async fn expire(core: Arc<Core>, clock: Clock, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(EXPIRE_EVERY) => core.publications.expire(&core, clock.now()),
        }
    }
}

/// How late a publication may end.
const EXPIRE_EVERY: Duration = Duration::from_secs(1);
