//! Keepalive: OPTIONS to phones that are registered here (RFC 3261 §11), without sockets and clocks: whose turn it is, when
//! a question is asked again (§17.1.2), what counts as a miss, and when there were too many.
//!
//! Phones are spread over the period by a hash, and each comes a little early by chance, never late: who sets 25 s because a NAT
//! forgets after 30 s must be able to rely on it.

mod allowance;
mod branch;
mod question;

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher as _};
use std::net::IpAddr;

use smallvec::SmallVec;

use crate::model::{DeviceId, Tick};
use allowance::Allowance;

pub use branch::Branch;
pub use question::{Action, Answer, Bounds, Contact, Key, Limit, Look, Miss, Question};

/// Whose turn it is, and which questions wait for their answer. `M` is what the caller wants to know of a question again.
///
/// Bounded by the contacts of devices ([`Keepalive::registered`] replaces those of a device) and by [`Bounds`].
#[derive(Debug)]
pub struct Keepalive<M> {
    bounds: Bounds,
    /// What chance is drawn from.
    seed: u64,
    phones: BTreeMap<Key, Phone>,
    due: BTreeSet<(Tick, Key)>,
    asked: HashMap<Branch, Asked<M>>,
    /// When to ask again or to give up.
    timers: BTreeSet<(Tick, Branch)>,
    allowance: Allowance,
    /// What kept a phone waiting whose turn had come.
    held_by: Option<Limit>,
}

#[derive(Debug)]
struct Phone {
    /// None while it is being looked at.
    due: Option<Tick>,
    socket: Option<u16>,
    questions: u32,
    misses: u32,
    turn: u32,
    /// The question that waits for its answer; there is one at a time.
    asked: Option<Branch>,
    /// It registered while that was under way: a miss of it does not count.
    is_spared: bool,
}

#[derive(Debug)]
struct Asked<M> {
    key: Key,
    question: Question,
    message: M,
    deadline: Tick,
    interval_ms: u64,
    /// Its entry in the timers.
    timer: Tick,
}

impl<M> Keepalive<M> {
    /// Asks nobody yet. `seed` is best drawn at random.
    #[must_use]
    pub fn new(bounds: Bounds, seed: u64) -> Self {
        Self {
            bounds,
            seed,
            phones: BTreeMap::new(),
            due: BTreeSet::new(),
            asked: HashMap::new(),
            timers: BTreeSet::new(),
            allowance: Allowance::default(),
            held_by: None,
        }
    }

    /// How many contacts are asked.
    #[must_use]
    pub fn len(&self) -> usize {
        self.phones.len()
    }

