//! A datagram, and everything that any listener does with it.

use std::net::SocketAddr;

use hookswitch::model::{Binding, Now, Tick, Transport, UnixMillis};
use hookswitch::sip::registrar::{
    Decision, Policy, RegisterRequest, RequestFacts, answer, bindings_from_response, decide,
};
use hookswitch::sip::syntax::unfold;
use hookswitch::sip::{Message, Reply, Salt, check, scan};

use super::scan::read_everything;

/// Reads it as a request and as an answer; what is written back is sound, what would be kept can be kept.
pub fn run(bytes: &[u8]) {
    let Ok(message) = scan(bytes) else { return };
    read_everything(&message);
    let source: SocketAddr = "[2001:db8::9]:5099".parse().unwrap();
    let facts = RegisterRequest::parse(&message, source, Transport::Udp).ok().map(|r| RequestFacts::from(&r));
    if let Ok(Some(snapshot)) = bindings_from_response(&message, facts.as_ref(), &Policy::default(), NOW) {
        snapshot.bindings().for_each(assert_can_be_kept);
        let _ = snapshot.over(&[], &Policy::default(), NOW);
    }
    let Ok(reply) = Reply::to(&message, source, &Salt([1; 16])) else { return };
    let response = match (check(&message), RegisterRequest::parse(&message, source, Transport::Udp)) {
        (Err(refusal), _) | (_, Err(refusal)) => reply.refuse(&refusal),
        (Ok(()), Ok(request)) => match decide(&[], &request, &Policy::default(), NOW) {
            Decision::Accept { bindings, .. } => {
                bindings.iter().for_each(assert_can_be_kept);
                answer(&reply, &request, &bindings, NOW)
            }
            Decision::Unchanged => answer(&reply, &request, &[], NOW),
            Decision::Refuse(refusal) => reply.refuse(&refusal),
        },
    };
    assert_sound(&message, &response.finish());
}

/// A response is one message, names the same transaction, and no line of it ends where it should not.
fn assert_sound(request: &Message<'_>, response: &[u8]) {
    let read = scan(response).unwrap_or_else(|error| panic!("{error}: {}", response.escape_ascii()));
    assert_eq!(read.fault(), None);
    assert!(read.status().is_some());
    assert!(request.call_id().is_none_or(|call_id| read.call_id() == Some(call_id)));
    assert!(request.cseq().is_err() || read.cseq() == request.cseq());
    assert_eq!(read.via_count(), request.via_count(), "{}", response.escape_ascii());
    assert_eq!(read.top_via().map(|via| via.branch.map(str::to_owned)), {
        request.top_via().map(|via| via.branch.map(|branch| unfold(branch).into_owned()))
    });
    let text = response.strip_suffix(b"\r\n").unwrap();
    for line in text.split(|byte| *byte == b'\n') {
        assert!(line.strip_suffix(b"\r").is_none_or(|line| !line.contains(&b'\r')), "{}", response.escape_ascii());
    }
}

/// Postgres keeps no zero bytes in TEXT, and no field may grow with what a peer sends.
fn assert_can_be_kept(binding: &Binding) {
    let texts = [&binding.contact, &binding.call_id].into_iter().map(|text| &**text);
    let texts = texts.chain(binding.path.as_deref()).chain(binding.instance.as_deref());
    for text in texts.chain(binding.user_agent.as_deref()) {
        assert!(!text.is_empty() && text.len() <= 2_048 && !text.contains(['\0', '\r', '\n']), "{text:?}");
    }
}

const NOW: Now = Now { tick: Tick(1_000_000), unix: UnixMillis(1_700_000_000_000) };
