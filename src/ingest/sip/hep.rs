//! HEP mode: a mirror whose copies come wrapped, with the addresses they went between. Nothing is ever answered.

use std::collections::BTreeMap;

use crate::config;
use crate::model::{FeedKind, Hop, Now, PbxId, Transport};
use crate::sip::hep::{self, Content, Packet};
use crate::sip::{Message, Method, ScanError, scan};

use super::front::{Core, Peer};
use super::mirror::{Mirror, Origin};
use super::siptrace::Original;

/// The mode's settings and memory, shared by the listener's sockets.
pub(super) struct Hep {
    key: Option<config::HepKey>,
    /// PBX names by capture id.
    capture_ids: BTreeMap<u32, String>,
    /// The PBX of what nothing else claims.
    pbx: Option<String>,
    mirror: Mirror,
}

impl Hep {
    pub(super) fn new(listener: &config::Listener) -> Self {
        Self {
            key: listener.key.clone(),
            capture_ids: listener.capture_ids.clone(),
            pbx: listener.pbx.clone(),
            mirror: Mirror::new(FeedKind::Hep),
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
        match packet.content {
            Content::Sip => {}
            Content::Compressed => return refuse("compressed", "ignored"),
            Content::Other(5 | 34) => return refuse("rtcp", "ignored"),
            Content::Other(100) => return refuse("log", "ignored"),
            Content::Other(_) => return refuse("content", "ignored"),
        }
        self.sip(core, packet.payload, self.pbx_of(core, &packet, peer), now, |_| Origin {
            // Addresses are the agent's word, and enough of a hint; who is whose is told by the PBX's networks.
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
        (label, self.mirror.handle(core, pbx, &message, &origin(&message), now))
    }

    /// The PBX its capture id is mapped to, else the one whose networks hold the agent, else the listener's.
    fn pbx_of(&self, core: &Core, packet: &Packet<'_>, peer: &Peer) -> Option<PbxId> {
        match packet.capture_id.and_then(|id| self.capture_ids.get(&id)) {
            // One that is mapped to a PBX that is not there belongs to nobody, rather than to another.
            Some(name) => core.peers.named(Some(name)),
            None => core.peers.pbx_of(peer.source.ip(), self.pbx.as_deref()),
        }
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
