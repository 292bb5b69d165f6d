//! The decision about one REGISTER.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;

use super::{ContactRequest, Contacts, Refusal, RegisterRequest};
use crate::model::{Binding, BindingSource, Now, Overflow};
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
    /// How much shorter, in percent, a granted time may be so that phones don't all come back at once; 0–100. Never
    /// under the minimum.
    pub expires_deviation_percent: u8,
    /// Most contacts of one address-of-record; at least 1.
    pub contacts_max: usize,
    /// What to do when there would be more.
    pub overflow: Overflow,
    /// Who granted the bindings. [`BindingSource::Passive`] is for requests that a trusted PBX relays after it accepted
    /// them: nothing is refused for policy, what comes out of order changes nothing.
    pub source: BindingSource,
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
            expires_deviation_percent: 0,
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
        return Decision::Refuse(bad_extension(&request.unsupported));
    }
    match &request.contacts {
        Contacts::Query => Decision::Unchanged,
        Contacts::RemoveAll => remove_all(bindings, request, policy, now),
        Contacts::Listed(contacts) => update(bindings, contacts, request, policy, now),
    }
}

/// 420 that names what is not supported (RFC 3261 §8.2.2.3).
#[must_use]
pub fn bad_extension(unsupported: &[&str]) -> Refusal {
    Refusal::new(420, "Bad Extension", "extension").with("Unsupported", unsupported.join(", "))
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

    /// The granted time made shorter by chance, as far as the policy lets it. The chance is a hash of what was asked and
    /// when, so that a decision stays a function of its inputs.
    fn deviate(&self, granted_s: u32, request: &RegisterRequest<'_>, now: Now) -> u32 {
        let least_s = self.expires_min_s.clamp(1, granted_s.max(1));
        let most_less = u64::from(granted_s) * u64::from(self.expires_deviation_percent.min(100)) / 100;
        if most_less == 0 || self.source == BindingSource::Passive {
            return granted_s;
        }
        let mut hash = DefaultHasher::new();
        (&request.user, &request.host, request.call_id, request.cseq, now.unix.0).hash(&mut hash);
        let less = u32::try_from(hash.finish() % (most_less + 1)).unwrap_or_default();
        granted_s.saturating_sub(less).max(least_s)
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
        let granted_s = policy.deviate(granted_s, request, now);
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

#[cfg(test)]
mod tests {
    use super::super::answer;
    use super::*;
    use crate::model::{Tick, Transport, UnixMillis};
    use crate::sip::{Reply, Salt, scan};

    const AT: Now = Now { tick: Tick(1_000_000), unix: UnixMillis(1_700_000_000_000) };

    /// An address-of-record with a policy and a clock that a test moves.
    struct Record {
        bindings: Vec<Binding>,
        policy: Policy,
        now: Now,
    }

    impl Record {
        fn new() -> Self {
            Self { bindings: Vec::new(), policy: Policy::default(), now: AT }
        }

        fn with(policy: Policy) -> Self {
            Self { policy, ..Self::new() }
        }

        /// Sends a REGISTER; gives the status line's end and the answer's Contact, Min-Expires and similar headers.
        fn send(&mut self, call_id: &str, cseq: u32, headers: &str) -> (String, Vec<String>) {
            let text = format!(
                "REGISTER sip:pbx.example SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.1\r\nTo: <sip:101@pbx.example>\r\n\
                 From: <sip:101@pbx.example>\r\nCall-ID: {call_id}\r\nCSeq: {cseq} REGISTER\r\n{headers}\r\n"
            );
            let source = "192.0.2.1:5060".parse().unwrap();
            let message = scan(text.as_bytes()).unwrap();
            let reply = Reply::to(&message, source, &Salt([0; 16])).unwrap();
            let request = match RegisterRequest::parse(&message, source, Transport::Udp) {
                Ok(request) => request,
                Err(refusal) => return read(reply.refuse(&refusal).finish()),
            };
            let response = match decide(&self.bindings, &request, &self.policy, self.now) {
                Decision::Accept { bindings, .. } => {
                    self.bindings = bindings;
                    answer(&reply, &request, &self.bindings, self.now)
                }
                Decision::Unchanged => answer(&reply, &request, &self.bindings, self.now),
                Decision::Refuse(refusal) => reply.refuse(&refusal),
            };
            read(response.finish())
        }

        /// As [`Record::send`] with one contact of this user; gives the 200's contacts.
        fn bind(&mut self, call_id: &str, cseq: u32, contact: &str) -> Vec<String> {
            let (status, contacts) = self.send(call_id, cseq, &format!("Contact: {contact}\r\n"));
            assert_eq!(status, "200 OK", "{contact}");
            contacts
        }

        fn wait_s(&mut self, seconds: u64) {
            self.now = self.now.after(seconds * 1_000);
        }
    }

    fn read(bytes: Vec<u8>) -> (String, Vec<String>) {
        let text = String::from_utf8(bytes).unwrap();
        let kept = ["Contact: ", "Min-Expires: ", "Unsupported: ", "Retry-After: ", "Path: "];
        let headers = text.lines().filter(|line| kept.iter().any(|name| line.starts_with(name)));
        let headers = headers.map(|line| line.trim_start_matches("Contact: ").to_owned()).collect();
        (text.lines().next().unwrap().replacen("SIP/2.0 ", "", 1), headers)
    }

    #[test]
    fn a_contact_is_added_refreshed_and_removed() {
        let mut record = Record::new();
        assert_eq!(record.bind("a", 1, "<sip:1@h>;expires=600;q=0.5"), ["<sip:1@h>;expires=600;q=0.500"]);
        record.wait_s(100);
        assert_eq!(record.bind("b", 1, "<sip:2@h>"), ["<sip:1@h>;expires=500;q=0.500", "<sip:2@h>;expires=3600"]);
        assert_eq!(record.bind("a", 2, "<sip:1@h>;expires=600"), ["<sip:2@h>;expires=3600", "<sip:1@h>;expires=600"]);
        assert_eq!(record.send("q", 1, "").1.len(), 2, "a query shows them all");
        assert_eq!(record.bind("a", 3, "<sip:1@h>;expires=0"), ["<sip:2@h>;expires=3600"]);
        assert_eq!(record.bind("a", 4, "<sip:1@h>;expires=0"), ["<sip:2@h>;expires=3600"], "it may be gone already");
        assert_eq!(record.send("c", 1, "Contact: *\r\nExpires: 0\r\n"), ("200 OK".into(), vec![]));
    }

    #[test]
    fn a_contact_past_its_time_is_gone_and_seconds_are_rounded_up() {
        let mut record = Record::new();
        record.bind("a", 1, "<sip:1@h>;expires=60");
        record.now = record.now.after(59_001);
        assert_eq!(record.send("q", 1, "").1, ["<sip:1@h>;expires=1"]);
        record.now = record.now.after(999);
        assert_eq!(record.send("q", 1, "").1, Vec::<String>::new());
        assert_eq!(record.bind("a", 1, "<sip:1@h>;expires=60"), ["<sip:1@h>;expires=60"], "its CSeq is gone as well");
    }

    #[test]
    fn a_granted_time_deviates_downwards_only_and_never_under_the_minimum() {
        let mut record = Record::with(Policy { expires_deviation_percent: 20, ..Policy::default() });
        let mut granted = Vec::new();
        for cseq in 1..200 {
            let contacts = record.bind("a", cseq, "<sip:1@h>;expires=1000");
            granted.push(contacts[0].trim_start_matches("<sip:1@h>;expires=").parse::<u32>().unwrap());
        }
        assert!(granted.iter().all(|seconds| (800..=1_000).contains(seconds)), "{granted:?}");
        let (least, most) = (granted.iter().min().unwrap(), granted.iter().max().unwrap());
        assert!(most - least > 150, "they are spread: {least} to {most}");
        for cseq in 200..300 {
            let contacts = record.bind("a", cseq, "<sip:1@h>;expires=61");
            assert!(matches!(contacts[0].as_str(), "<sip:1@h>;expires=60" | "<sip:1@h>;expires=61"), "{contacts:?}");
        }
        assert_eq!(record.bind("a", 300, "<sip:1@h>;expires=0"), Vec::<String>::new(), "gone is gone");
    }

    #[test]
    fn the_time_asked_for_is_granted_between_minimum_and_maximum() {
        let mut record = Record::new();
        let brief = ("423 Interval Too Brief".into(), vec!["Min-Expires: 60".into()]);
        assert_eq!(record.send("a", 1, "Contact: <sip:1@h>;expires=59\r\n"), brief);
        assert_eq!(record.send("a", 1, "Contact: <sip:1@h>\r\nExpires: 1\r\n"), brief);
        assert_eq!(record.bindings, []);
        assert_eq!(record.bind("a", 1, "<sip:1@h>;expires=999999"), ["<sip:1@h>;expires=7200"]);
        assert_eq!(record.bind("a", 2, "<sip:1@h>;expires=bad"), ["<sip:1@h>;expires=3600"]);
        assert_eq!(
            record.send("a", 3, "Contact: <sip:1@h>;expires=90\r\nExpires: 100\r\n").1,
            ["<sip:1@h>;expires=90"]
        );
        let mut strict = Record::with(Policy { expires_min_s: 4_000, ..Policy::default() });
        assert_eq!(strict.send("a", 1, "Contact: <sip:1@h>;expires=3599\r\n").0, "423 Interval Too Brief");
        assert_eq!(strict.bind("a", 1, "<sip:1@h>;expires=3600"), ["<sip:1@h>;expires=3600"], "an hour is never brief");
        assert_eq!(strict.bind("a", 2, "<sip:1@h>"), ["<sip:1@h>;expires=4000"]);
    }

    #[test]
    fn an_older_cseq_of_the_same_call_is_refused_and_an_equal_one_answered_again() {
        let mut record = Record::new();
        record.bind("a", 5, "<sip:1@h>;expires=600");
        record.wait_s(10);
        let before = record.bindings.clone();
        assert_eq!(record.send("a", 4, "Contact: <sip:1@h>\r\n").0, "500 CSeq Out of Order");
        assert_eq!(record.bind("a", 5, "<sip:1@h>;expires=600"), ["<sip:1@h>;expires=590"], "a retransmission");
        assert_eq!(record.send("a", 5, "Contact: *\r\nExpires: 0\r\n").0, "500 CSeq Out of Order");
        assert_eq!(record.bindings, before);
        assert_eq!(record.bind("b", 1, "<sip:1@h>;expires=700"), ["<sip:1@h>;expires=700"], "a rebooted phone");
    }

    #[test]
    fn one_bad_contact_leaves_all_of_them_as_they_were() {
        let mut record = Record::new();
        record.bind("a", 5, "<sip:1@h>;expires=600");
        let before = record.bindings.clone();
        for (cseq, contacts, status) in [
            (6, "<sip:2@h>, <sip:3@h>;expires=5", "423 Interval Too Brief"),
            (6, "<sip:2@h>, <sip:3@h>;q=9", "400 Bad Contact Header"),
            (4, "<sip:2@h>, <sip:1@h>", "500 CSeq Out of Order"),
        ] {
            assert_eq!(record.send("a", cseq, &format!("Contact: {contacts}\r\n")).0, status);
            assert_eq!(record.bindings, before);
        }
        let both = record.bind("a", 6, "<sip:2@h>, <sip:1@h>;expires=0, <sip:3@h>;expires=70");
        assert_eq!(both, ["<sip:2@h>;expires=3600", "<sip:3@h>;expires=70"]);
    }

    #[test]
    fn contacts_are_matched_by_uri_and_by_instance() {
        let mut record = Record::new();
        record.bind("a", 1, "<sip:%31@H.example;transport=TCP>");
        assert_eq!(record.bind("b", 1, "<sip:1@h.EXAMPLE;transport=tcp;x=y>").len(), 1);
        assert_eq!(record.bind("b", 2, "<sip:1@h.example>").len(), 2, "without its transport it is another");
        let phone = |port: u16, reg_id: &str| format!("<sip:2@h:{port}>;+sip.instance=\"<urn:uuid:A>\"{reg_id}");
        assert_eq!(record.bind("c", 1, &phone(1, "")).len(), 3);
        let moved = record.bind("d", 1, &phone(2, "").replace("uuid:A", "uuid:a"));
        assert_eq!(moved.len(), 3, "the same phone at another port");
        assert!(moved[2].starts_with("<sip:2@h:2>;") && moved[2].ends_with(";+sip.instance=\"<urn:uuid:a>\""));
        assert_eq!(record.bind("d", 2, &phone(3, ";reg-id=1")).len(), 4, "another flow of it");
    }

    #[test]
    fn a_contact_too_many_drops_the_oldest_or_is_refused() {
        let mut record = Record::with(Policy { contacts_max: 2, ..Policy::default() });
        for (cseq, contact) in [(1, "<sip:1@h>"), (2, "<sip:2@h>"), (3, "<sip:1@h>"), (4, "<sip:3@h>")] {
            record.bind("a", cseq, contact);
            record.wait_s(1);
        }
        let contacts: Vec<_> = record.bindings.iter().map(|binding| &*binding.contact).collect();
        assert_eq!(contacts, ["sip:1@h", "sip:3@h"]);
        assert_eq!(record.send("a", 5, "Contact: <sip:4@h>,<sip:5@h>,<sip:6@h>\r\n").0, "503 Too Many Contacts");

        record.policy.overflow = Overflow::Refuse;
        let refused = record.send("a", 5, "Contact: <sip:4@h>\r\n");
        assert_eq!(refused, ("503 Too Many Contacts".into(), vec!["Retry-After: 300".into()]));
        assert_eq!(record.bind("a", 6, "<sip:3@h>").len(), 2, "a refresh is not one more");
        assert_eq!(record.bind("a", 7, "<sip:3@h>;expires=0, <sip:4@h>").len(), 2, "nor is an exchange");
    }

    #[test]
    fn unknown_extensions_are_refused_by_name_and_path_is_kept_and_shown() {
        let mut record = Record::new();
        let refused = record.send("a", 1, "Require: path, gruu\r\nRequire: foo\r\nContact: <sip:1@h>\r\n");
        assert_eq!(refused, ("420 Bad Extension".into(), vec!["Unsupported: gruu, foo".into()]));
        let path = "Path: <sip:p1;lr>\r\nPath: <sip:p2;lr>\r\n";
        let (_, shown) = record.send("a", 1, &format!("Contact: <sip:1@h>\r\nSupported: path\r\n{path}"));
        assert_eq!(shown, ["<sip:1@h>;expires=3600", "Path: <sip:p1;lr>, <sip:p2;lr>"]);
        assert_eq!(record.bindings[0].path.as_deref(), Some("<sip:p1;lr>, <sip:p2;lr>"));
        assert_eq!(record.send("a", 2, &format!("Contact: <sip:1@h>\r\n{path}")).1.len(), 1);
    }

    #[test]
    fn what_a_trusted_pbx_relays_is_never_refused_for_policy() {
        let source = BindingSource::Passive;
        let mut record =
            Record::with(Policy { contacts_max: 2, overflow: Overflow::Refuse, source, ..Policy::default() });
        assert_eq!(record.bind("a", 5, "<sip:1@h>;expires=5"), ["<sip:1@h>;expires=5"]);
        assert_eq!(record.bind("a", 4, "<sip:1@h>;expires=50"), ["<sip:1@h>;expires=5"], "late, so it changes nothing");
        assert_eq!(record.send("a", 4, "Contact: *\r\nExpires: 0\r\n").1, ["<sip:1@h>;expires=5"]);
        assert_eq!(record.bind("b", 1, "<sip:2@h>, <sip:3@h>, <sip:4@h>").len(), 2);
        assert_eq!(record.send("c", 1, "Require: gruu\r\nContact: <sip:5@h>\r\n").0, "200 OK");
        assert!(record.bindings.iter().all(|binding| binding.source == source));
    }

    #[test]
    fn a_passive_binding_in_its_grace_is_kept_but_not_listed() {
        let mut record = Record::with(Policy { source: BindingSource::Passive, ..Policy::default() });
        record.bind("a", 1, "<sip:1@h>;expires=60");
        record.wait_s(61);
        assert_eq!(record.bind("b", 1, "<sip:2@h>"), ["<sip:2@h>;expires=3600"]);
        assert_eq!(record.bindings.len(), 2);
        assert_eq!(record.bind("a", 2, "<sip:1@h>;expires=60").len(), 2);
    }

    #[test]
    fn a_user_agent_that_did_not_change_is_shared() {
        let mut record = Record::new();
        record.send("a", 1, "User-Agent: x\r\nContact: <sip:1@h>\r\n");
        let before = record.bindings[0].user_agent.clone().unwrap();
        record.send("a", 2, "User-Agent: x\r\nContact: <sip:1@h>\r\n");
        assert!(Arc::ptr_eq(&before, record.bindings[0].user_agent.as_ref().unwrap()));
    }
}
