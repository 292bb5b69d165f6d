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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Tick, UnixMillis};
    use crate::sip::scan;

    const AT: Now = Now { tick: Tick(1_000_000), unix: UnixMillis(1_700_000_000_000) };

    fn policy() -> Policy {
        Policy { source: BindingSource::Passive, ..Policy::default() }
    }

    fn snapshot(cseq: u32, facts: Option<&RequestFacts>, headers: &str) -> Snapshot {
        let text = format!(
            "SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP 192.0.2.1\r\nFrom: <sip:101@pbx.example>;tag=1\r\n\
             To: <sip:101@PBX.example>;tag=2\r\nCall-ID: a\r\nCSeq: {cseq} REGISTER\r\n{headers}\r\n"
        );
        bindings_from_response(&scan(text.as_bytes()).unwrap(), facts, &policy(), AT).unwrap().unwrap()
    }

    fn facts(contact: &str) -> RequestFacts {
        RequestFacts {
            contacts: vec![Uri::parse(contact).unwrap().key()],
            user_agent: Some("phone/1".into()),
            received: Some("198.51.100.7:4000".parse().unwrap()),
            transport: Transport::Tcp,
            path: None,
        }
    }

    fn after(known: &[Binding], snapshot: &Snapshot) -> Vec<Binding> {
        match snapshot.over(known, &policy(), AT) {
            Decision::Accept { bindings, .. } => bindings,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_2xx_lists_all_contacts_and_the_request_tells_about_its_own() {
        let facts = facts("sip:101@10.0.0.1:5062");
        let listed = "Contact: <sip:101@10.0.0.2>;expires=50;received=\"sip:203.0.113.9:1024\", \
            <sip:101@10.0.0.1:5062>;expires=99999;+sip.instance=\"<urn:uuid:1>\", <sip:gone@h>;expires=0\r\n";
        let snapshot = snapshot(7, Some(&facts), listed);
        assert_eq!((snapshot.user.as_str(), snapshot.host.as_str()), ("101", "pbx.example"));
        let bindings = after(&[], &snapshot);
        let [other, own] = bindings.as_slice() else { panic!("{bindings:?}") };
        assert_eq!((&*other.contact, &other.user_agent), ("sip:101@10.0.0.2", &None));
        assert_eq!(other.received, Some("203.0.113.9:1024".parse().unwrap()));
        assert_eq!((own.expires_at, own.transport), (AT.tick + 7_200_000, Transport::Tcp));
        assert_eq!((own.user_agent.as_deref(), own.received), (Some("phone/1"), facts.received));
        assert_eq!((own.instance.as_deref(), own.source), (Some("urn:uuid:1"), BindingSource::Passive));
    }

    #[test]
    fn what_an_answer_does_not_say_about_other_contacts_is_kept() {
        let first = facts("sip:101@10.0.0.1");
        let known = after(&[], &snapshot(1, Some(&first), "Contact: <sip:101@10.0.0.1>;expires=60\r\n"));
        let known = vec![Binding { call_id: "other".into(), ..known[0].clone() }];
        let second = RequestFacts { user_agent: Some("phone/2".into()), ..facts("sip:101@10.0.0.2") };
        let both = "Contact: <sip:101@10.0.0.1>;expires=55\r\nContact: <sip:101@10.0.0.2>;expires=60\r\n";
        let bindings = after(&known, &snapshot(2, Some(&second), both));
        assert_eq!((bindings[0].user_agent.as_deref(), &*bindings[0].call_id), (Some("phone/1"), "other"));
        assert_eq!((bindings[1].user_agent.as_deref(), &*bindings[1].call_id), (Some("phone/2"), "a"));
        assert_eq!(after(&bindings, &snapshot(3, None, "")), [], "an empty list means that nothing is left");
    }

    #[test]
    fn an_answer_seen_twice_or_late_changes_nothing() {
        let facts = facts("sip:101@10.0.0.1");
        let answer = snapshot(7, Some(&facts), "Contact: <sip:101@10.0.0.1>;expires=60\r\n");
        let known = after(&[], &answer);
        assert_eq!(answer.over(&known, &policy(), AT.after(900)), Decision::Unchanged);
        assert_eq!(snapshot(6, Some(&facts), "").over(&known, &policy(), AT), Decision::Unchanged);
        let shorter = snapshot(7, Some(&facts), "Contact: <sip:101@10.0.0.1>;expires=30\r\n");
        assert_eq!(after(&known, &shorter)[0].expires_at, AT.tick + 30_000);
    }

    #[test]
    fn bindings_we_granted_ourselves_are_left_alone() {
        let answer = snapshot(7, None, "Contact: <sip:101@10.0.0.1>;expires=60\r\n");
        let passive = after(&[], &answer);
        let ours = Binding { contact: "sip:101@h".into(), source: BindingSource::Registrar, ..passive[0].clone() };
        assert_eq!(after(std::slice::from_ref(&ours), &answer), [ours.clone(), passive[0].clone()]);
    }

    #[test]
    fn only_a_2xx_to_a_register_says_anything() {
        let read = |text: &str| bindings_from_response(&scan(text.as_bytes()).unwrap(), None, &policy(), AT);
        assert_eq!(read("SIP/2.0 401 Unauthorized\r\nCSeq: 1 REGISTER\r\n\r\n"), Ok(None));
        assert_eq!(read("SIP/2.0 200 OK\r\nCSeq: 1 OPTIONS\r\n\r\n"), Ok(None));
        assert_eq!(read("SIP/2.0 200 OK\r\nCSeq: 1 REGISTER\r\n\r\n").unwrap_err().to_string(), "Missing To");
    }

    #[test]
    fn a_relayed_request_shows_where_the_phone_is() {
        let origin_of = |vias: &str| {
            let text = format!("REGISTER sip:h SIP/2.0\r\n{vias}\r\n");
            origin(&scan(text.as_bytes()).unwrap(), "192.0.2.1:5060".parse().unwrap()).map(|at| at.to_string())
        };
        assert_eq!(origin_of("Via: SIP/2.0/UDP 10.0.0.1\r\n").as_deref(), Some("192.0.2.1:5060"));
        let nat = "Via: SIP/2.0/UDP pbx\r\nVia: SIP/2.0/UDP 10.0.0.1;received=203.0.113.9;rport=1024\r\n";
        assert_eq!(origin_of(nat).as_deref(), Some("203.0.113.9:1024"));
        assert_eq!(origin_of("Via: SIP/2.0/UDP pbx, SIP/2.0/UDP [::1]:5062\r\n").as_deref(), Some("[::1]:5062"));
        assert_eq!(origin_of("Via: SIP/2.0/UDP pbx, SIP/2.0/UDP phone.example\r\n"), None);
    }
}
