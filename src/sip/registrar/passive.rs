//! Bindings that another registrar granted, read off its answers.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use super::decide::{counts, shrink};
use super::{CONTACTS_MAX, ContactRequest, Contacts, Decision, Policy, RegisterRequest};
use crate::model::{Binding, BindingSource, ContactKey, Now, Transport, canonical_host, canonical_user};
use crate::sip::address::Contact;
use crate::sip::cseq::Method;
use crate::sip::fault::HeaderError;
use crate::sip::name::Name;
use crate::sip::scan::Message;
use crate::sip::syntax::unquote;
use crate::sip::uri::Uri;
use crate::sip::via::Via;

/// What the 2xx to a REGISTER does not repeat from its request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestFacts {
    /// The contacts it was about; empty when unknown.
    pub contacts: Vec<ContactKey>,
    /// User-Agent.
    pub user_agent: Option<Arc<str>>,
    /// Where the phone sent it from.
    pub received: Option<SocketAddr>,
    /// Over what.
    pub transport: Transport,
    /// Path.
    pub path: Option<Box<str>>,
}

/// All contacts of an address-of-record, as its registrar listed them in a 2xx (RFC 3261 §10.3 step 8).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// Canonical user part of the address-of-record.
    pub user: String,
    /// Canonical host of the address-of-record.
    pub host: String,
    call_id: Box<str>,
    cseq: u32,
    listed: Vec<Listed>,
}

impl From<&RegisterRequest<'_>> for RequestFacts {
    fn from(request: &RegisterRequest<'_>) -> Self {
        let contacts = match &request.contacts {
            Contacts::Listed(contacts) => contacts.iter().map(|contact| contact.uri.key()).collect(),
            Contacts::Query | Contacts::RemoveAll => Vec::new(),
        };
        Self {
            contacts,
            user_agent: request.user_agent.as_deref().map(Arc::from),
            received: request.source,
            transport: request.transport,
            path: request.path.as_deref().map(Into::into),
        }
    }
}

/// Reads the 2xx to a REGISTER; none when `response` is anything else. Times are cut to the policy's maximum, contacts
/// to its number.
///
/// # Errors
/// When To, Call-ID, `CSeq` or a Contact is malformed.
pub fn bindings_from_response(
    response: &Message<'_>,
    facts: Option<&RequestFacts>,
    policy: &Policy,
    now: Now,
) -> Result<Option<Snapshot>, HeaderError> {
    if !matches!(response.status(), Some(200..=299)) {
        return Ok(None);
    }
    let cseq = response.cseq()?;
    if cseq.method != Method::Register {
        return Ok(None);
    }
    let to = response.to()?.uri;
    let call_id = response.try_call_id()?;
    let header_s = response.header(Name::Expires).and_then(|text| text.parse().ok());
    let mut listed = Vec::new();
    for contact in response.contacts().take(CONTACTS_MAX) {
        let Contact::Address(address) = contact? else { continue };
        let contact = ContactRequest::read(&address)?;
        let left_s = contact.expires_s.or(header_s).unwrap_or(policy.expires_default_s).min(policy.expires_max_s);
        if left_s == 0 {
            continue;
        }
        let received = address.param("received").and_then(uri_address);
        let is_own = facts.is_some_and(|facts| facts.contacts.contains(&contact.uri.key()));
        let binding = Binding {
            contact: contact.uri.text.into(),
            expires_at: now.tick + u64::from(left_s) * 1_000,
            q: contact.q,
            transport: facts.map_or_else(|| uri_transport(&contact.uri), |facts| facts.transport),
            source: BindingSource::Passive,
            cseq: cseq.number,
            call_id: call_id.into(),
            received,
            user_agent: None,
            path: None,
            instance: contact.instance.map(Into::into),
            reg_id: contact.reg_id,
            refreshed_at: now.unix,
        };
        listed.push(Listed { binding, is_own });
    }
    // One contact asked for and one there: it is that one, even when the registrar wrote it anew for NAT.
    if let [only] = listed.as_mut_slice() {
        only.is_own |= facts.is_none_or(|facts| facts.contacts.len() <= 1);
    }
    for own in listed.iter_mut().filter(|listed| listed.is_own) {
        own.take(facts);
    }
    let surplus = listed.len().saturating_sub(policy.contacts_max);
    listed.sort_by_key(|listed| listed.is_own);
    listed.drain(..surplus);
    Ok(Some(Snapshot {
        user: canonical_user(to.user.unwrap_or_default()).into_owned(),
        host: canonical_host(to.host).into_owned(),
        call_id: call_id.into(),
        cseq: cseq.number,
        listed,
    }))
}

