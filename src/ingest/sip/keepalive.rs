//! Asks phones that registered here whether they live (OPTIONS, RFC 3261 §11), and ends the bindings of those that don't
//! answer. Whose turn it is and what a miss is, [`sip::keepalive`](crate::sip::keepalive) decides.
//!
//! Only bindings that we granted ourselves are asked: of PBXs we watch what they say (promise 8). A phone on a connection is
//! asked over it, and only while it is open; others over the UDP socket their REGISTER came to, so that the way through
//! a NAT stays open.

use std::collections::HashSet;
use std::hash::BuildHasher as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use foldhash::quality::RandomState;
use smallvec::SmallVec;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::clock::{Clock, Stopwatch};
use crate::config;
use crate::model::{AccountId, Binding, BindingSource, DeviceId, Now, RegistrationSettings, Tick};
use crate::registry::Registry;
use crate::sip::client::{Ids, Options, Phone};
use crate::sip::keepalive::{Action, Answer, Bounds, Branch, Contact, Keepalive, Key, Look, Miss, Question};
use crate::sip::registrar::RegisterRequest;
use crate::sip::{Message, Method, Uri};

use super::flows::Flows;
use super::front::{Core, Peer};
use super::ways::{Doors, Way};

/// What asks.
pub(super) struct Keepalives {
    /// The UDP sockets it asks over.
    pub doors: Doors,
    defaults: Pulse,
    engine: Mutex<Keepalive<Sent>>,
    hasher: RandomState,
    /// Somebody's turn comes sooner than was thought.
    sooner: Notify,
}

/// How the phones of an account are asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Pulse {
    /// 0 = they are not.
    period_ms: u64,
    misses_max: u32,
    timeout_ms: u64,
}

/// A question as it was sent.
struct Sent {
    device: DeviceId,
    contact: Box<str>,
    /// Of the REGISTER that set the binding, Call-ID (hashed) and `CSeq`: a later one is another binding.
    registered: (u64, u32),
    way: Way,
    bytes: Arc<[u8]>,
    began: Stopwatch,
}

/// What becomes of a contact whose turn it is.
enum Turn {
    Ask(Question, Branch, Box<Sent>),
    /// No way to it is open: it went with its connection, or that was before our start.
    Later(Pulse),
    /// It is not bound any more, or not to be asked.
    Over,
}

impl Keepalives {
    pub(super) fn new(registrar: &config::Registrar, limits: &config::Limits) -> Self {
        let bounds = Bounds {
            per_second: limits.keepalives_per_second_max,
            under_way_max: usize::try_from(limits.keepalives_under_way_max).unwrap_or(usize::MAX),
        };
        let hasher = RandomState::default();
        Self {
            doors: Doors::default(),
            defaults: Pulse {
                period_ms: u64::from(registrar.keepalive_s) * 1000,
                misses_max: registrar.keepalive_misses,
                timeout_ms: u64::from(registrar.keepalive_timeout_s) * 1000,
            },
            engine: Mutex::new(Keepalive::new(bounds, hasher.hash_one("seed"))),
            hasher,
            sooner: Notify::new(),
        }
    }

    /// What an account with these settings wants.
    pub(super) fn pulse(&self, settings: Option<&RegistrationSettings>) -> Pulse {
        let period_s = settings.and_then(|settings| settings.keepalive_s);
        let misses_max = settings.and_then(|settings| settings.keepalive_misses);
        Pulse {
            period_ms: period_s.map_or(self.defaults.period_ms, |seconds| u64::from(seconds) * 1000),
            misses_max: misses_max.unwrap_or(self.defaults.misses_max),
            timeout_ms: self.defaults.timeout_ms,
        }
    }

    /// What `bindings` are to [`Keepalives::registered`] after `request`; nothing where phones are not asked.
    pub(super) fn contacts(
        &self,
        pulse: Pulse,
        bindings: &[Binding],
        request: &RegisterRequest<'_>,
    ) -> SmallVec<[Contact; 2]> {
        let is_fresh = |binding: &Binding| binding.cseq == request.cseq && *binding.call_id == *request.call_id;
        let contact = |(contact, binding)| Contact { contact, is_fresh: is_fresh(binding) };
        self.asked(pulse, bindings).map(contact).collect()
    }

    /// `device` has these contacts after a REGISTER from `peer`.
    pub(super) fn registered(&self, pulse: Pulse, device: DeviceId, contacts: &[Contact], peer: &Peer, now: Now) {
        if pulse.period_ms == 0 {
            return;
        }
        let mut engine = self.engine();
        let before = engine.next_wake(now.tick);
        engine.registered(device, contacts, pulse.period_ms, peer.socket, now.tick);
        let after = engine.next_wake(now.tick);
        drop(engine);
        if after.is_some_and(|after| before.is_none_or(|before| after < before)) {
            self.sooner.notify_one();
        }
    }

