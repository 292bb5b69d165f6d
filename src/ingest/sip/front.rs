//! What all SIP listeners do with a message before and after their mode has judged it.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use arc_swap::ArcSwap;
use metrics::Gauge;
use tokio::sync::watch;

use crate::census::{Bounds, Census, Seat};
use crate::clock::Clock;
use crate::config;
use crate::ingest::site::Sites;
use crate::model::{Binding, BindingSource, FeedKind, Now, PbxId, Transport};
use crate::registry::{Change, Registry, Seq, Target};
use crate::sip::registrar::{self, Overflow, Policy};
use crate::sip::{HeaderError, Message, Method, Refusal, Reply, Response, Salt, ScanError, Unanswerable, check, scan};

use super::auth::{Auth, Seed};
use super::counts::{self, Counts};
use super::flows::{FlowId, Flows};
use super::hep::Hep;
use super::keepalive::Keepalives;
use super::mail::Mail;
use super::mirror::{Mirror, Origin};
use super::peers::Peers;
use super::publications::Publications;
use super::registrar::Registrar;
use super::reload::{Admission, Limits};
use super::replica::Replica;
use super::siptrace::Original;

/// What all listeners share.
pub(super) struct Core {
    pub registry: Arc<Registry>,
    pub sites: Sites,
    pub peers: Peers,
    /// What registrars grant.
    policy: ArcSwap<Policy>,
    pub salt: Salt,
    pub auth: Auth,
    /// Of all replica listeners: a PBX may have several.
    pub publications: Publications,
    /// Of all registrars: a phone may come back on another listener.
    pub flows: Flows,
    /// Of all registrars.
    pub keepalive: Keepalives,
    /// Of all listeners, so that more addresses are no way around its limits.
    pub census: Census,
}

/// One named listener, shared by its sockets and connections.
pub(super) struct Front {
    pub name: String,
    pub clock: Clock,
    /// Highest sequence number that is committed.
    pub committed: watch::Receiver<u64>,
    pub limits: Limits,
    pub admission: Admission,
    listener: config::Listener,
    desk: Desk,
    core: Arc<Core>,
    counts: Counts,
}

/// Who sent a message, and where it arrived.
#[derive(Clone, Copy, Debug)]
pub(super) struct Peer {
    pub source: SocketAddr,
    pub transport: Transport,
    /// The connection, where there is one.
    pub flow: Option<FlowId>,
    /// The registrar's UDP socket it came to, where it is one.
    pub socket: Option<u16>,
}

/// What to do about a message. Over a stream the answer goes back on its connection, over UDP to `to`.
pub(super) enum Answer {
    Silence,
    Now {
        bytes: Vec<u8>,
        to: SocketAddr,
    },
    /// To be sent once `seq` is committed.
    Held(Held),
}

/// A reply that waits for its change to be committed.
pub(super) struct Held {
    pub seq: u64,
    pub bytes: Vec<u8>,
    pub to: SocketAddr,
    method: &'static str,
    outcome: &'static str,
}

/// What a mode decides about a request it does not refuse.
pub(super) struct Decision {
    pub status: u16,
    pub response: Response,
    /// The change that must be committed first.
    pub seq: Option<u64>,
}

/// A request in front of a mode's desk.
pub(super) struct Request<'r, 'a> {
    pub message: &'r Message<'a>,
    pub method: Method<'a>,
    pub reply: &'r Reply<'r, 'a>,
    pub peer: &'r Peer,
    pub pbx: PbxId,
    pub now: Now,
    /// Whether one more reply may be held back.
    pub has_room: bool,
}

enum Desk {
    Registrar(Registrar),
    Replica(Replica),
    Mirror(Mirror),
    Hep(Hep),
}

impl Core {
    pub(super) fn new(registry: &Arc<Registry>, sites: Sites, config: &config::Config, salt: Salt, seed: Seed) -> Self {
        let registrar = &config.registrar;
        Self {
            registry: registry.clone(),
            sites,
            peers: Peers::new(registry.clone()),
            policy: ArcSwap::from_pointee(policy(registrar)),
            salt,
            auth: Auth::new(registrar, seed),
            publications: Publications::new(),
            flows: Flows::new(u64::from(registrar.connection_grace_s) * 1000),
            keepalive: Keepalives::new(registrar, &config.limits),
            census: Census::new("sip_tcp", Bounds::of_sip(&config.limits)),
        }
    }

