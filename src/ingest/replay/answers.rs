//! Answers to REGISTERs: what they list replaces what was known.

use super::engine::Engine;
use super::news::{News, Origin, Registration, RegistrationOutcome};
use super::office::EXPIRES_MAX_S;
use super::registrations::unasked;
use crate::ingest::capture::Heard;
use crate::model::{BindingSource, DeviceId, Now};
use crate::sip::registrar::{Decision, Overflow, Policy, Snapshot, bindings_from_response};
use crate::sip::{HeaderError, Message};

impl Engine {
    /// An answer to a REGISTER.
    pub(super) fn answered(
        &mut self,
        key: u64,
        message: &Message<'_>,
        status: u16,
        heard: &Heard<'_>,
        now: Now,
    ) -> Result<(), &'static str> {
        if status < 200 {
            return Ok(());
        }
        let (asked, is_first) = self.registrations.answer(key, status);
        let facts = asked.as_ref().map(|asked| &asked.facts);
        let (mut outcome, mut device, mut expires_s) = (RegistrationOutcome::Refused, None, None);
        if status < 300 {
            let snapshot = bindings_from_response(message, facts, &POLICY, now).map_err(HeaderError::label)?;
            let Some(snapshot) = snapshot else { return Err("register_malformed") };
            if let Some(source) = heard.source {
                self.sockets.accepts_registrations(source);
            }
            expires_s = snapshot.bindings().map(|binding| binding.expires_at - now.tick).max();
            let is_query = asked.as_ref().is_some_and(|asked| asked.is_query);
            (outcome, device) = self.bind(&snapshot, is_query, now);
        } else if matches!(status, 401 | 407) {
            outcome = RegistrationOutcome::Challenged;
        }
        if !is_first {
            return Ok(());
        }
        let mut registration = if let Some(asked) = &asked {
            asked.outcome(outcome, now.unix)
        } else {
            let to = message.to().map_err(HeaderError::label)?.uri.key();
            unasked(&to.user, &to.host, outcome, now.unix)
        };
        registration.status = Some(status);
        registration.device = device.or_else(|| self.office.by_user(&registration.user));
        registration.expires_s = expires_s.and_then(|ms| u32::try_from(ms.div_ceil(1000)).ok());
        self.registered(registration);
        Ok(())
    }

    /// What a 2xx lists replaces what was known.
    fn bind(&mut self, snapshot: &Snapshot, is_query: bool, now: Now) -> (RegistrationOutcome, Option<DeviceId>) {
        let lists_any = snapshot.bindings().next().is_some();
        let known = self.office.by_user(&snapshot.user);
        let device = match known {
            None if lists_any => self.office.appear(&snapshot.user, Origin::Registration, Some(now.unix)),
            known => known,
        };
        let Some(id) = device else {
            let outcome = if is_query { RegistrationOutcome::Queried } else { RegistrationOutcome::Unregistered };
            return (outcome, None);
        };
        let before = self.office.phone_mut(id).map(|phone| phone.bindings.as_slice()).unwrap_or_default();
        let was_bound = !before.is_empty();
        if let Decision::Accept { bindings, .. } = snapshot.over(before, &POLICY, now) {
            let news = self.office.bind(id, bindings, now, "unregistered");
            self.news.extend(news.into_iter().map(News::Transition));
        }
        let outcome = match (is_query, lists_any, was_bound) {
            (true, ..) => RegistrationOutcome::Queried,
            (_, false, _) => RegistrationOutcome::Unregistered,
            (_, true, false) => RegistrationOutcome::Registered,
            (_, true, true) => RegistrationOutcome::Refreshed,
        };
        (outcome, Some(id))
    }

    pub(super) fn registered(&mut self, registration: Registration) {
        *self.by_outcome.entry(registration.outcome).or_default() += 1;
        let device = registration.device.or_else(|| self.office.by_user(&registration.user));
        if let Some(phone) = device.and_then(|device| self.office.phone_mut(device)) {
            phone.registered(registration.outcome, &registration.host, registration.at);
        }
        self.news.push(News::Registration(registration));
    }
}

/// As for passive feeds of the daemon.
const POLICY: Policy = Policy {
    expires_min_s: 60,
    expires_default_s: 3_600,
    expires_max_s: EXPIRES_MAX_S,
    expires_deviation_percent: 0,
    contacts_max: 32,
    overflow: Overflow::DropOldest,
    source: BindingSource::Passive,
};
