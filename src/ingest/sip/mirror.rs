//! Mirror mode: copies of what others say to each other. Nothing is ever answered: an answer would reach the phone.

use std::hash::BuildHasher as _;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use foldhash::quality::RandomState;

use crate::ingest::site::Observation;
use crate::model::{Binding, BindingSource, FeedKind, Now, PbxId, Transport};
use crate::sip::dialog::Tracker;
use crate::sip::registrar::{RegisterRequest, RequestFacts, bindings_from_response};
use crate::sip::{Message, Method};

use super::front::Core;
use super::heard::Heard;
use super::recent::{Put, Recent};
use super::siptrace::Original;

/// The mode's memory, shared by the listener's sockets.
pub(super) struct Mirror {
    feed: FeedKind,
    heard: Heard,
    memory: Mutex<Memory>,
    hasher: RandomState,
}

/// How a message went before it was copied.
pub(super) struct Origin {
    pub original: Original,
    /// Between phone and PBX, as far as that is known.
    pub transport: Transport,
}

struct Memory {
    /// Hashes of copies seen, since capturers send them twice.
    copies: Recent<u64, ()>,
    /// What REGISTERs said that their 2xx does not repeat. Authorization is none of it.
    registers: Recent<u64, Asked>,
}

#[derive(Clone)]
struct Asked {
    facts: RequestFacts,
    hops: usize,
}

impl Mirror {
    pub(super) fn new(listener: &str, feed: FeedKind) -> Self {
        let memory =
            Memory { copies: Recent::new(COPIES_MAX, COPY_MS), registers: Recent::new(REGISTERS_MAX, REGISTER_MS) };
        Self { feed, heard: Heard::new(listener, feed), memory: Mutex::new(memory), hasher: RandomState::default() }
    }

    /// Takes in one copy; the answer is what became of it, for the counters.
    pub(super) fn handle(
        &self,
        core: &Core,
        pbx: PbxId,
        message: &Message<'_>,
        origin: &Origin,
        now: Now,
    ) -> &'static str {
        self.heard.note(&core.registry, pbx, now);
        if self.is_duplicate(pbx, message, now) {
            return "duplicate";
        }
        let Ok(cseq) = message.cseq() else { return "malformed" };
        let Some(call_id) = message.call_id() else { return "malformed" };
        if cseq.method != Method::Register && !Tracker::concerns(cseq.method, message.status()) {
            return "ignored";
        }
        if message.from().is_err() || message.to().is_err() {
            return "malformed";
        }
        match (cseq.method, message.status()) {
            (Method::Register, None) => {
                let key = self.hasher.hash_one((pbx, call_id, cseq.number));
                self.remember(key, message, origin, now)
            }
            (Method::Register, Some(200..=299)) => {
                let key = self.hasher.hash_one((pbx, call_id, cseq.number));
                let asked = self.memory().registers.peek(&key, now.tick).cloned();
                registered(core, pbx, message, asked.as_ref().map(|asked| &asked.facts), now)
            }
            (Method::Register, _) => "ignored",
            _ => {
                core.sites.observe(Observation {
                    pbx,
                    feed: self.feed,
                    bytes: Bytes::copy_from_slice(message.raw()),
                    source: origin.original.source,
                    destination: origin.original.destination,
                    hop: origin.original.hop,
                    at: now,
                });
                "observed"
            }
        }
    }

    /// Of one PBX: what one PBX sends another, both may show, byte for byte the same.
    fn is_duplicate(&self, pbx: PbxId, message: &Message<'_>, now: Now) -> bool {
        let copy = self.hasher.hash_one((pbx, message.raw()));
        let put = self.memory().copies.put_new(copy, (), now.tick);
        if put == Put::Crowded {
            crowded("copies");
        }
        put == Put::Known
    }

    /// Keeps what the request alone says, until its answer comes (RFC 3261 §10.3: bind on the 2xx only).
    fn remember(&self, key: u64, message: &Message<'_>, origin: &Origin, now: Now) -> &'static str {
        let Ok(request) = RegisterRequest::parse(message, origin.original.source, origin.transport) else {
            return "malformed";
        };
        let asked = Asked { facts: RequestFacts::from(&request), hops: message.via_count() };
        let mut memory = self.memory();
        // Where one REGISTER is seen on several hops, the first one knows the phone's own address.
        let nearer = memory.registers.peek(&key, now.tick).is_none_or(|known| asked.hops < known.hops);
        if nearer && !memory.registers.put(key, asked, now.tick) {
            crowded("registers");
        }
        "observed"
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A 2xx to REGISTER lists every binding the address-of-record now has (RFC 3261 §10.3 step 8).
fn registered(core: &Core, pbx: PbxId, message: &Message<'_>, facts: Option<&RequestFacts>, now: Now) -> &'static str {
    let policy = core.passive_policy(pbx);
    let Ok(Some(snapshot)) = bindings_from_response(message, facts, &policy, now) else { return "malformed" };
    let Some(target) = core.registry.resolve(pbx, &snapshot.user, &snapshot.host) else { return "ignored" };
    let decide = |known: &[Binding]| snapshot.over(known, &policy, now);
    let applied = core.register(&target, BindingSource::Passive, now, decide, |_| ());
    match applied {
        Ok(_) => "applied",
        Err(refusal) => {
            crowded(refusal.label);
            "ignored"
        }
    }
}

fn crowded(reason: &'static str) {
    metrics::counter!("hookswitch_dropped_total", "where" => "sip_mirror", "reason" => reason).increment(1);
}

/// Exact duplicates are dropped for so long.
const COPY_MS: u64 = 500;
/// Of a listener that hears a quarter of a million a second.
const COPIES_MAX: usize = 131_072;
/// A REGISTER waits so long for its answer (RFC 3261 §17.1.2.2: 64 × T1).
const REGISTER_MS: u64 = 32_000;
const REGISTERS_MAX: usize = 131_072;