    /// The address-of-record that `user` at `host` (both canonical) is on `pbx`.
    ///
    /// # Errors
    /// 404 when the host belongs to nobody there (RFC 3261 §10.3 step 1).
    pub(super) fn resolve<'u>(&self, pbx: PbxId, user: &'u str, host: &str) -> Result<Target<'u>, Refusal> {
        self.registry.resolve(pbx, user, host).ok_or_else(|| Refusal::new(404, "Not Found", "unknown_domain"))
    }

    /// Lets `decide` judge the bindings of `target` and does what it says, as one step; `answer` is shown the bindings
    /// as they then are. Returns what it makes of them, and the change that must be committed before it is sent.
    ///
    /// # Errors
    /// What `decide` refuses; 503 when a limit of the registry is reached.
    pub(super) fn register<R>(
        &self,
        target: &Target<'_>,
        source: BindingSource,
        now: Now,
        decide: impl FnOnce(&[Binding]) -> registrar::Decision,
        answer: impl FnOnce(&[Binding]) -> R,
    ) -> Result<(R, Option<u64>), Refusal> {
        let registered = self.registry.register(target, source, now, |known| match decide(known) {
            registrar::Decision::Accept { bindings, dropped: surplus } => {
                if surplus > 0 {
                    dropped("contacts");
                }
                let answer = answer(&bindings);
                (Change::Set(bindings), Ok(answer))
            }
            registrar::Decision::Unchanged => (Change::Keep, Ok(answer(known))),
            registrar::Decision::Refuse(refusal) => (Change::Keep, Err(refusal)),
        });
        if let Some(limit) = registered.refused {
            return Err(unavailable("Too Many Devices", limit));
        }
        Ok((registered.value?, registered.seq.map(|seq| seq.0)))
    }

    /// What registrars grant where an account says nothing else.
    pub(super) fn policy(&self) -> Policy {
        **self.policy.load()
    }

    /// Grants by these from now on.
    pub(super) fn grant(&self, registrar: &config::Registrar) {
        self.policy.store(Arc::new(policy(registrar)));
    }

    /// What is believed of registrations a PBX has accepted.
    pub(super) fn passive_policy(&self, pbx: PbxId) -> Policy {
        let expires_max_s =
            self.registry.pbxs.get(pbx).map_or(PASSIVE_EXPIRES_MAX_S, |pbx| pbx.value.passive_expires_max_s);
        Policy { source: BindingSource::Passive, expires_max_s, contacts_max: PASSIVE_CONTACTS_MAX, ..self.policy() }
    }
}

impl Front {
    pub(super) fn new(
        listener: config::Listener,
        core: Arc<Core>,
        clock: Clock,
        committed: watch::Receiver<u64>,
        limits: Limits,
    ) -> Self {
        let desk = match listener.mode {
            config::Mode::Registrar => Desk::Registrar(Registrar::new(listener.auth)),
            config::Mode::Replica => Desk::Replica(Replica::new(&listener.name)),
            config::Mode::Mirror => Desk::Mirror(Mirror::new(&listener.name, FeedKind::Mirror)),
            config::Mode::Hep => Desk::Hep(Hep::new(&listener)),
        };
        let counts = Counts::new(&listener.name);
        let admission = Admission::new(&listener.networks);
        Self { name: listener.name.clone(), clock, committed, limits, admission, listener, desk, core, counts }
    }

    /// Whether a peer at `address` may send here; one that may not is counted.
    pub(super) fn admits(&self, address: IpAddr) -> bool {
        let admitted = self.admission.admits(address);
        if !admitted {
            dropped("network");
        }
        admitted
    }

    /// A place among the connections of all listeners for one from `address`; none, and counted, when there are too many.
    pub(super) fn seat(&self, address: IpAddr, gauge: &Gauge) -> Option<Seat> {
        self.core.census.seat(address, gauge)
    }

    /// Whether anything may be sent back at all.
    pub(super) fn is_mute(&self) -> bool {
        matches!(self.desk, Desk::Mirror(_) | Desk::Hep(_))
    }

