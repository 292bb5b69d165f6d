//! A subscriber (RFC 6665): keeps many subscriptions at one notifier alive. Pure: bytes and time come in, bytes and what
//! was notified go out.
//!
//! Every subscription is refreshed before its time is over, made anew when the notifier has forgotten it, asked with a
//! password when one is wanted, and left alone for a while when it is refused. What a notifier sends is believed only
//! inside a dialog that we asked for, in the order of its `CSeq`.

mod notify;
mod responses;
mod subscription;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::net::SocketAddr;

use sha2::{Digest as _, Sha256};

pub use self::subscription::{Package, Topic};

use self::subscription::{Phase, Request, Subscription};
use super::client::{Ids, Phone, Subscribe};
use super::digest::{Challenge, Credentials, hex};
use super::message::Message;
use super::reply::{Reply, Salt};
use super::scan::scan;
use crate::model::{Now, Tick, Transport};

/// All subscriptions at one notifier.
pub struct Subscriber {
    phone: Phone,
    settings: Settings,
    names: Names,
    subscriptions: BTreeMap<Topic, Subscription>,
    by_call_id: HashMap<String, Topic>,
    due: BTreeSet<(Tick, Topic)>,
    /// Requests without a final answer.
    in_flight: usize,
    /// What the notifier asked for last, and how often its nonce was used.
    challenge: Option<(Challenge, u32)>,
    outputs: VecDeque<Output>,
}

/// How a subscriber goes about it.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Who we are, when the notifier wants a password.
    pub credentials: Option<Credentials>,
    /// Seconds to ask for.
    pub expires_s: u32,
    /// Seconds after which a subscription is refreshed even if it would last longer: each refresh brings the whole state.
    pub refresh_s: u32,
}

/// What a subscriber wants done or known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// To be sent to the notifier.
    Send(Vec<u8>),
    /// A notification; the body is empty when there is nothing to tell.
    Told {
        /// What it is about.
        topic: Topic,
        /// The body, of the package's type.
        body: Vec<u8>,
    },
    /// A subscription failed; it is tried again later.
    Lost {
        /// What it is about.
        topic: Topic,
        /// Why, for a person.
        why: String,
    },
    /// There is no use in going on.
    Failed(Failure),
}

/// Why there is no use in going on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The notifier does not let us in.
    Refused(String),
    /// The notifier does not answer.
    Silent(String),
}

/// Draws names nobody can guess: Call-IDs, tags, branches.
struct Names {
    seed: [u8; 16],
    drawn: u64,
}

impl Names {
    fn draw(&mut self) -> String {
        self.drawn += 1;
        let digest = Sha256::new().chain_update(self.seed).chain_update(self.drawn.to_be_bytes()).finalize();
        hex(digest.get(..12).unwrap_or_default())
    }
}

impl Subscriber {
    /// One without subscriptions. `phone` is how we show ourselves; `seed` is random.
    #[must_use]
    pub fn new(phone: Phone, settings: Settings, seed: [u8; 16]) -> Self {
        Self {
            phone,
            settings,
            names: Names { seed, drawn: 0 },
            subscriptions: BTreeMap::new(),
            by_call_id: HashMap::new(),
            due: BTreeSet::new(),
            in_flight: 0,
            challenge: None,
            outputs: VecDeque::new(),
        }
    }

    /// Subscribes to these topics and no others.
    pub fn watch(&mut self, topics: &BTreeSet<Topic>, now: Now) {
        let gone: Vec<Topic> = self.subscriptions.keys().filter(|topic| !topics.contains(topic)).cloned().collect();
        for topic in gone {
            if let Some(bytes) = self.goodbye(&topic) {
                self.outputs.push_back(Output::Send(bytes));
            }
            self.drop_subscription(&topic);
        }
        for topic in topics.iter().filter(|topic| !self.subscriptions.contains_key(topic)).cloned().collect::<Vec<_>>()
        {
            let subscription = Subscription::resting(self.names.draw(), self.names.draw(), now.tick);
            self.by_call_id.insert(subscription.call_id.clone(), topic.clone());
            self.due.insert((subscription.due(), topic.clone()));
            self.subscriptions.insert(topic, subscription);
        }
    }

