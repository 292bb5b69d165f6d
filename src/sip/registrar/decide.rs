//! The decision about one REGISTER.

use std::sync::Arc;

use super::{ContactRequest, Contacts, Refusal, RegisterRequest};
use crate::model::{Binding, BindingSource, Now};
use crate::sip::uri::Uri;

/// How long contacts may live and how many there may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Shortest time granted, in seconds; less is refused with 423 (below one hour).
    pub expires_min_s: u32,
    /// Granted when nothing was asked for, in seconds.
    pub expires_default_s: u32,
    /// Longest time granted, in seconds.
    pub expires_max_s: u32,
    /// Most contacts of one address-of-record.
    pub contacts_max: usize,
    /// What to do when there would be more.
    pub overflow: Overflow,
    /// Who granted the bindings. [`BindingSource::Passive`] is for requests that a trusted PBX relays after it accepted
    /// them: nothing is refused for policy, what comes out of order changes nothing.
    pub source: BindingSource,
}

/// What to do with a contact too many.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Overflow {
    /// Drop the contact that was refreshed longest ago: rebooted phones can't lock themselves out.
    DropOldest,
    /// Refuse with 503: clients read a 403 as a bad password and loop.
    Refuse,
}

/// What becomes of an address-of-record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Its bindings are now these; answer 200 with the live ones once that is stored.
    Accept {
        /// All bindings, least recently set first.
        bindings: Vec<Binding>,
        /// How many live ones had to go because there were too many.
        dropped: usize,
    },
    /// Nothing changes (a query, a retransmission, a removal of what is not there): answer 200 from what there is.
    Unchanged,
    /// Nothing changes; answer this.
    Refuse(Refusal),
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            expires_min_s: 60,
            expires_default_s: 3_600,
            expires_max_s: 7_200,
            contacts_max: 10,
            overflow: Overflow::DropOldest,
            source: BindingSource::Registrar,
        }
    }
}

/// Decides about `request`, given all bindings of its address-of-record. All its contacts are taken or none
/// (RFC 3261 §10.3 step 7).
///
/// A binding past its time counts as gone, except a passive one, whose grace the caller keeps.
#[must_use]
pub fn decide(bindings: &[Binding], request: &RegisterRequest<'_>, policy: &Policy, now: Now) -> Decision {
    if policy.source == BindingSource::Registrar && !request.unsupported.is_empty() {
        let refusal = Refusal::new(420, "Bad Extension", "extension");
        return Decision::Refuse(refusal.with("Unsupported", request.unsupported.join(", ")));
    }
    match &request.contacts {
        Contacts::Query => Decision::Unchanged,
        Contacts::RemoveAll => remove_all(bindings, request, policy, now),
        Contacts::Listed(contacts) => update(bindings, contacts, request, policy, now),
    }
}

impl Policy {
    /// Seconds granted to a contact; 0 removes it.
    ///
    /// # Errors
    /// 423 when it asks for less than the minimum and less than an hour (RFC 3261 §10.3 step 7).
    fn grant(&self, asked_s: Option<u32>) -> Result<u32, Refusal> {
        let most_s = self.expires_max_s.max(1);
        match asked_s {
            None => Ok(self.expires_default_s.max(self.expires_min_s).clamp(1, most_s)),
            Some(asked) if self.is_too_brief(asked) => Err(Refusal::new(423, "Interval Too Brief", "too_brief")
                .with("Min-Expires", self.expires_min_s.to_string())),
            Some(asked) => Ok(asked.min(most_s)),
        }
    }

    fn is_too_brief(&self, asked_s: u32) -> bool {
        self.source == BindingSource::Registrar && asked_s != 0 && asked_s < self.expires_min_s && asked_s < 3_600
    }
}

/// Whether a binding still counts when a request comes at `now`.
pub(super) fn counts(binding: &Binding, now: Now) -> bool {
    binding.expires_at > now.tick || binding.source == BindingSource::Passive
}

/// Drops the bindings of `kept`, those past their time and then the least recently refreshed first, until they and
/// `set` are at most `most`; then of `set` the first. Returns how many of them were live.
pub(super) fn shrink(kept: &mut Vec<Binding>, set: &mut Vec<Binding>, most: usize, now: Now) -> usize {
    let mut dropped = 0;
    while kept.len() + set.len() > most && !kept.is_empty() {
        let age = |binding: &Binding| (binding.expires_at > now.tick, binding.refreshed_at);
        let oldest = kept.iter().enumerate().min_by_key(|(_, binding)| age(binding)).map_or(0, |(index, _)| index);
        dropped += usize::from(kept.remove(oldest).expires_at > now.tick);
    }
    let surplus = set.len().saturating_sub(most);
    set.drain(..surplus);
    dropped + surplus
}

fn remove_all(bindings: &[Binding], request: &RegisterRequest<'_>, policy: &Policy, now: Now) -> Decision {
    let mut counting = bindings.iter().filter(|binding| counts(binding, now)).peekable();
    if counting.peek().is_none() {
        return Decision::Unchanged;
    }
    if counting.any(|binding| *binding.call_id == *request.call_id && binding.cseq >= request.cseq) {
        return out_of_order(policy);
    }
    Decision::Accept { bindings: Vec::new(), dropped: 0 }
}