/// Where the phone is that a trusted PBX relayed this request for: what the PBX noted in the phone's own Via, the
/// bottom one, else its sent-by when that is an address. With one Via nobody relayed it, and it is `source`.
#[must_use]
pub fn origin(message: &Message<'_>, source: SocketAddr) -> Option<SocketAddr> {
    let mut vias = message.values(Name::Via);
    vias.next();
    let Some(bottom) = vias.last() else { return Some(source) };
    let via = Via::parse(bottom).ok()?;
    let ip = host_address(via.received.unwrap_or(via.host))?;
    Some(SocketAddr::new(ip, via.rport.flatten().or(via.port).unwrap_or(5060)))
}

impl Snapshot {
    /// The listed bindings, on their own.
    pub fn bindings(&self) -> impl Iterator<Item = &Binding> {
        self.listed.iter().map(|listed| &listed.binding)
    }

    /// What becomes of an address-of-record of which `known` is known: the listed contacts replace its passive ones,
    /// and what the answer did not say about contacts that other requests set is kept. An answer older than what is
    /// known of its Call-ID, or one that says nothing new, changes nothing.
    #[must_use]
    pub fn over(&self, known: &[Binding], policy: &Policy, now: Now) -> Decision {
        let is_newer = |binding: &Binding| binding.call_id == self.call_id && binding.cseq > self.cseq;
        if known.iter().any(is_newer) {
            return Decision::Unchanged;
        }
        let mut set: Vec<Binding> = Vec::with_capacity(self.listed.len());
        for listed in &self.listed {
            let before = known.iter().find(|binding| is_same_contact(binding, &listed.binding));
            set.push(listed.over(before));
        }
        let ours = |binding: &&Binding| {
            binding.source == BindingSource::Registrar
                && counts(binding, now)
                && !set.iter().any(|listed| is_same_contact(listed, binding))
        };
        let mut kept: Vec<Binding> = known.iter().filter(ours).cloned().collect();
        let is_known = |binding: &Binding| known.iter().any(|before| says_the_same(before, binding));
        if known.len() == kept.len() + set.len() && set.iter().all(is_known) {
            return Decision::Unchanged;
        }
        let dropped = shrink(&mut kept, &mut set, policy.contacts_max, now);
        kept.append(&mut set);
        Decision::Accept { bindings: kept, dropped }
    }
}

/// A listed contact, and whether the answered request was about it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Listed {
    binding: Binding,
    is_own: bool,
}

impl Listed {
    fn take(&mut self, facts: Option<&RequestFacts>) {
        let Some(facts) = facts else { return };
        self.binding.user_agent.clone_from(&facts.user_agent);
        self.binding.path.clone_from(&facts.path);
        self.binding.received = self.binding.received.or(facts.received);
    }

    /// This contact, with what was known before where the answer is silent.
    fn over(&self, before: Option<&Binding>) -> Binding {
        let mut binding = self.binding.clone();
        let Some(before) = before else { return binding };
        if !self.is_own {
            binding.call_id.clone_from(&before.call_id);
            binding.cseq = before.cseq;
            binding.transport = before.transport;
            binding.refreshed_at = before.refreshed_at;
        }
        binding.received = binding.received.or(before.received);
        binding.user_agent = binding.user_agent.or_else(|| before.user_agent.clone());
        binding.path = binding.path.or_else(|| before.path.clone());
        binding
    }
}

fn is_same_contact(a: &Binding, b: &Binding) -> bool {
    a.contact == b.contact
        || matches!((Uri::parse(&a.contact), Uri::parse(&b.contact)), (Ok(a), Ok(b)) if a.equivalent(&b))
}

/// Whether `after` is `before` but for the rounding of its seconds: two mirrors show every answer twice.
fn says_the_same(before: &Binding, after: &Binding) -> bool {
    let (early, late) = (before.expires_at.min(after.expires_at), before.expires_at.max(after.expires_at));
    let moved = Binding { expires_at: before.expires_at, refreshed_at: before.refreshed_at, ..after.clone() };
    late - early <= ROUNDING_MS && moved == *before
}

/// The address in a `received="sip:192.0.2.1:5060"` parameter.
fn uri_address(text: &str) -> Option<SocketAddr> {
    let text = unquote(text);
    let uri = Uri::parse(&text).ok()?;
    Some(SocketAddr::new(host_address(uri.host)?, uri.port.unwrap_or(5060)))
}

/// What a contact's `transport` parameter names; UDP is the default (RFC 3261 §19.1.1).
fn uri_transport(uri: &Uri<'_>) -> Transport {
    let name = uri.param("transport").unwrap_or_default();
    [("tcp", Transport::Tcp), ("tls", Transport::Tls), ("ws", Transport::Ws), ("wss", Transport::Wss)]
        .into_iter()
        .find(|(known, _)| name.eq_ignore_ascii_case(known))
        .map_or(Transport::Udp, |(_, transport)| transport)
}

fn host_address(host: &str) -> Option<IpAddr> {
    host.trim_start_matches('[').trim_end_matches(']').parse().ok()
}

const ROUNDING_MS: u64 = 2_000;
