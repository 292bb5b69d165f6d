//! HEP mode: a mirror whose copies come wrapped, with the addresses they went between. Nothing is ever answered.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::config;
use crate::ingest::site::Sites;
use crate::model::{FeedKind, Hop, Now, PbxId, Transport};
use crate::registry::Registry;
use crate::sip::hep::{self, Content, Packet};
use crate::sip::{Message, Method, Salt, ScanError, scan};

use super::auth::Seed;
use super::front::{Core, Peer};
use super::mirror::{Mirror, Origin};
use super::recent::Recent;
use super::siptrace::Original;

/// A HEP listener without its socket: what a recording holds, or a measurement sends, goes the way of what arrives.
pub struct Intake {
    hep: Hep,
    core: Core,
}

/// The mode's settings and memory, shared by the listener's sockets.
pub(super) struct Hep {
    key: Option<config::HepKey>,
    /// PBX names by capture id.
    capture_ids: BTreeMap<u32, String>,
    /// The PBX of what nothing else claims.
    pbx: Option<String>,
    mirror: Mirror,
    /// Sockets that accepted a registration, which are therefore the PBX's own. HEP does not say which way a message went,
    /// and addresses alone can't where a PBX and its phones share one.
    own: Mutex<Recent<(PbxId, SocketAddr), ()>>,
}

impl Intake {
    /// One with the settings of `listener`.
    #[must_use]
    pub fn new(listener: &config::Listener, registry: &Arc<Registry>, sites: Sites) -> Self {
        // Only answers are salted, and here are none.
        let core = Core::new(registry, sites, &config::Config::default(), Salt([0; 16]), Seed([0; 64]));
        Self { hep: Hep::new(listener), core }
    }

    /// Takes in one packet from `source`; the answer is the SIP method inside and what became of it.
    pub fn take(&self, packet: &[u8], source: SocketAddr, now: Now) -> (&'static str, &'static str) {
        self.hep.handle(&self.core, packet, &Peer { source, transport: Transport::Udp, flow: None, socket: None }, now)
    }
}

impl Hep {
    pub(super) fn new(listener: &config::Listener) -> Self {
        Self {
            key: listener.key.clone(),
            capture_ids: listener.capture_ids.clone(),
            pbx: listener.pbx.clone(),
            mirror: Mirror::new(&listener.name, FeedKind::Hep),
            own: Mutex::new(Recent::new(OWN_MAX, OWN_MS)),
        }
    }

    /// Takes in one datagram or frame; the answer is the method inside and what became of it, for the counters.
    pub(super) fn handle(&self, core: &Core, bytes: &[u8], peer: &Peer, now: Now) -> (&'static str, &'static str) {
        if !hep::is_hep(bytes) {
            return self.plain(core, bytes, peer, now);
        }
        let packet = match hep::decode(bytes) {
            Ok(packet) => packet,
            Err(error) => return refuse(error.label(), "malformed"),
        };
        if !self.opens(packet.key) {
            return refuse("key", "ignored");
        }
        let inflated;
        let payload = match packet.content {
            Content::Sip => packet.payload,
            Content::Compressed => match hep::inflate(packet.payload) {
                Ok(message) => {
                    inflated = message;
                    &inflated
                }
                Err(error) => return refuse(error.label(), "malformed"),
            },
            Content::Other(5 | 34) => return refuse("rtcp", "ignored"),
            Content::Other(100) => return refuse("log", "ignored"),
            Content::Other(_) => return refuse("content", "ignored"),
        };
        self.sip(core, payload, self.pbx_of(core, &packet, peer), now, |_| Origin {
            original: Original { source: packet.source, destination: packet.destination, hop: Hop::Unknown },
            transport: transport(packet.protocol, peer),
        })
    }

