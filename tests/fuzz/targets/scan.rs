//! One SIP message: finding its headers, and reading each of them.

use std::net::SocketAddr;

use hookswitch::sip::registrar::origin;
use hookswitch::sip::syntax::unfold;
use hookswitch::sip::{Message, Name, Uri, scan};

/// Scans a datagram; what it finds can all be read, and is of the message.
pub fn run(bytes: &[u8]) {
    if let Ok(message) = scan(bytes) {
        read_everything(&message);
    }
}

/// Asks a message for everything it can be asked for.
pub fn read_everything(message: &Message<'_>) {
    let _ = (message.method(), message.request_uri(), message.status(), message.reason_phrase(), message.fault());
    let _ = (message.from(), message.to(), message.cseq(), message.call_id(), message.top_via(), message.via_count());
    let _ = (message.contacts().count(), message.extensions().count(), message.named("x-queue").count());
    let _ = message.request_uri().map(|text| Uri::parse(text).map(|uri| (uri.key(), uri.equivalent(&uri))));
    let _ = origin(message, SocketAddr::from(([192, 0, 2, 1], 1)));
    for name in [Name::PAssertedIdentity, Name::RecordRoute, Name::SessionId, Name::Replaces, Name::Reason] {
        let _ = message.values(name).map(|value| unfold(value).len()).sum::<usize>();
    }
    assert!(message.body().len() <= message.raw().len());
}