fn update(
    bindings: &[Binding],
    contacts: &[ContactRequest<'_>],
    request: &RegisterRequest<'_>,
    policy: &Policy,
    now: Now,
) -> Decision {
    let touched = |binding: &&Binding| contacts.iter().any(|contact| contact.is_about(binding));
    let same_call = bindings
        .iter()
        .filter(|binding| counts(binding, now) && *binding.call_id == *request.call_id)
        .filter(touched)
        .map(|binding| binding.cseq)
        .max();
    match same_call {
        Some(cseq) if cseq > request.cseq => return out_of_order(policy),
        // Contacts are set all or none, so one that bears this very Call-ID and CSeq means the request was applied.
        Some(cseq) if cseq == request.cseq => return Decision::Unchanged,
        _ => {}
    }
    let mut set: Vec<Binding> = Vec::with_capacity(contacts.len());
    for contact in contacts {
        let granted_s = match policy.grant(contact.expires_s.or(request.expires_s)) {
            Ok(granted_s) => granted_s,
            Err(refusal) => return Decision::Refuse(refusal),
        };
        set.retain(|earlier| !contact.is_about(earlier));
        if granted_s > 0 {
            let before = bindings.iter().find(|binding| contact.is_about(binding));
            set.push(contact.bind(request, before, granted_s, policy, now));
        }
    }
    let live = bindings.iter().filter(|binding| counts(binding, now));
    let (gone, kept): (Vec<&Binding>, Vec<&Binding>) = live.partition(touched);
    if gone.is_empty() && set.is_empty() {
        return Decision::Unchanged;
    }
    let (had, have) = (gone.len() + kept.len(), kept.len() + set.len());
    if have > policy.contacts_max && have > had && must_refuse(set.len(), policy) {
        return too_many(bindings, now);
    }
    let mut kept: Vec<Binding> = kept.into_iter().cloned().collect();
    let dropped = shrink(&mut kept, &mut set, policy.contacts_max, now);
    kept.append(&mut set);
    Decision::Accept { bindings: kept, dropped }
}

impl ContactRequest<'_> {
    /// Whether `binding` is this contact: the same instance and registration (RFC 5626 §6), or an equal URI
    /// (RFC 3261 §10.3 step 7, §19.1.4).
    fn is_about(&self, binding: &Binding) -> bool {
        let same_instance = match (self.instance, &binding.instance) {
            (Some(ours), Some(theirs)) => ours.eq_ignore_ascii_case(theirs) && self.reg_id == binding.reg_id,
            _ => false,
        };
        same_instance
            || *binding.contact == *self.uri.text
            || Uri::parse(&binding.contact).is_ok_and(|theirs| self.uri.equivalent(&theirs))
    }

    fn bind(
        &self,
        request: &RegisterRequest<'_>,
        before: Option<&Binding>,
        granted_s: u32,
        policy: &Policy,
        now: Now,
    ) -> Binding {
        let user_agent = request.user_agent.as_deref().map(|text| {
            let same = before.and_then(|binding| binding.user_agent.as_ref()).filter(|before| ***before == *text);
            same.map_or_else(|| Arc::from(text), Arc::clone)
        });
        Binding {
            contact: self.uri.text.into(),
            expires_at: now.tick + u64::from(granted_s) * 1_000,
            q: self.q,
            transport: request.transport,
            source: policy.source,
            cseq: request.cseq,
            call_id: request.call_id.into(),
            received: request.source,
            user_agent,
            path: request.path.as_deref().map(Into::into),
            instance: self.instance.map(Into::into),
            reg_id: self.reg_id,
            refreshed_at: now.unix,
        }
    }
}

fn must_refuse(asked: usize, policy: &Policy) -> bool {
    policy.source == BindingSource::Registrar && (policy.overflow == Overflow::Refuse || asked > policy.contacts_max)
}

fn out_of_order(policy: &Policy) -> Decision {
    match policy.source {
        BindingSource::Passive => Decision::Unchanged,
        BindingSource::Registrar => Decision::Refuse(Refusal::new(500, "CSeq Out of Order", "cseq_order")),
    }
}

/// 503 until the first of the bindings ends, but not for longer than a phone should stay away.
fn too_many(bindings: &[Binding], now: Now) -> Decision {
    let left_ms = bindings.iter().map(|binding| binding.expires_at - now.tick).filter(|left_ms| *left_ms > 0).min();
    let retry_after_s = left_ms.unwrap_or_default().div_ceil(1_000).clamp(1, RETRY_AFTER_MAX_S);
    let refusal = Refusal::new(503, "Too Many Contacts", "too_many_contacts");
    Decision::Refuse(refusal.with("Retry-After", retry_after_s.to_string()))
}

const RETRY_AFTER_MAX_S: u64 = 300;