    /// Whether nobody is asked.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.phones.is_empty()
    }

    /// These are the contacts `device` has after a REGISTER that came to `socket`. New ones are asked within `period_ms`, fresh
    /// ones begin with no misses.
    pub fn registered(
        &mut self,
        device: DeviceId,
        contacts: &[Contact],
        period_ms: u64,
        socket: Option<u16>,
        now: Tick,
    ) {
        let all = Key { device, contact: u64::MIN }..=Key { device, contact: u64::MAX };
        let known = self.phones.range(all).map(|(key, _)| *key);
        let gone: SmallVec<[Key; 2]> =
            known.filter(|key| contacts.iter().all(|contact| contact.contact != key.contact)).collect();
        gone.into_iter().for_each(|key| self.forget(key));
        for contact in contacts {
            let key = Key { device, contact: contact.contact };
            self.add(key, period_ms, socket, now);
            if let Some(phone) = self.phones.get_mut(&key).filter(|_| contact.is_fresh) {
                phone.refresh(socket);
            }
        }
    }

    /// One more contact, unless it is known.
    pub fn add(&mut self, key: Key, period_ms: u64, socket: Option<u16>, now: Tick) {
        if let Entry::Vacant(entry) = self.phones.entry(key) {
            let due = now + first_after(key, period_ms);
            entry.insert(Phone::due_at(due, socket));
            self.due.insert((due, key));
        }
    }

    /// What is to be done now; none when nothing is, until [`Keepalive::next_wake`].
    pub fn poll(&mut self, now: Tick) -> Option<Action<'_, M>> {
        while let Some((_, branch)) = self.timers.first().copied().filter(|(at, _)| *at <= now) {
            self.timers.pop_first();
            let Some(asked) = self.asked.get_mut(&branch) else { continue };
            if now < asked.deadline {
                asked.interval_ms = (asked.interval_ms * 2).min(T2_MS);
                asked.timer = (now + asked.interval_ms).min(asked.deadline);
                self.timers.insert((asked.timer, branch));
                self.allowance.overdraw();
                return self.asked.get(&branch).map(|asked| Action::Again(branch, &asked.message));
            }
            let missed = self.take(branch).and_then(|asked| self.missed(asked));
            if let Some(miss) = missed {
                return Some(Action::Missed(miss));
            }
        }
        self.look(now).map(Action::Look)
    }

    /// When [`Keepalive::poll`] is worth asking next; none while nobody is asked.
    #[must_use]
    pub fn next_wake(&self, now: Tick) -> Option<Tick> {
        let timer = self.timers.first().map(|(at, _)| *at);
        let due = self.due.first().map(|(at, _)| if self.held_by.is_some() { now + HELD_LOOK_MS } else { *at });
        timer.into_iter().chain(due).min()
    }

    /// A question goes out under `branch`, which nobody can guess.
    pub fn ask(&mut self, key: Key, question: Question, branch: Branch, message: M, now: Tick) {
        self.later(key, question.period_ms, now);
        let Some(phone) = self.phones.get_mut(&key) else { return };
        phone.asked = Some(branch);
        phone.is_spared = false;
        let deadline = now + question.timeout_ms;
        let timer = if question.is_reliable { deadline } else { (now + T1_MS).min(deadline) };
        let asked = Asked { key, question, message, deadline, interval_ms: T1_MS, timer };
        self.asked.insert(branch, asked);
        self.timers.insert((timer, branch));
    }

    /// It can't be asked now; perhaps the next time.
    pub fn later(&mut self, key: Key, period_ms: u64, now: Tick) {
        let next = self.next_after(key, period_ms);
        self.schedule(key, now + next);
    }

    /// It is not to be asked any more.
    pub fn forget(&mut self, key: Key) {
        let Some(phone) = self.phones.remove(&key) else { return };
        if let Some(due) = phone.due {
            self.due.remove(&(due, key));
        }
        if let Some(branch) = phone.asked {
            self.take(branch);
        }
    }

    /// The question could not be sent, and that is not the phone's fault: neither an answer nor a miss.
    pub fn withdraw(&mut self, branch: Branch) {
        self.take(branch);
    }

    /// A response with this branch and status came from `source`.
    pub fn answered(&mut self, branch: Branch, source: IpAddr, status: u16) -> Answer<M> {
        let Some(asked) = self.asked.get_mut(&branch) else { return Answer::Unknown };
        if asked.question.peer != source {
            return Answer::Stranger;
        }
        if status < 200 {
            // RFC 3261 §17.1.2.2: from here on it is asked again less often.
            asked.interval_ms = T2_MS;
            return Answer::Provisional;
        }
        let Some(asked) = self.take(branch) else { return Answer::Unknown };
        if asked.question.is_proxied && NOT_REACHED.contains(&status) {
            return self.missed(asked).map_or(Answer::Unknown, Answer::Missed);
        }
        if let Some(phone) = self.phones.get_mut(&asked.key) {
            phone.misses = 0;
        }
        Answer::Alive(asked.message)
    }

    /// Ends a question.
    fn take(&mut self, branch: Branch) -> Option<Asked<M>> {
        let asked = self.asked.remove(&branch)?;
        self.timers.remove(&(asked.timer, branch));
        if let Some(phone) = self.phones.get_mut(&asked.key) {
            phone.asked = None;
        }
        Some(asked)
    }

    /// None when the phone registered meanwhile.
    fn missed(&mut self, asked: Asked<M>) -> Option<Miss<M>> {
        let Asked { key, question, message, .. } = asked;
        let phone = self.phones.get_mut(&key)?;
        if phone.is_spared {
            return None;
        }
        phone.misses = phone.misses.saturating_add(1);
        phone.turn = phone.turn.wrapping_add(1);
        let is_unreachable = phone.misses >= question.ways;
        let is_over = question.misses_max > 0 && phone.misses >= question.misses_max.saturating_mul(question.ways);
        if is_over {
            self.forget(key);
        }
        Some(Miss { message, is_unreachable, is_over })
    }

    fn look(&mut self, now: Tick) -> Option<Look> {
        while let Some((at, key)) = self.due.first().copied().filter(|(at, _)| *at <= now) {
            if self.phones.get(&key).is_some_and(|phone| phone.asked.is_some()) {
                // Its period is shorter than what an answer may take.
                self.schedule(key, now + BUSY_LOOK_MS);
                continue;
            }
            let limit = if self.asked.len() >= self.bounds.under_way_max {
                Some(Limit::UnderWay)
            } else {
                (!self.allowance.take(now, self.bounds.per_second)).then_some(Limit::Rate)
            };
            if limit.is_some() {
                self.held_by = limit;
                return None;
            }
            let late = self.held_by.filter(|_| now - at > LATE_MS);
            self.due.pop_first();
            let phone = self.phones.get_mut(&key)?;
            phone.due = None;
            return Some(Look { key, socket: phone.socket, turn: phone.turn, late });
        }
        self.held_by = None;
        None
    }

    /// Makes it this contact's turn at `due`.
    fn schedule(&mut self, key: Key, due: Tick) {
        let Some(phone) = self.phones.get_mut(&key) else { return };
        if let Some(before) = phone.due.replace(due) {
            self.due.remove(&(before, key));
        }
        phone.questions = phone.questions.wrapping_add(1);
        self.due.insert((due, key));
    }

    /// A period, or up to a tenth less by chance.
    fn next_after(&self, key: Key, period_ms: u64) -> u64 {
        let questions = self.phones.get(&key).map_or(0, |phone| phone.questions);
        period_ms.saturating_sub(hash((self.seed, key, questions)) % (period_ms / 10 + 1)).max(1)
    }
}