    /// Takes a message of the notifier's in; `source` is where it came from.
    pub fn receive(&mut self, bytes: &[u8], source: SocketAddr, now: Now) {
        let Ok(message) = scan(bytes) else { return };
        if message.status().is_some() {
            self.on_response(&message, now);
            return;
        }
        let salt = Salt(self.names.seed);
        let Ok(reply) = Reply::to(&message, source, &salt) else { return };
        let (status, reason) = self.on_request(&message, now);
        let response = reply.status(status, reason);
        let response = if status == 405 { response.header("Allow", "NOTIFY, OPTIONS") } else { response };
        self.outputs.push_back(Output::Send(response.finish()));
    }

    /// Does what is due.
    pub fn poll(&mut self, now: Now) {
        while let Some((_, topic)) = self.due.first().filter(|(at, _)| *at <= now.tick).cloned() {
            self.on_due(&topic, now);
        }
    }

    /// When [`Subscriber::poll`] has something to do.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Tick> {
        self.due.first().map(|(at, _)| *at)
    }

    /// What is to be done or known next.
    pub fn next_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// Asks for everything again, soon: what was told may have been missed.
    pub fn refresh_all(&mut self, now: Now) {
        let topics: Vec<Topic> = self.subscriptions.keys().cloned().collect();
        for topic in topics {
            self.with(&topic, |subscription| {
                // One that failed has nothing to tell until its rest is over.
                subscription.settled &= subscription.why.is_some();
                if subscription.phase == Phase::Active {
                    subscription.wake_at = now.tick;
                }
            });
        }
    }

    /// Whether each topic has told its state or failed since it was first asked, or asked again.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.subscriptions.values().all(|subscription| subscription.settled)
    }

    /// Why nothing works, when every single subscription has failed.
    #[must_use]
    pub fn failed_wholly(&self) -> Option<&str> {
        let mut whys = self.subscriptions.values().map(|subscription| subscription.why.as_deref());
        let first = whys.next()??;
        whys.all(|why| why.is_some()).then_some(first)
    }

    /// What ends all subscriptions, to be sent without waiting for answers.
    pub fn farewell(&mut self) -> Vec<Vec<u8>> {
        let topics: Vec<Topic> = self.subscriptions.keys().cloned().collect();
        topics.iter().filter_map(|topic| self.goodbye(topic)).collect()
    }

    fn on_due(&mut self, topic: &Topic, now: Now) {
        let Some(subscription) = self.subscriptions.get(topic) else {
            self.due.retain(|(_, other)| other != topic);
            return;
        };
        if let Some(request) = &subscription.request {
            if request.until <= now.tick {
                let what = format!("no answer to SUBSCRIBE within {} s", REQUEST_MS / 1000);
                self.outputs.push_back(Output::Failed(Failure::Silent(what)));
                self.end_request(topic);
                self.with(topic, |subscription| subscription.wake_at = now.tick + SILENT_MS);
                return;
            }
            self.outputs.push_back(Output::Send(request.bytes.clone()));
            self.with(topic, |subscription| subscription.sent_again(now.tick));
            return;
        }
        if self.in_flight >= IN_FLIGHT_MAX {
            self.with(topic, |subscription| subscription.wake_at = now.tick + CROWDED_MS);
            return;
        }
        match subscription.phase {
            Phase::Resting => {
                self.start_over(topic);
                self.ask(topic, now);
            }
            Phase::Active => self.ask(topic, now),
            Phase::Accepted => self.fail(topic, "it was accepted, but no NOTIFY came", RETRY_MS, now),
        }
    }

    /// Sends a SUBSCRIBE for this topic, in its dialog when it has one.
    fn ask(&mut self, topic: &Topic, now: Now) {
        let expires_s = self.settings.expires_s;
        let wish = self.subscriptions.get(topic).map_or(expires_s, |it| it.expires_min_s.max(expires_s));
        let Some((bytes, branch)) = self.subscribe(topic, wish) else { return };
        let again = (self.phone.transport == Transport::Udp).then_some(now.tick + T1_MS);
        self.outputs.push_back(Output::Send(bytes.clone()));
        let request = Request { branch, bytes, again_at: again, interval_ms: T1_MS, until: now.tick + REQUEST_MS };
        let mut was_free = false;
        self.with(topic, |subscription| {
            was_free = subscription.request.replace(request).is_none();
            subscription.wished_s = wish;
        });
        self.in_flight += usize::from(was_free);
    }

    /// The bytes of the next SUBSCRIBE of a topic, and their branch.
    fn subscribe(&mut self, topic: &Topic, expires_s: u32) -> Option<(Vec<u8>, String)> {
        let branch = format!("z9hG4bK{}", self.names.draw());
        let cnonce = self.names.draw();
        let subscription = self.subscriptions.get_mut(topic)?;
        subscription.cseq += 1;
        let resource = topic.uri(&self.phone.domain);
        let (target, to, routes) = match &subscription.dialog {
            Some(dialog) => (dialog.target.as_str(), format!("<{resource}>;tag={}", dialog.tag), &*dialog.routes),
            None => (resource.as_str(), format!("<{resource}>"), &[][..]),
        };
        let proof = match (&mut self.challenge, &self.settings.credentials) {
            (Some((challenge, uses)), Some(credentials)) => {
                *uses += 1;
                Some(challenge.answer(credentials, "SUBSCRIBE", target, *uses, &cnonce))
            }
            _ => None,
        };
        let ids =
            Ids { call_id: &subscription.call_id, tag: &subscription.tag, branch: &branch, cseq: subscription.cseq };
        let about = Subscribe {
            target,
            to: &to,
            event: topic.package.event(),
            accept: topic.package.body_type(),
            expires_s,
            routes,
            proof: proof.as_ref().map(|(name, value)| (*name, value.as_str())),
        };
        Some((self.phone.subscribe(&ids, &about), branch))
    }

    /// The SUBSCRIBE that ends a topic's subscription; none when it has no dialog.
    fn goodbye(&mut self, topic: &Topic) -> Option<Vec<u8>> {
        self.subscriptions.get(topic)?.dialog.as_ref()?;
        self.subscribe(topic, 0).map(|(bytes, _)| bytes)
    }

    /// Forgets the dialog: what follows is a new subscription under new names.
    fn start_over(&mut self, topic: &Topic) {
        self.end_request(topic);
        let (call_id, tag) = (self.names.draw(), self.names.draw());
        let Some(subscription) = self.subscriptions.get_mut(topic) else { return };
        self.by_call_id.remove(&subscription.call_id);
        self.by_call_id.insert(call_id.clone(), topic.clone());
        self.with(topic, |subscription| subscription.renew(call_id, tag));
    }

    /// Something is wrong with one subscription: it rests, longer each time.
    fn fail(&mut self, topic: &Topic, why: &str, least_ms: u64, now: Now) {
        let why = why.to_owned();
        self.end_request(topic);
        self.with(topic, |subscription| subscription.rest(&why, least_ms, now.tick));
        self.outputs.push_back(Output::Lost { topic: topic.clone(), why });
    }

    fn end_request(&mut self, topic: &Topic) {
        let mut had_one = false;
        self.with(topic, |subscription| had_one = subscription.request.take().is_some());
        self.in_flight -= usize::from(had_one);
    }

    fn drop_subscription(&mut self, topic: &Topic) {
        self.end_request(topic);
        if let Some(subscription) = self.subscriptions.remove(topic) {
            self.due.remove(&(subscription.due(), topic.clone()));
            self.by_call_id.remove(&subscription.call_id);
        }
    }

    /// Changes a subscription and keeps its place in the order of deadlines.
    fn with(&mut self, topic: &Topic, change: impl FnOnce(&mut Subscription)) {
        let Some(subscription) = self.subscriptions.get_mut(topic) else { return };
        self.due.remove(&(subscription.due(), topic.clone()));
        change(subscription);
        self.due.insert((subscription.due(), topic.clone()));
    }

    /// The subscription that a message belongs to by its Call-ID.
    fn topic_of(&self, message: &Message<'_>) -> Option<Topic> {
        self.by_call_id.get(message.call_id()?).cloned()
    }
}

/// RFC 3261 §17.1.2: the first retransmission, and the longest wait between two.
const T1_MS: u64 = 500;
/// Timer F: 64·T1.
const REQUEST_MS: u64 = 32_000;
/// Requests that may wait for their answers at once, so that a PBX is not flooded.
const IN_FLIGHT_MAX: usize = 16;
const CROWDED_MS: u64 = 50;
const SILENT_MS: u64 = 60_000;
/// The first rest after something went wrong with one subscription.
const RETRY_MS: u64 = 5_000;

#[cfg(test)]
mod tests;