    /// A response came: whether a question waited for it.
    pub(super) fn answered(&self, registry: &Registry, response: &Message<'_>, peer: &Peer, now: Now) -> bool {
        let branch = response.top_via().ok().and_then(|via| Branch::parse(via.branch?));
        let is_of_options = response.cseq().is_ok_and(|cseq| cseq.method == Method::Options);
        let (Some(status), Some(branch), true) = (response.status(), branch, is_of_options) else { return false };
        let answer = self.engine().answered(branch, peer.source.ip(), status);
        match answer {
            Answer::Unknown => return false,
            Answer::Stranger => {
                dropped("stranger");
                return false;
            }
            Answer::Provisional => {}
            Answer::Missed(miss) => self.missed(registry, &miss, now),
            Answer::Alive(sent) => {
                let round_trip = sent.began.elapsed();
                count("answered");
                metrics::histogram!("hookswitch_keepalive_seconds").record(round_trip);
                let round_trip_us = u32::try_from(round_trip.as_micros()).unwrap_or(u32::MAX);
                registry.contact_asked(sent.device, &sent.contact, Some(round_trip_us), now);
            }
        }
        true
    }

    /// Does what is to be done, a slice at a time; when to come back.
    fn go_round(&self, core: &Core, clock: &Clock) -> Option<Tick> {
        for _ in 0..SLICE {
            let now = clock.now();
            let mut engine = self.engine();
            match engine.poll(now.tick) {
                None => return engine.next_wake(now.tick),
                Some(Action::Again(branch, sent)) => {
                    if !sent.way.send(&sent.bytes) {
                        engine.withdraw(branch);
                    }
                }
                // Without the lock: the registry takes others.
                Some(Action::Missed(miss)) => {
                    drop(engine);
                    self.missed(&core.registry, &miss, now);
                }
                Some(Action::Look(look)) => {
                    drop(engine);
                    self.look(core, look, now);
                }
            }
        }
        Some(clock.now().tick)
    }

    fn look(&self, core: &Core, look: Look, now: Now) {
        if let Some(limit) = look.late {
            metrics::counter!("hookswitch_keepalive_late_total", "limit" => limit.label()).increment(1);
        }
        let turn = self.turn(&core.registry, &core.flows, &look, now);
        let mut engine = self.engine();
        match turn {
            Turn::Over => engine.forget(look.key),
            Turn::Later(pulse) => {
                count("not_sent");
                engine.later(look.key, pulse.period_ms, now.tick);
            }
            Turn::Ask(question, branch, sent) => {
                let (way, bytes) = (sent.way.clone(), sent.bytes.clone());
                engine.ask(look.key, question, branch, *sent, now.tick);
                // Still locked, so that no answer is there before its question.
                if !way.send(&bytes) {
                    count("not_sent");
                    engine.withdraw(branch);
                }
            }
        }
    }

    fn turn(&self, registry: &Registry, flows: &Flows, look: &Look, now: Now) -> Turn {
        let Key { device, contact } = look.key;
        let account = registry.account_of_device(device).and_then(|account| registry.accounts.get(account));
        let pulse = self.pulse(account.as_ref().map(|account| &account.value.settings.registration));
        let bindings = registry.bindings(device);
        let found =
            self.asked(pulse, &bindings).find(|(hash, binding)| *hash == contact && binding.expires_at > now.tick);
        let Some((_, binding)) = found else { return Turn::Over };
        let flow = flows.mail(device, binding).map(Way::Flow);
        let ways = flow.map_or_else(|| self.doors.ways(binding, look.socket), |way| SmallVec::from_iter([way]));
        let count = u32::try_from(ways.len()).unwrap_or(u32::MAX);
        let at = look.turn.checked_rem(count).and_then(|at| usize::try_from(at).ok());
        let Some(way) = at.and_then(|at| ways.get(at)) else { return Turn::Later(pulse) };
        let Some((branch, bytes)) = written(binding, way) else { return Turn::Later(pulse) };
        let question = Question {
            period_ms: pulse.period_ms,
            timeout_ms: pulse.timeout_ms,
            misses_max: pulse.misses_max,
            ways: count,
            is_reliable: way.is_reliable(),
            is_proxied: binding.path.is_some(),
            peer: way.peer().ip(),
        };
        let registered = self.register_of(binding);
        let (contact, way) = (binding.contact.clone(), way.clone());
        Turn::Ask(
            question,
            branch,
            Box::new(Sent { device, contact, registered, way, bytes, began: Clock::stopwatch() }),
        )
    }

    fn missed(&self, registry: &Registry, miss: &Miss<Sent>, now: Now) {
        count("missed");
        let Sent { device, contact, registered, .. } = &miss.message;
        if miss.is_unreachable {
            registry.contact_asked(*device, contact, None, now);
        }
        if miss.is_over {
            let is_it = |binding: &Binding| binding.contact == *contact && self.register_of(binding) == *registered;
            registry.end_bindings(*device, is_it, "keepalive", now);
        }
    }