impl Phone {
    fn due_at(due: Tick, socket: Option<u16>) -> Self {
        let due = Some(due);
        Self { due, socket, questions: 0, misses: 0, turn: 0, asked: None, is_spared: false }
    }

    fn refresh(&mut self, socket: Option<u16>) {
        self.misses = 0;
        self.is_spared = self.asked.is_some();
        if socket.is_some() && socket != self.socket {
            self.socket = socket;
            self.turn = 0;
        }
    }
}

/// When a contact is asked for the first time: where its hash puts it in the period, after the answer to its REGISTER.
fn first_after(key: Key, period_ms: u64) -> u64 {
    let least_ms = period_ms / 8;
    (least_ms + hash(key) % (period_ms - least_ms).max(1)).max(1)
}

fn hash(of: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    of.hash(&mut hasher);
    hasher.finish()
}

/// RFC 3261 §17.1.2.1: when a question is first asked again over UDP; each wait is twice as long as the last.
const T1_MS: u64 = 500;
/// The longest such wait.
const T2_MS: u64 = 4_000;
/// What a proxy says that could not reach the phone: no answer, a closed flow (RFC 5626 §11.5), no way (RFC 3261 §16.9), no
/// answer from beyond it.
const NOT_REACHED: [u16; 4] = [408, 430, 503, 504];
/// How often to look whether a limit still keeps phones waiting.
const HELD_LOOK_MS: u64 = 10;
const LATE_MS: u64 = 1_000;
/// How often to look whether an answer is still waited for.
const BUSY_LOOK_MS: u64 = 250;

#[cfg(test)]
mod tests;