    /// Pages that may connect by WebSocket.
    pub(super) fn origins(&self) -> &config::Origins {
        &self.listener.origins
    }

    /// A new connection from `source` to our `local`, and the letter box it has to look into, if it has one.
    pub(super) fn connected(
        &self,
        source: SocketAddr,
        local: Option<SocketAddr>,
        transport: Transport,
    ) -> (Peer, Option<Arc<Mail>>) {
        let local = local.filter(|_| matches!(self.desk, Desk::Registrar(_)));
        let mail = local.map(|local| Arc::new(Mail::new(local, source)));
        (Peer { source, transport, flow: Some(self.core.flows.open(mail.clone())), socket: None }, mail)
    }

    /// The connection of `peer` was closed, and not because we end.
    pub(super) fn disconnected(&self, peer: &Peer) {
        if let Some(flow) = peer.flow {
            self.core.flows.closed(flow, self.clock.now().tick);
        }
    }

    /// Whether messages come wrapped in HEP.
    pub(super) fn is_wrapped(&self) -> bool {
        matches!(self.desk, Desk::Hep(_))
    }

    /// Judges one message.
    pub(super) fn handle(&self, bytes: &[u8], peer: &Peer, now: Now, has_room: bool) -> Answer {
        if let Desk::Hep(hep) = &self.desk {
            let (method, outcome) = hep.handle(&self.core, bytes, peer, now);
            self.counts.add(method, outcome);
            if outcome == "malformed" {
                self.log_unreadable(peer, "hep");
            }
            return Answer::Silence;
        }
        let message = match scan(bytes) {
            Ok(message) => message,
            Err(error) => {
                self.unreadable(error, peer);
                return Answer::Silence;
            }
        };
        let method = message.method().or_else(|| message.cseq().ok().map(|cseq| cseq.method));
        let label = method.map_or("none", Method::known);
        let Some(pbx) = self.core.peers.pbx_of(peer.source.ip(), self.listener.pbx.as_deref()) else {
            dropped("no_pbx");
            self.counts.add(label, "ignored");
            return Answer::Silence;
        };
        if let Desk::Mirror(mirror) = &self.desk {
            let origin = Origin { original: Original::of(&message), transport: peer.transport };
            let outcome = mirror.handle(&self.core, pbx, &message, &origin, now);
            self.counts.add(label, outcome);
            return Answer::Silence;
        }
        match Reply::to(&message, peer.source, &self.core.salt) {
            Ok(reply) => {
                let method = message.method().unwrap_or(Method::Other(""));
                let request = Request { message: &message, method, reply: &reply, peer, pbx, now, has_room };
                self.answer(&request, label)
            }
            Err(reason) => {
                self.unanswerable(&message, peer, pbx, now, reason, label);
                Answer::Silence
            }
        }
    }

    /// The 400 for a message whose end can't be found on a stream; none when it can't or mustn't be answered.
    pub(super) fn malformed(&self, head: &[u8], peer: &Peer, error: HeaderError) -> Option<Vec<u8>> {
        let message = scan(head).ok().filter(|_| !self.is_mute())?;
        let reply = Reply::to(&message, peer.source, &self.core.salt).ok()?;
        let refusal = Refusal::from(error);
        self.refused(&refusal, message.method().map_or("none", Method::known));
        Some(reply.refuse(&refusal).finish())
    }

    /// How long a reply waits for its commit.
    pub(super) fn commit_wait_ms(&self) -> u64 {
        self.limits.load().commit_wait_ms.into()
    }

    /// Replies a UDP socket may hold back.
    pub(super) fn pending_max(&self) -> usize {
        usize::try_from(self.limits.load().pending_replies_max).unwrap_or(usize::MAX)
    }

    /// Whether the change a held reply tells of is stored, now that its number has been reached. Counts the reply if so.
    pub(super) fn is_released(&self, held: &Held) -> bool {
        let stored = self.core.registry.is_stored(Seq(held.seq));
        if stored {
            self.counts.add(held.method, held.outcome);
        }
        stored
    }

