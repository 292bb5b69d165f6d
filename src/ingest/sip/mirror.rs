//! Mirror mode: copies of what others say to each other. Nothing is ever answered: an answer would reach the phone.

use std::hash::{BuildHasher as _, RandomState};
use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use crate::ingest::site::Observation;
use crate::model::{Binding, BindingSource, FeedKind, Now, PbxId, Transport};
use crate::sip::{Contact, Message, Method, Name};

use super::front::{Core, Peer};
use super::passive;
use super::recent::Recent;
use super::siptrace::Original;

/// The mode's memory, shared by the listener's sockets.
pub(super) struct Mirror {
    memory: Mutex<Memory>,
    hasher: RandomState,
}

struct Memory {
    /// Hashes of copies seen, since capturers send them twice.
    copies: Recent<u64, ()>,
    /// What REGISTERs said that their 2xx does not.
    registers: Recent<u64, Asked>,
}

/// What only the request of a registration says. Authorization is none of it.
#[derive(Clone, Debug)]
struct Asked {
    source: Option<SocketAddr>,
    user_agent: Option<String>,
    path: Option<String>,
    hops: usize,
}

impl Mirror {
    pub(super) fn new() -> Self {
        let memory =
            Memory { copies: Recent::new(COPIES_MAX, COPY_MS), registers: Recent::new(REGISTERS_MAX, REGISTER_MS) };
        Self { memory: Mutex::new(memory), hasher: RandomState::new() }
    }

    /// Takes in one copy; the answer is what became of it, for the counters.
    pub(super) fn handle(&self, core: &Core, pbx: PbxId, message: &Message<'_>, peer: &Peer, now: Now) -> &'static str {
        let copy = self.hasher.hash_one(message.raw());
        {
            let mut memory = self.memory();
            if memory.copies.peek(&copy, now.tick).is_some() {
                return "duplicate";
            }
            if !memory.copies.put(copy, (), now.tick) {
                crowded("copies");
            }
        }
        let original = Original::of(message);
        let Ok(cseq) = message.cseq() else { return "malformed" };
        if message.try_call_id().is_err() {
            return "malformed";
        }
        match (cseq.method, message.status()) {
            (Method::Register, None) => self.remember(message, &original, now),
            (Method::Register, Some(200..=299)) => return self.registered(core, pbx, message, &original, peer, now),
            (Method::Register, Some(_)) | (Method::Options | Method::Publish | Method::Subscribe, _) => "ignored",
            _ => {
                core.sites.observe(Observation {
                    pbx,
                    feed: FeedKind::Mirror,
                    bytes: Bytes::copy_from_slice(message.raw()),
                    source: original.source,
                    destination: original.destination,
                    hop: original.hop,
                    at: now,
                });
                "observed"
            }
        }
    }

    fn remember(&self, message: &Message<'_>, original: &Original, now: Now) -> &'static str {
        let Some(key) = self.transaction(message) else { return "malformed" };
        let asked = Asked {
            source: original.source,
            user_agent: message.header(Name::UserAgent).map(str::to_owned),
            path: passive::path(message),
            hops: message.via_count(),
        };
        let mut memory = self.memory();
        // Where one REGISTER is seen on several hops, the first one knows the phone's own address.
        let nearer = memory.registers.peek(&key, now.tick).is_none_or(|known| asked.hops < known.hops);
        if nearer && !memory.registers.put(key, asked, now.tick) {
            crowded("registers");
        }
        "observed"
    }

    /// A 2xx to REGISTER lists every binding the address-of-record now has (RFC 3261 §10.3 step 8).
    fn registered(
        &self,
        core: &Core,
        pbx: PbxId,
        message: &Message<'_>,
        original: &Original,
        peer: &Peer,
        now: Now,
    ) -> &'static str {
        let Some(target) = message.to().ok().and_then(|to| core.registry.resolve(pbx, &to.uri)) else {
            return "ignored";
        };
        let asked = self.transaction(message).and_then(|key| self.memory().registers.peek(&key, now.tick).cloned());
        let asked = asked.unwrap_or(Asked {
            source: original.destination,
            user_agent: None,
            path: passive::path(message),
            hops: 0,
        });
        let Some(bindings) = bindings(message, &asked, peer.transport, now) else { return "malformed" };
        core.registry.apply_bindings(&target, bindings, now);
        "applied"
    }

    /// Call-ID and `CSeq` number name a REGISTER and its answer on every hop.
    fn transaction(&self, message: &Message<'_>) -> Option<u64> {
        Some(self.hasher.hash_one((message.call_id()?, message.cseq().ok()?.number)))
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The bindings a 2xx lists; none when it is malformed.
fn bindings(message: &Message<'_>, asked: &Asked, transport: Transport, now: Now) -> Option<Vec<Binding>> {
    let cseq = message.cseq().ok()?;
    let call_id = message.try_call_id().ok()?;
    let expires = message.header(Name::Expires).and_then(|value| value.trim().parse::<u32>().ok());
    let mut bindings = Vec::new();
    for contact in message.contacts() {
        let Contact::Address(address) = contact.ok()? else { return None };
        if bindings.len() == CONTACTS_MAX {
            crowded("contacts");
            break;
        }
        let seconds = match address.param("expires") {
            Some(text) => text.parse::<u32>().ok()?,
            None => expires.unwrap_or(EXPIRES_DEFAULT_S),
        };
        bindings.push(Binding {
            contact: address.uri.text.into(),
            expires_at: now.tick + u64::from(seconds) * 1000,
            q: 1000,
            transport: address.uri.param("transport").and_then(passive::transport).unwrap_or(transport),
            source: BindingSource::Passive,
            cseq: cseq.number,
            call_id: call_id.into(),
            received: address.param("received").and_then(passive::received).or(asked.source),
            user_agent: asked.user_agent.as_deref().map(Into::into),
            path: asked.path.as_deref().map(Into::into),
            instance: address.param("+sip.instance").map(|text| passive::instance(text).into()),
            reg_id: address.param("reg-id").and_then(|text| text.parse().ok()),
            refreshed_at: now.unix,
        });
    }
    Some(bindings)
}

fn crowded(reason: &'static str) {
    metrics::counter!("hookswitch_dropped_total", "where" => "sip_mirror", "reason" => reason).increment(1);
}

/// Exact duplicates are dropped for so long.
const COPY_MS: u64 = 500;
const COPIES_MAX: usize = 65_536;
/// A REGISTER waits so long for its answer (RFC 3261 §17.1.2.2: 32 s).
const REGISTER_MS: u64 = 32_000;
const REGISTERS_MAX: usize = 16_384;
const CONTACTS_MAX: usize = 100;
/// When a 2xx names no time (RFC 3261 §10.2.1.1).
const EXPIRES_DEFAULT_S: u32 = 3600;
