//! Where rsip can read a message, it and our scanner say the same about it.

use hookswitch::sip::{Message, scan};
use proptest::prelude::*;
use rsip::headers::untyped::{ToTypedHeader as _, UntypedHeader as _};
use rsip::prelude::{HasHeaders as _, HeadersExt as _};
use rsip::{Header, SipMessage};

use crate::samples::samples;

/// What both can say about a message; each fact is there only when the parser could read it.
#[derive(Debug, Default, PartialEq, Eq)]
struct Facts {
    method: Option<String>,
    request_uri: Option<String>,
    status: Option<u16>,
    call_id: Option<String>,
    cseq: Option<(u32, String)>,
    from: Option<Address>,
    to: Option<Address>,
    branch: Option<String>,
    contacts: Vec<Address>,
}

#[derive(Debug, PartialEq, Eq)]
struct Address {
    user: Option<String>,
    host: String,
    port: Option<u16>,
    tag: Option<String>,
}

fn ours(message: &Message<'_>) -> Facts {
    let address = |address: hookswitch::sip::NameAddr<'_>| Address {
        user: address.uri.user.map(str::to_owned),
        host: address.uri.host.to_ascii_lowercase(),
        port: address.uri.port,
        tag: address.tag().map(str::to_owned),
    };
    let contacts = message.contacts().map_while(|contact| match contact {
        Ok(hookswitch::sip::Contact::Address(contact)) => Some(address(contact)),
        _ => None,
    });
    Facts {
        method: message.method().map(|method| method.as_str().to_ascii_uppercase()),
        request_uri: message.request_uri().map(str::to_ascii_lowercase),
        status: message.status(),
        call_id: message.call_id().map(str::to_owned),
        cseq: message.cseq().ok().map(|cseq| (cseq.number, cseq.method.as_str().to_ascii_uppercase())),
        from: message.from().ok().map(address),
        to: message.to().ok().map(address),
        branch: message.top_via().ok().and_then(|via| via.branch).map(str::to_owned),
        contacts: contacts.collect(),
    }
}

fn theirs(message: &SipMessage) -> Facts {
    let address = |uri: &rsip::Uri, params: &[rsip::Param]| Address {
        user: uri.user().map(str::to_owned),
        host: uri.host().to_string().to_ascii_lowercase(),
        port: uri.port().map(|port| *port.value()),
        tag: params.iter().find_map(|param| match param {
            rsip::Param::Tag(tag) => Some(tag.value().to_owned()),
            _ => None,
        }),
    };
    let contacts = message.headers().iter().filter_map(|header| match header {
        Header::Contact(contact) => contact.typed().ok(),
        _ => None,
    });
    let (method, request_uri, status) = match message {
        SipMessage::Request(request) => {
            (Some(request.method().to_string()), Some(request.uri().to_string().to_ascii_lowercase()), None)
        }
        SipMessage::Response(response) => (None, None, Some(response.status_code().code())),
    };
    Facts {
        method,
        request_uri,
        status,
        call_id: message.call_id_header().ok().map(|header| header.value().to_owned()),
        cseq: message.cseq_header().ok().and_then(|h| h.typed().ok()).map(|c| (c.seq, c.method.to_string())),
        from: message.from_header().ok().and_then(|h| h.typed().ok()).map(|from| address(&from.uri, &from.params)),
        to: message.to_header().ok().and_then(|h| h.typed().ok()).map(|to| address(&to.uri, &to.params)),
        branch: message
            .via_header()
            .ok()
            .and_then(|header| header.typed().ok())
            .and_then(|via| via.branch().map(|branch| branch.value().to_owned())),
        contacts: contacts.map(|contact| address(&contact.uri, &contact.params)).collect(),
    }
}

/// Both opinions, with what only one of them has taken out of both.
fn opinions(bytes: &[u8]) -> Option<(Facts, Facts)> {
    let (mut ours, mut theirs) = (ours(&scan(bytes).ok()?), theirs(&SipMessage::try_from(bytes).ok()?));
    macro_rules! keep_common {
        ($($fact:ident),*) => {$(
            if ours.$fact.is_none() || theirs.$fact.is_none() {
                (ours.$fact, theirs.$fact) = (None, None);
            }
        )*};
    }
    keep_common!(method, request_uri, status, call_id, cseq, from, to, branch);
    if ours.contacts.len() != theirs.contacts.len() {
        (ours.contacts, theirs.contacts) = (Vec::new(), Vec::new());
    }
    Some((ours, theirs))
}

#[test]
fn the_samples_that_rsip_can_read_mean_the_same_to_both() {
    let mut compared = 0;
    for (name, bytes) in samples() {
        if let Some((ours, theirs)) = opinions(&bytes) {
            assert_eq!(ours, theirs, "{name}");
            compared += 1;
        }
    }
    assert!(compared >= 20, "only {compared} samples were compared");
}

proptest! {
    /// Plain messages that rsip must be able to read, so that every fact is compared. (A user part that is all dots
    /// it takes for a host.)
    #[test]
    fn plain_messages_mean_the_same_to_both(
        method in prop::sample::select(vec!["REGISTER", "INVITE", "OPTIONS", "BYE", "NOTIFY", "SUBSCRIBE"]),
        users in prop::array::uniform3("[a-zA-Z0-9+_-]{1,12}"),
        host in "[a-z][a-z0-9-]{0,8}(\\.[a-z]{2,5}){1,2}",
        port in prop::option::of(1_u16..),
        call_id in "[A-Za-z0-9@.-]{1,40}",
        cseq in 0_u32..1 << 31,
        tag in "[a-z0-9]{1,12}",
        branch in "z9hG4bK[A-Za-z0-9.]{1,20}",
        display in prop::option::of("[A-Za-z][A-Za-z ,;:]{0,10}[a-z]"),
    ) {
        let port = port.map(|port| format!(":{port}")).unwrap_or_default();
        let display = display.map(|name| format!("\"{name}\" ")).unwrap_or_default();
        let [a, b, c] = users;
        let text = format!(
            "{method} sip:{a}@{host}{port} SIP/2.0\r\nVia: SIP/2.0/UDP {host}{port};branch={branch};rport\r\n\
             Max-Forwards: 70\r\nFrom: {display}<sip:{b}@{host}>;tag={tag}\r\nTo: <sip:{c}@{host}{port}>\r\n\
             Call-ID: {call_id}\r\nCSeq: {cseq} {method}\r\nContact: <sip:{a}@{host}{port}>;expires=60\r\n\
             Content-Length: 0\r\n\r\n"
        );
        let (ours, theirs) = opinions(text.as_bytes()).expect("both read a plain message");
        prop_assert!(ours.from.is_some() && ours.branch.is_some() && ours.contacts.len() == 1, "{:?}", ours);
        prop_assert_eq!(ours, theirs);
    }
}
