//! Whatever bytes come, nothing panics, what is written back is sound, and what would be kept can be kept.

use std::net::SocketAddr;

use hookswitch::model::{Binding, Now, Tick, Transport};
use hookswitch::sip::frame::{Frame, FrameError, Framer};
use hookswitch::sip::registrar::{
    Decision, Policy, RegisterRequest, RequestFacts, answer, bindings_from_response, decide, origin,
};
use hookswitch::sip::syntax::unfold;
use hookswitch::sip::{Message, Name, Reply, Salt, Uri, check, scan};
use proptest::prelude::*;

use crate::samples::samples;

const NOW: Now = Now { tick: Tick(1_000_000), unix: hookswitch::model::UnixMillis(1_700_000_000_000) };

/// Does with a datagram everything that any listener does.
fn handle(bytes: &[u8]) {
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

fn read_everything(message: &Message<'_>) {
    let _ = (message.method(), message.request_uri(), message.status(), message.reason_phrase(), message.fault());
    let _ = (message.from(), message.to(), message.cseq(), message.call_id(), message.top_via(), message.via_count());
    let _ = (message.contacts().count(), message.extensions().count(), message.named("x-queue").count());
    let _ = message.request_uri().map(|text| Uri::parse(text).map(|uri| (uri.key(), uri.equivalent(&uri))));
    let _ = origin(message, "192.0.2.1:1".parse().unwrap());
    for name in [Name::PAssertedIdentity, Name::RecordRoute, Name::SessionId, Name::Replaces, Name::Reason] {
        let _ = message.values(name).map(|value| unfold(value).len()).sum::<usize>();
    }
    assert!(message.body().len() <= message.raw().len());
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

#[derive(Clone, Debug)]
enum Mutation {
    Set(usize, u8),
    Insert(usize, u8),
    Remove(usize, usize),
    Repeat(usize, usize),
    Cut(usize),
}

fn mutation() -> impl Strategy<Value = Mutation> {
    let byte = prop_oneof![
        any::<u8>(),
        prop::sample::select(b"\r\n \t\0\"\\<>;,:=@?/%*[]()-".to_vec()),
        prop::sample::select(b"0123456789".to_vec()),
    ];
    prop_oneof![
        (any::<usize>(), byte.clone()).prop_map(|(at, byte)| Mutation::Set(at, byte)),
        (any::<usize>(), byte).prop_map(|(at, byte)| Mutation::Insert(at, byte)),
        (any::<usize>(), 1_usize..40).prop_map(|(at, length)| Mutation::Remove(at, length)),
        (any::<usize>(), 1_usize..80).prop_map(|(at, length)| Mutation::Repeat(at, length)),
        any::<usize>().prop_map(Mutation::Cut),
    ]
}

fn mutate(bytes: &mut Vec<u8>, mutation: &Mutation) {
    let within = |at: usize, bytes: &[u8]| at % (bytes.len() + 1);
    match *mutation {
        Mutation::Set(at, byte) => {
            let at = within(at, bytes);
            if let Some(there) = bytes.get_mut(at) {
                *there = byte;
            }
        }
        Mutation::Insert(at, byte) => bytes.insert(within(at, bytes), byte),
        Mutation::Remove(at, length) => {
            let at = within(at, bytes);
            bytes.drain(at..bytes.len().min(at + length));
        }
        Mutation::Repeat(at, length) => {
            let at = within(at, bytes);
            let part = bytes[at..bytes.len().min(at + length)].to_vec();
            bytes.splice(at..at, part);
        }
        Mutation::Cut(at) => bytes.truncate(within(at, bytes)),
    }
}

fn frames(stream: &[u8], cuts: &[usize]) -> Vec<Result<Frame, FrameError>> {
    let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut % (stream.len() + 1)).collect();
    cuts.extend([0, stream.len()]);
    cuts.sort_unstable();
    let mut framer = Framer::new();
    let mut found = Vec::new();
    for ends in cuts.windows(2) {
        framer.push(&stream[ends[0]..ends[1]]);
        found.extend(framer.by_ref());
    }
    found
}

proptest! {
    #[test]
    fn no_bytes_at_all_make_anything_panic(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        handle(&bytes);
        let _ = frames(&bytes, &[3, 50]);
    }

    #[test]
    fn no_text_that_looks_like_sip_makes_anything_panic(
        text in "(REGISTER|INVITE) [a-z:@;?<>\\[\\]0-9]{0,12} SIP/2.0\r\n\
            (([vftim]|Via|CSeq|l|Expires|Path|Contact) ?:[ -~\t\r\n]{0,40}\r\n){0,10}\r\n[ -~]{0,10}",
    ) {
        handle(text.as_bytes());
    }

    #[test]
    fn no_damaged_message_makes_anything_panic(
        which in any::<prop::sample::Index>(),
        mutations in prop::collection::vec(mutation(), 1..8),
    ) {
        let samples = samples();
        let mut bytes = which.get(&samples).1.clone();
        for mutation in &mutations {
            mutate(&mut bytes, mutation);
        }
        handle(&bytes);
    }

    #[test]
    fn a_stream_gives_the_same_frames_however_it_is_cut(
        parts in prop::collection::vec(any::<prop::sample::Index>(), 1..6),
        breaks in prop::collection::vec(prop::sample::select(vec!["", "\r\n", "\r\n\r\n", "\n", "\r"]), 6),
        mutations in prop::collection::vec(mutation(), 0..3),
        cuts in prop::collection::vec(any::<usize>(), 0..12),
    ) {
        let framed: Vec<Vec<u8>> = samples()
            .into_iter()
            .map(|(_, bytes)| bytes)
            .filter(|bytes| matches!(frames(bytes, &[]).as_slice(), [Ok(Frame::Message(m))] if m.len() == bytes.len()))
            .collect();
        prop_assert!(framed.len() > 30);
        let mut stream = Vec::new();
        for (part, between) in parts.iter().zip(&breaks) {
            stream.extend_from_slice(between.as_bytes());
            let part: &Vec<u8> = part.get(&framed);
            stream.extend_from_slice(part);
        }
        let messages = frames(&stream, &[]).iter().filter(|frame| matches!(frame, Ok(Frame::Message(_)))).count();
        prop_assert_eq!(messages, parts.len());
        for mutation in &mutations {
            mutate(&mut stream, mutation);
        }
        prop_assert_eq!(frames(&stream, &cuts), frames(&stream, &[]));
    }
}
