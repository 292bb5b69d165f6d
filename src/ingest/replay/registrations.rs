//! REGISTERs and their answers. As everywhere, a binding comes of a 2xx alone; what the 2xx does not repeat is kept from
//! the request until then, Authorization never.

use std::collections::{HashMap, VecDeque};
use std::hash::BuildHasher as _;
use std::sync::Arc;

use super::news::{Registration, RegistrationOutcome};
use crate::ingest::capture::Heard;
use crate::model::{Now, Transport, UnixMillis};
use crate::sip::Message;
use crate::sip::registrar::{Contacts, RegisterRequest, RequestFacts};

/// Requests that wait for an answer, or had one a moment ago.
pub(super) struct Registrations {
    asked: HashMap<u64, Entry, foldhash::fast::RandomState>,
    /// In the order they were first seen.
    order: VecDeque<(Now, u64)>,
    hasher: foldhash::fast::RandomState,
}

/// What is known of a request.
enum Entry {
    /// No answer yet.
    Waiting(Arc<Asked>),
    /// It had a 2xx, which may be seen again on another hop.
    Accepted(Arc<Asked>),
    /// It was refused or challenged: what it said is of no use any more.
    Refused,
}

/// A REGISTER.
pub(super) struct Asked {
    at: Now,
    pub(super) facts: RequestFacts,
    hops: usize,
    user: Box<str>,
    host: Box<str>,
    source: Option<std::net::SocketAddr>,
    pub(super) is_query: bool,
}

impl Registrations {
    pub(super) fn new() -> Self {
        Self { asked: HashMap::default(), order: VecDeque::new(), hasher: foldhash::fast::RandomState::default() }
    }

    /// What a request and its answers have in common.
    pub(super) fn key(&self, call_id: &str, cseq: u32) -> u64 {
        self.hasher.hash_one((call_id, cseq))
    }

    /// Keeps what the request says. False when it can't be read.
    pub(super) fn ask(&mut self, key: u64, message: &Message<'_>, heard: &Heard<'_>, now: Now) -> bool {
        let Ok(request) = RegisterRequest::parse(message, heard.source, heard.transport) else { return false };
        let hops = message.via_count();
        // Where one REGISTER is seen on several hops, the first one knows the phone's own address.
        let known = match self.asked.get_mut(&key) {
            Some(Entry::Refused) => return true,
            Some(Entry::Waiting(known) | Entry::Accepted(known)) if known.hops <= hops => return true,
            Some(Entry::Waiting(known) | Entry::Accepted(known)) => Some(known),
            None => None,
        };
        let asked = Arc::new(Asked {
            at: known.as_ref().map_or(now, |known| known.at),
            facts: RequestFacts::from(&request),
            hops,
            user: (*request.user).into(),
            host: (*request.host).into(),
            source: heard.source,
            is_query: matches!(request.contacts, Contacts::Query),
        });
        if let Some(known) = known {
            *known = asked;
        } else {
            self.asked.insert(key, Entry::Waiting(asked));
            self.order.push_back((now, key));
        }
        true
    }

    /// The request of a final answer, as far as it is known, and whether the answer is its first: those that follow say
    /// nothing new.
    pub(super) fn answer(&mut self, key: u64, status: u16) -> (Option<Arc<Asked>>, bool) {
        let Some(entry) = self.asked.get_mut(&key) else { return (None, true) };
        match std::mem::replace(entry, Entry::Refused) {
            Entry::Waiting(asked) => {
                if status < 300 {
                    *entry = Entry::Accepted(asked.clone());
                }
                (Some(asked), true)
            }
            Entry::Accepted(asked) => {
                *entry = Entry::Accepted(asked.clone());
                (Some(asked), false)
            }
            Entry::Refused => (None, false),
        }
    }

    /// The next request whose time is over, or for which there is no room any more, and that had no answer.
    pub(super) fn given_up(&mut self, now: Now) -> Option<Registration> {
        loop {
            let is_full = self.order.len() > ASKED_MAX;
            let (_, key) = self.order.pop_front_if(|(at, _)| is_full || now.tick - at.tick >= ANSWER_MS)?;
            if let Some(Entry::Waiting(asked)) = self.asked.remove(&key) {
                return Some(asked.given_up(now));
            }
        }
    }
}

impl Asked {
    fn given_up(&self, now: Now) -> Registration {
        self.outcome(RegistrationOutcome::Unanswered, self.at.after(ANSWER_MS).unix.min(now.unix))
    }

    /// What became of it.
    pub(super) fn outcome(&self, outcome: RegistrationOutcome, at: UnixMillis) -> Registration {
        Registration {
            at,
            user: self.user.clone(),
            host: self.host.clone(),
            device: None,
            source: self.source,
            transport: self.facts.transport,
            outcome,
            status: None,
            expires_s: None,
            user_agent: self.facts.user_agent.clone(),
        }
    }
}

/// What became of a request that was not captured.
pub(super) fn unasked(user: &str, host: &str, outcome: RegistrationOutcome, at: UnixMillis) -> Registration {
    Registration {
        at,
        user: user.into(),
        host: host.into(),
        device: None,
        source: None,
        transport: Transport::Udp,
        outcome,
        status: None,
        expires_s: None,
        user_agent: None,
    }
}

/// A REGISTER waits so long for its answer (RFC 3261 §17.1.2.2: 64 × T1).
const ANSWER_MS: u64 = 32_000;
const ASKED_MAX: usize = 262_144;