    /// SIP as it is, as Kamailio sends it to whoever asks for no HEP. It has no place for a key.
    fn plain(&self, core: &Core, bytes: &[u8], peer: &Peer, now: Now) -> (&'static str, &'static str) {
        if !self.opens(None) {
            return refuse("key", "ignored");
        }
        let pbx = core.peers.pbx_of(peer.source.ip(), self.pbx.as_deref());
        self.sip(core, bytes, pbx, now, |message| Origin { original: Original::of(message), transport: peer.transport })
    }

    fn sip(
        &self,
        core: &Core,
        bytes: &[u8],
        pbx: Option<PbxId>,
        now: Now,
        origin: impl FnOnce(&Message<'_>) -> Origin,
    ) -> (&'static str, &'static str) {
        let message = match scan(bytes) {
            Ok(message) => message,
            Err(ScanError::Keepalive) => return ("none", "keepalive"),
            Err(error) => return refuse(error.label(), "malformed"),
        };
        let method = message.method().or_else(|| message.cseq().ok().map(|cseq| cseq.method));
        let label = method.map_or("none", Method::known);
        let Some(pbx) = pbx else {
            dropped("no_pbx");
            return (label, "ignored");
        };
        let mut origin = origin(&message);
        if origin.original.hop == Hop::Unknown {
            origin.original.hop = self.hop(pbx, &origin.original, now);
        }
        let outcome = self.mirror.handle(core, pbx, &message, &origin, now);
        if let ("applied", Some(source)) = (outcome, origin.original.source) {
            self.learn(pbx, source, now);
        }
        (label, outcome)
    }

    /// The PBX its capture id is mapped to, else the one whose networks hold the agent, else the listener's.
    fn pbx_of(&self, core: &Core, packet: &Packet<'_>, peer: &Peer) -> Option<PbxId> {
        match packet.capture_id.and_then(|id| self.capture_ids.get(&id)) {
            // One that is mapped to a PBX that is not there belongs to nobody, rather than to another.
            Some(name) => core.peers.named(Some(name)),
            None => core.peers.pbx_of(peer.source.ip(), self.pbx.as_deref()),
        }
    }

    /// Which way a message went; unknown where neither or both of its ends are the PBX's, and the PBX's networks are asked.
    fn hop(&self, pbx: PbxId, original: &Original, now: Now) -> Hop {
        let mut own = self.own();
        let mut is_own = |end: Option<SocketAddr>| end.is_some_and(|end| own.peek(&(pbx, end), now.tick).is_some());
        match (is_own(original.source), is_own(original.destination)) {
            (true, false) => Hop::FromPbx,
            (false, true) => Hop::ToPbx,
            _ => Hop::Unknown,
        }
    }

    fn learn(&self, pbx: PbxId, socket: SocketAddr, now: Now) {
        let mut own = self.own();
        if own.peek(&(pbx, socket), now.tick).is_none() && !own.put((pbx, socket), (), now.tick) {
            dropped("sockets");
        }
    }

    fn own(&self) -> MutexGuard<'_, Recent<(PbxId, SocketAddr), ()>> {
        self.own.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn opens(&self, key: Option<&[u8]>) -> bool {
        self.key.as_ref().is_none_or(|wanted| key.is_some_and(|key| wanted.is(key)))
    }
}

/// What the message went over between phone and PBX.
fn transport(protocol: Option<u8>, peer: &Peer) -> Transport {
    match protocol {
        Some(17) => Transport::Udp,
        Some(6) => Transport::Tcp,
        // What FreeSWITCH writes for TLS.
        Some(22) => Transport::Tls,
        _ => peer.transport,
    }
}

fn refuse(reason: &'static str, outcome: &'static str) -> (&'static str, &'static str) {
    dropped(reason);
    ("none", outcome)
}

fn dropped(reason: &'static str) {
    metrics::counter!("hookswitch_dropped_total", "where" => "hep", "reason" => reason).increment(1);
}

/// Sockets of PBXs remembered; a PBX has a few.
const OWN_MAX: usize = 1024;
/// For so long; while phones refresh, they are learnt again at once.
const OWN_MS: u64 = 24 * 3_600_000;