    /// Has the phones asked of accounts that want it since lately, or since before our start.
    async fn enlist(core: &Arc<Core>, known: &mut HashSet<AccountId>) {
        let mut wanted = HashSet::new();
        for account in core.registry.accounts.all() {
            if core.keepalive.pulse(Some(&account.value.settings.registration)).period_ms > 0 {
                wanted.insert(account.value.id);
            }
        }
        let fresh: HashSet<AccountId> = wanted.difference(known).copied().collect();
        *known = wanted;
        if fresh.is_empty() {
            return;
        }
        let core = core.clone();
        // A million devices take a while to look at.
        let listed = tokio::task::spawn_blocking(move || {
            for device in core.registry.registered_here(&fresh) {
                core.keepalive.list(&core.registry, device);
            }
        });
        if let Err(error) = listed.await {
            tracing::error!(%error, "phones that registered before are not asked until they register again");
        }
    }

    fn list(&self, registry: &Registry, device: DeviceId) {
        let account = registry.account_of_device(device).and_then(|account| registry.accounts.get(account));
        let pulse = self.pulse(account.as_ref().map(|account| &account.value.settings.registration));
        let bindings = registry.bindings(device);
        let now = registry.clock().now().tick;
        let mut engine = self.engine();
        for (contact, _) in self.asked(pulse, &bindings) {
            engine.add(Key { device, contact }, pulse.period_ms, None, now);
        }
    }

    /// Those of the bindings that are asked, each with what it is known by.
    fn asked<'b>(&self, pulse: Pulse, bindings: &'b [Binding]) -> impl Iterator<Item = (u64, &'b Binding)> {
        let ours = move |binding: &&Binding| pulse.period_ms > 0 && binding.source == BindingSource::Registrar;
        bindings.iter().filter(ours).map(|binding| (self.hasher.hash_one(&*binding.contact), binding))
    }

    fn register_of(&self, binding: &Binding) -> (u64, u32) {
        (self.hasher.hash_one(&*binding.call_id), binding.cseq)
    }

    fn engine(&self) -> MutexGuard<'_, Keepalive<Sent>> {
        self.engine.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Asks whose turn it is, until `stop`.
pub(super) async fn run(core: Arc<Core>, clock: Clock, stop: CancellationToken) {
    let contacts = metrics::gauge!("hookswitch_keepalive_contacts");
    let mut known = HashSet::new();
    let mut accounts_at = clock.now().tick;
    loop {
        if clock.now().tick >= accounts_at {
            Keepalives::enlist(&core, &mut known).await;
            accounts_at = clock.now().tick + ACCOUNTS_EVERY_MS;
            contacts.set(f64::from(u32::try_from(core.keepalive.engine().len()).unwrap_or(u32::MAX)));
        }
        let next = core.keepalive.go_round(&core, &clock);
        let wait = next.map_or(accounts_at, |next| next.min(accounts_at)) - clock.now().tick;
        tokio::select! {
            () = stop.cancelled() => return,
            () = core.keepalive.sooner.notified() => {}
            () = tokio::time::sleep(Duration::from_millis(wait)) => {}
        }
    }
}

/// The OPTIONS for the phone of `binding`, and the branch that its answer bears. None when its contact is no URI.
fn written(binding: &Binding, way: &Way) -> Option<(Branch, Arc<[u8]>)> {
    let uri = Uri::parse(&binding.contact).ok()?;
    // No Request-URI has headers (RFC 3261 §19.1.1).
    let target = uri.text.strip_suffix(uri.headers)?.trim_end_matches('?');
    let mut random = [0; 32];
    getrandom::fill(&mut random).ok()?;
    let branch = Branch(u128::from_be_bytes(*random.first_chunk()?));
    let call_id = format!("{:032x}", u128::from_be_bytes(*random.last_chunk()?));
    let local = way.local();
    let us = Phone {
        user: "hookswitch".into(),
        domain: local.to_string(),
        display: None,
        local,
        transport: binding.transport,
        user_agent: concat!("hookswitch/", env!("CARGO_PKG_VERSION")).into(),
    };
    let ids = Ids { call_id: &call_id, tag: call_id.get(..16)?, branch: &branch.to_string(), cseq: 1 };
    let bytes = us.options(&ids, &Options { target, route: binding.path.as_deref() });
    Some((branch, bytes.into()))
}

fn count(outcome: &'static str) {
    metrics::counter!("hookswitch_keepalive_questions_total", "outcome" => outcome).increment(1);
}

fn dropped(reason: &'static str) {
    metrics::counter!("hookswitch_dropped_total", "where" => "keepalive", "reason" => reason).increment(1);
}

/// How soon a changed setting of an account is noticed.
const ACCOUNTS_EVERY_MS: u64 = 2_000;
/// Done in one go before other tasks get their turn.
const SLICE: usize = 256;
