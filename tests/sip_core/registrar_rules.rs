//! Properties of the registrar over any sequence of requests, policies and times.

use std::collections::HashSet;

use hookswitch::model::{Binding, BindingSource, Now, Tick, Transport, UnixMillis};
use hookswitch::sip::registrar::{Contacts, Decision, Overflow, Policy, RegisterRequest, decide};
use hookswitch::sip::scan;
use proptest::prelude::*;

#[derive(Clone, Debug)]
struct Step {
    call_id: u8,
    cseq: u32,
    contacts: Vec<(usize, Option<u32>, Option<u8>)>,
    star: bool,
    expires: Option<u32>,
    wait_ms: u64,
}

/// Two of them are one by RFC 3261 §19.1.4, and a third differs from those by its transport only.
const URIS: [&str; 5] = [
    "sip:1@h.example",
    "sip:%31@H.example",
    "sip:1@h.example;transport=tcp",
    "sip:2@h.example",
    "sip:3@h.example:5062",
];

impl Step {
    fn text(&self) -> String {
        let mut contacts: Vec<String> = Vec::new();
        for (uri, expires, instance) in &self.contacts {
            let expires = expires.map(|seconds| format!(";expires={seconds}")).unwrap_or_default();
            let instance = instance.map(|id| format!(";+sip.instance=\"<urn:x:{id}>\"")).unwrap_or_default();
            contacts.push(format!("Contact: <{}>{expires}{instance}\r\n", URIS[*uri]));
        }
        let expires = match self.expires {
            _ if self.star => "Contact: *\r\nExpires: 0\r\n".into(),
            Some(seconds) => format!("Expires: {seconds}\r\n"),
            None => String::new(),
        };
        let contacts = if self.star { String::new() } else { contacts.concat() };
        format!(
            "REGISTER sip:h.example SIP/2.0\r\nTo: <sip:1@h.example>\r\nCall-ID: {}\r\nCSeq: {} REGISTER\r\n\
             {contacts}{expires}\r\n",
            self.call_id, self.cseq
        )
    }
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let seconds = || prop::option::of(prop::sample::select(vec![0_u32, 0, 1, 59, 60, 61, 3_600, 100_000, u32::MAX]));
    let contact = (0..URIS.len(), seconds(), prop::option::weighted(0.3, 0_u8..2));
    let step = (0_u8..3, 1_u32..6, prop::collection::vec(contact, 0..4), prop::bool::weighted(0.1), seconds(), {
        prop::sample::select(vec![0_u64, 1, 1_000, 59_999, 60_000, 3_600_000])
    });
    let step = step.prop_map(|(call_id, cseq, contacts, star, expires, wait_ms)| Step {
        call_id,
        cseq,
        contacts,
        star,
        expires,
        wait_ms,
    });
    prop::collection::vec(step, 1..25)
}

fn policies() -> impl Strategy<Value = Policy> {
    (1_usize..4, any::<bool>(), any::<bool>()).prop_map(|(contacts_max, refuse, passive)| Policy {
        contacts_max,
        overflow: if refuse { Overflow::Refuse } else { Overflow::DropOldest },
        source: if passive { BindingSource::Passive } else { BindingSource::Registrar },
        ..Policy::default()
    })
}

fn request<'a>(message: &hookswitch::sip::Message<'a>) -> RegisterRequest<'a> {
    RegisterRequest::parse(message, None, Transport::Udp).unwrap()
}

fn is_live(binding: &Binding, now: Now) -> bool {
    binding.expires_at > now.tick
}

/// What must hold of the bindings that an accepted request leaves.
fn check_accepted(before: &[Binding], after: &[Binding], asked: &RegisterRequest<'_>, policy: &Policy, now: Now) {
    assert!(after.len() <= policy.contacts_max, "{after:?}");
    let mut seen = HashSet::new();
    for binding in after {
        assert!(seen.insert(&binding.contact), "twice: {}", binding.contact);
        assert!(is_live(binding, now) || policy.source == BindingSource::Passive);
        assert!(binding.expires_at - now.tick <= u64::from(policy.expires_max_s) * 1_000);
        if !before.contains(binding) {
            assert_eq!((&*binding.call_id, binding.cseq), (asked.call_id, asked.cseq), "what it is not about stays");
            assert_eq!((binding.refreshed_at, binding.source), (now.unix, policy.source));
        }
    }
    match &asked.contacts {
        Contacts::Query => panic!("a query was accepted as a change"),
        Contacts::RemoveAll => assert_eq!(after, []),
        Contacts::Listed(contacts) => {
            let last = contacts.last().unwrap();
            let is_there = after.iter().any(|binding| *binding.contact == *last.uri.text);
            let wanted = last.expires_s.or(asked.expires_s) != Some(0);
            assert_eq!(is_there, wanted, "the last contact of a request is set, or removed");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, ..ProptestConfig::default() })]

    #[test]
    fn limits_order_and_retransmissions_hold_over_any_history(steps in steps(), policy in policies()) {
        let mut now = Now { tick: Tick(1_000), unix: UnixMillis(1_700_000_000_000) };
        let mut bindings: Vec<Binding> = Vec::new();
        for step in steps {
            now = now.after(step.wait_ms);
            let text = step.text();
            let message = scan(text.as_bytes()).unwrap();
            let asked = request(&message);
            match decide(&bindings, &asked, &policy, now) {
                Decision::Accept { bindings: after, .. } => {
                    check_accepted(&bindings, &after, &asked, &policy, now);
                    bindings = after;
                    let again = decide(&bindings, &asked, &policy, now.after(500));
                    prop_assert_eq!(again, Decision::Unchanged, "a retransmission of {}", text);
                }
                Decision::Unchanged => {}
                Decision::Refuse(refusal) => {
                    prop_assert!(policy.source == BindingSource::Registrar, "refused: {:?}", refusal);
                    prop_assert!(matches!(refusal.status, 423 | 500 | 503), "{:?}", refusal);
                }
            }
        }
    }

    #[test]
    fn a_decision_depends_on_its_inputs_only(steps in steps(), policy in policies()) {
        let mut now = Now { tick: Tick(1_000), unix: UnixMillis(1_700_000_000_000) };
        let mut bindings: Vec<Binding> = Vec::new();
        for step in steps {
            now = now.after(step.wait_ms);
            let text = step.text();
            let message = scan(text.as_bytes()).unwrap();
            let first = decide(&bindings, &request(&message), &policy, now);
            prop_assert_eq!(&first, &decide(&bindings, &request(&message), &policy, now));
            if let Decision::Accept { bindings: after, .. } = first {
                bindings = after;
            }
        }
    }
}
