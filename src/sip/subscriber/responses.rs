//! What a notifier answers to SUBSCRIBE.

use super::subscription::{Dialog, Phase};
use super::{Failure, Output, RETRY_MS, Subscriber, T1_MS, Topic};
use crate::model::Now;
use crate::sip::address::Contact;
use crate::sip::digest::Challenge;
use crate::sip::message::Message;
use crate::sip::name::Name;
use crate::sip::syntax::unfold;

impl Subscriber {
    pub(super) fn on_response(&mut self, message: &Message<'_>, now: Now) {
        let Some(topic) = self.topic_of(message) else { return };
        let branch = message.top_via().ok().and_then(|via| via.branch);
        let request = self.subscriptions.get(&topic).and_then(|subscription| subscription.request.as_ref());
        if request.is_none_or(|request| branch != Some(request.branch.as_str())) {
            return;
        }
        match message.status().unwrap_or_default() {
            100..=199 => {}
            200..=299 => self.on_accepted(&topic, message, now),
            401 | 407 => self.on_challenge(&topic, message, now),
            423 => self.on_too_brief(&topic, message, now),
            481 if self.has_dialog(&topic) => self.on_forgotten(&topic, now),
            _ => self.on_refusal(&topic, message, now),
        }
    }

    fn on_accepted(&mut self, topic: &Topic, message: &Message<'_>, now: Now) {
        self.end_request(topic);
        let dialog = dialog(message, topic, &self.phone.domain);
        let refresh_s = self.settings.refresh_s;
        let granted = message.header(Name::Expires).and_then(|value| value.trim().parse::<u32>().ok());
        if granted == Some(0) {
            return self.fail(topic, "the PBX grants no time at all", REFUSED_MS, now);
        }
        self.with(topic, |subscription| {
            subscription.proofs = 0;
            match (&mut subscription.dialog, dialog) {
                (Some(known), Some(dialog)) if known.tag == dialog.tag => known.target = dialog.target,
                (none @ None, dialog) => *none = dialog,
                _ => {}
            }
            if subscription.phase == Phase::Resting {
                subscription.phase = Phase::Accepted;
                subscription.wake_at = now.tick + NOTIFY_MS;
            }
            subscription.granted(granted.unwrap_or(subscription.wished_s), refresh_s, now.tick);
        });
    }

    /// The notifier wants to know who we are. Credentials it refused once are not tried again: that may get us banned.
    fn on_challenge(&mut self, topic: &Topic, message: &Message<'_>, now: Now) {
        let proofs = self.subscriptions.get(topic).map_or(0, |subscription| subscription.proofs);
        let refused = |why: &str| Output::Failed(Failure::Refused(format!("{}: {why}", said(message))));
        let Some(credentials) = &self.settings.credentials else {
            self.outputs.push_back(refused("a password is wanted; set user and secret"));
            return;
        };
        let Some(challenge) = Challenge::strongest(message) else {
            self.outputs.push_back(refused("it wants to know who we are in a way we don't speak"));
            return;
        };
        if proofs >= PROOFS_MAX || (proofs > 0 && !challenge.stale) {
            let why = format!("the PBX does not take the user {:?} with this secret", credentials.user);
            self.outputs.push_back(refused(&why));
            return;
        }
        self.challenge = Some((challenge, 0));
        self.with(topic, |subscription| subscription.proofs += 1);
        self.ask(topic, now);
    }

    fn on_too_brief(&mut self, topic: &Topic, message: &Message<'_>, now: Now) {
        let least = message.header(Name::MinExpires).and_then(|value| value.trim().parse::<u32>().ok());
        let asked = self.subscriptions.get(topic).map_or(0, |subscription| subscription.wished_s);
        match least.filter(|least| (asked + 1..=EXPIRES_S_MAX).contains(least)) {
            Some(least) => {
                self.with(topic, |subscription| subscription.expires_min_s = least);
                self.ask(topic, now);
            }
            None => self.on_refusal(topic, message, now),
        }
    }

    /// It does not know the subscription any more. Most likely it was restarted, and has forgotten the others as well.
    fn on_forgotten(&mut self, topic: &Topic, now: Now) {
        self.start_over(topic);
        self.refresh_all(now);
        self.ask(topic, now);
    }

    fn on_refusal(&mut self, topic: &Topic, message: &Message<'_>, now: Now) {
        let status = message.status().unwrap_or_default();
        let later = message.header(Name::RetryAfter).and_then(retry_after_ms);
        let Some(subscription) = self.subscriptions.get(topic) else { return };
        // What it has granted it still owes us; only the refresh has to wait.
        let wait = later.unwrap_or(RETRY_MS).max(T1_MS);
        if status >= 500 && subscription.phase == Phase::Active && subscription.expires_at > now.tick + wait {
            self.end_request(topic);
            self.with(topic, |subscription| subscription.wake_at = now.tick + wait);
            return;
        }
        let least = later.unwrap_or(if matches!(status, 408 | 500..) { RETRY_MS } else { REFUSED_MS });
        self.fail(topic, &said(message), least, now);
    }

    fn has_dialog(&self, topic: &Topic) -> bool {
        self.subscriptions.get(topic).is_some_and(|subscription| subscription.dialog.is_some())
    }
}

/// The dialog that a 2xx makes (RFC 3261 §12.1.2); none without a tag.
fn dialog(message: &Message<'_>, topic: &Topic, domain: &str) -> Option<Dialog> {
    let tag = message.to().ok()?.tag()?.to_owned();
    let mut routes: Vec<String> = message.values(Name::RecordRoute).map(|route| unfold(route).into_owned()).collect();
    routes.reverse();
    Some(Dialog { tag, target: contact(message).unwrap_or_else(|| topic.uri(domain)), routes })
}

/// The URI of the Contact.
pub(super) fn contact(message: &Message<'_>) -> Option<String> {
    match message.contacts().next()? {
        Ok(Contact::Address(address)) => Some(address.uri.text.to_owned()),
        _ => None,
    }
}

/// `Retry-After` as milliseconds, within bounds.
pub(super) fn retry_after_ms(value: &str) -> Option<u64> {
    let digits = value.trim().bytes().take_while(u8::is_ascii_digit).count();
    let seconds: u64 = value.trim().get(..digits)?.parse().ok()?;
    Some(seconds.clamp(1, RETRY_AFTER_S_MAX) * 1000)
}

/// Status and reason, for a person.
fn said(message: &Message<'_>) -> String {
    let reason: String = message.reason_phrase().unwrap_or_default().chars().take(80).collect();
    format!("{} {reason}", message.status().unwrap_or_default())
}

/// How long a 2xx may go without its NOTIFY. RFC 6665 §4.1.2.4 allows 32 s (timer N), for the worst of networks.
const NOTIFY_MS: u64 = 10_000;
/// The first rest after a clear no.
const REFUSED_MS: u64 = 60_000;
const PROOFS_MAX: u8 = 2;
const EXPIRES_S_MAX: u32 = 86_400;
const RETRY_AFTER_S_MAX: u64 = 3_600;