    /// The 503 in place of a reply whose change was not known to be stored in time (promise 4).
    pub(super) fn not_stored(&self, held: &Held) -> Vec<u8> {
        let refusal = unavailable("Not Known To Be Stored", "not_stored");
        self.refused(&refusal, held.method);
        Response::instead_of(&held.bytes, &refusal).finish()
    }

    fn answer(&self, request: &Request<'_, '_>, label: &'static str) -> Answer {
        let to = request.reply.destination();
        let decided = check(request.message).and_then(|()| match &self.desk {
            Desk::Registrar(registrar) => registrar.decide(&self.core, request),
            Desk::Replica(replica) => replica.decide(&self.core, request),
            Desk::Mirror(_) | Desk::Hep(_) => Err(Refusal::new(500, "Server Internal Error", "mirror")),
        });
        match decided {
            Ok(Decision { status, response, seq }) => {
                let (bytes, outcome) = (response.finish(), counts::status(status));
                if let Some(seq) = seq.filter(|seq| !self.core.registry.is_stored(Seq(*seq))) {
                    return Answer::Held(Held { seq, bytes, to, method: label, outcome });
                }
                self.counts.add(label, outcome);
                Answer::Now { bytes, to }
            }
            Err(refusal) => {
                self.refused(&refusal, label);
                Answer::Now { bytes: request.reply.refuse(&refusal).finish(), to }
            }
        }
    }

    fn refused(&self, refusal: &Refusal, label: &'static str) {
        self.counts.add(label, counts::status(refusal.status));
        if label == "REGISTER" && matches!(self.desk, Desk::Registrar(_)) {
            metrics::counter!("hookswitch_registrar_refusals_total", "reason" => refusal.label).increment(1);
        }
    }

    fn unreadable(&self, error: ScanError, peer: &Peer) {
        if error == ScanError::Keepalive {
            self.counts.add("none", "keepalive");
            return;
        }
        dropped(error.label());
        self.counts.add("none", "malformed");
        self.log_unreadable(peer, error.label());
    }

    /// What the message says is not shown: it may hold anything.
    fn log_unreadable(&self, peer: &Peer, why: &str) {
        tracing::info!(listener = %self.name, source = %peer.source, why, "a message that can't be read was dropped");
    }

    fn unanswerable(
        &self,
        message: &Message<'_>,
        peer: &Peer,
        pbx: PbxId,
        now: Now,
        reason: Unanswerable,
        label: &'static str,
    ) {
        match (&self.desk, reason) {
            (Desk::Registrar(_), Unanswerable::Response)
                if self.core.keepalive.answered(&self.core.registry, message, peer, now) =>
            {
                self.counts.add(label, "answer");
            }
            (Desk::Replica(_), Unanswerable::Ack) => {
                super::replica::observe(&self.core, message, pbx, now);
                self.counts.add(label, "observed");
            }
            (_, Unanswerable::NoWayBack(_)) => {
                dropped(reason.label());
                self.counts.add(label, "malformed");
                self.log_unreadable(peer, reason.label());
            }
            _ => self.counts.add(label, "ignored"),
        }
    }
}

fn policy(registrar: &config::Registrar) -> Policy {
    Policy {
        expires_min_s: registrar.expires_min_s,
        expires_default_s: registrar.expires_default_s,
        expires_max_s: registrar.expires_max_s,
        expires_deviation_percent: u8::try_from(registrar.expires_deviation_percent).unwrap_or(0),
        contacts_max: usize::try_from(registrar.contacts_max).unwrap_or(usize::MAX),
        overflow: Overflow::DropOldest,
        source: BindingSource::Registrar,
    }
}

/// 503 + Retry-After.
pub(super) fn unavailable(reason: &'static str, label: &'static str) -> Refusal {
    Refusal::new(503, reason, label).with("Retry-After", RETRY_AFTER_S)
}

pub(super) fn dropped(reason: &'static str) {
    metrics::counter!("hookswitch_dropped_total", "where" => "sip", "reason" => reason).increment(1);
}

const RETRY_AFTER_S: &str = "5";
/// A PBX may allow more contacts than we would.
const PASSIVE_CONTACTS_MAX: usize = 32;
/// For a PBX that was deleted a moment ago.
const PASSIVE_EXPIRES_MAX_S: u32 = 7200;
