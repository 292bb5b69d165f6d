//! What a notifier sends of itself.

use super::responses::{contact, retry_after_ms};
use super::subscription::{Dialog, Phase, Subscription};
use super::{Output, Package, RETRY_MS, Subscriber, Topic};
use crate::model::{Now, Tick};
use crate::sip::cseq::Method;
use crate::sip::message::Message;
use crate::sip::name::Name;
use crate::sip::syntax::{Params, unfold};

/// What `Subscription-State` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State<'a> {
    Active {
        expires_s: Option<u32>,
    },
    /// Somebody has yet to allow it; what comes is no state of anything.
    Pending {
        expires_s: Option<u32>,
    },
    Terminated {
        reason: &'a str,
        retry_after_ms: Option<u64>,
    },
}

impl Subscriber {
    /// The status and reason that a request is answered with.
    pub(super) fn on_request(&mut self, message: &Message<'_>, now: Now) -> (u16, &'static str) {
        match message.method() {
            Some(Method::Options) => (200, "OK"),
            Some(Method::Notify) => self.on_notify(message, now).unwrap_or_else(|refusal| refusal),
            _ => (405, "Method Not Allowed"),
        }
    }

    fn on_notify(&mut self, message: &Message<'_>, now: Now) -> Result<(u16, &'static str), (u16, &'static str)> {
        let bad = (400, "Bad Request");
        let topic = self.topic_of(message).ok_or(UNKNOWN)?;
        let number = message.cseq().map_err(|_| bad)?.number;
        let theirs = message.from().map_err(|_| bad)?.tag().map(str::to_owned).ok_or(bad)?;
        let subscription = self.subscriptions.get(&topic).ok_or(UNKNOWN)?;
        let is_ours = message.to().map_err(|_| bad)?.tag() == Some(subscription.tag.as_str());
        // A second dialog that a fork has made is not wanted (RFC 6665 §4.1.4), nor one that we have given up.
        let is_theirs = match &subscription.dialog {
            Some(dialog) => dialog.tag == theirs,
            None => subscription.request.is_some(),
        };
        if !is_ours || !is_theirs {
            return Err(UNKNOWN);
        }
        let event = message.header(Name::Event).and_then(|value| value.split(';').next()).unwrap_or_default();
        if !event.trim().eq_ignore_ascii_case(topic.package.event()) {
            return Err((489, "Bad Event"));
        }
        match subscription.notified {
            Some(last) if number == last => return Ok(OK),
            Some(last) if number < last => return Err((500, "Out Of Order")),
            _ => {}
        }
        if !has_body_of(topic.package, message) {
            return Err((415, "Unsupported Media Type"));
        }
        let (domain, refresh_s) = (self.phone.domain.clone(), self.settings.refresh_s);
        self.with(&topic, |subscription| {
            subscription.notified = Some(number);
            subscription.dialog.get_or_insert_with(|| Dialog {
                tag: theirs,
                target: contact(message).unwrap_or_else(|| topic.uri(&domain)),
                routes: message.values(Name::RecordRoute).map(|route| unfold(route).into_owned()).collect(),
            });
        });
        match state(message) {
            State::Active { expires_s } => {
                self.with(&topic, |subscription| activate(subscription, expires_s, refresh_s, now.tick));
                self.tell(&topic, message);
            }
            State::Pending { expires_s } => {
                self.with(&topic, |subscription| activate(subscription, expires_s, refresh_s, now.tick));
            }
            State::Terminated { reason, retry_after_ms } => {
                if !message.body().is_empty() {
                    self.tell(&topic, message);
                }
                self.on_terminated(&topic, reason, retry_after_ms, now);
            }
        }
        Ok(OK)
    }

    /// RFC 6665 §4.1.3: the reason says whether and when to ask again.
    fn on_terminated(&mut self, topic: &Topic, reason: &str, retry_after_ms: Option<u64>, now: Now) {
        let reason = reason.to_ascii_lowercase();
        match reason.as_str() {
            "deactivated" | "timeout" | "" => {
                self.end_request(topic);
                self.with(topic, |subscription| {
                    subscription.rest("ended by the PBX", retry_after_ms.unwrap_or(AGAIN_MS), now.tick);
                    // Nothing is wrong: it goes on in a moment.
                    (subscription.settled, subscription.why) = (false, None);
                });
            }
            "probation" | "giveup" => {
                self.fail(topic, &format!("ended: {reason}"), retry_after_ms.unwrap_or(RETRY_MS), now);
            }
            _ => {
                let reason: String = reason.chars().take(40).collect();
                self.fail(topic, &format!("ended: {reason}"), retry_after_ms.unwrap_or(NO_MS), now);
            }
        }
    }

    fn tell(&mut self, topic: &Topic, message: &Message<'_>) {
        self.outputs.push_back(Output::Told { topic: topic.clone(), body: message.body().to_vec() });
    }
}

fn activate(subscription: &mut Subscription, expires_s: Option<u32>, refresh_s: u32, now: Tick) {
    let began = subscription.phase != Phase::Active;
    subscription.phase = Phase::Active;
    (subscription.settled, subscription.why) = (true, None);
    let left_s = u32::try_from((subscription.expires_at - now) / 1000).unwrap_or(u32::MAX);
    let granted_s = match (expires_s, left_s) {
        (Some(expires_s), _) if expires_s > 0 => expires_s,
        // The NOTIFY came before the answer to the SUBSCRIBE, which says how long it lasts.
        (_, 0) => subscription.wished_s,
        (_, left_s) => left_s,
    };
    let wake_at = subscription.wake_at;
    subscription.granted(granted_s, refresh_s, now);
    if began {
        subscription.since = now;
    } else {
        // A NOTIFY in between does not put the refresh off.
        subscription.wake_at = subscription.wake_at.min(wake_at);
    }
}

fn state<'a>(message: &Message<'a>) -> State<'a> {
    let value = message.header(Name::SubscriptionState).unwrap_or("active");
    let (word, params) = value.split_at(value.find(';').unwrap_or(value.len()));
    let params = Params::parse(params).unwrap_or_default();
    let expires_s = params.value("expires").and_then(|value| value.parse().ok());
    match word.trim() {
        word if word.eq_ignore_ascii_case("terminated") => State::Terminated {
            reason: params.value("reason").unwrap_or_default(),
            retry_after_ms: params.value("retry-after").and_then(retry_after_ms),
        },
        word if word.eq_ignore_ascii_case("pending") => State::Pending { expires_s },
        _ => State::Active { expires_s },
    }
}

/// Whether the body is one we can read; none at all means that there is nothing to tell.
fn has_body_of(package: Package, message: &Message<'_>) -> bool {
    let kind = message.header(Name::ContentType).and_then(|value| value.split(';').next()).unwrap_or_default();
    message.body().is_empty() || kind.trim().eq_ignore_ascii_case(package.body_type())
}

const OK: (u16, &str) = (200, "OK");
const UNKNOWN: (u16, &str) = (481, "Subscription Does Not Exist");
/// The rest of a subscription that the notifier ended without anything being wrong.
const AGAIN_MS: u64 = 500;
/// The first rest after a clear no.
const NO_MS: u64 = 60_000;
