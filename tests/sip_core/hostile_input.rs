//! Whatever bytes come, nothing panics, what is written back is sound, and what would be kept can be kept.

use hookswitch::sip::Frame;
use proptest::prelude::*;

use crate::samples::samples;
use crate::targets::framing::frames;
use crate::targets::registrar;

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

proptest! {
    #[test]
    fn no_bytes_at_all_make_anything_panic(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        registrar::run(&bytes);
        let _ = frames(&bytes, &[3, 50]);
    }

    #[test]
    fn no_text_that_looks_like_sip_makes_anything_panic(
        text in "(REGISTER|INVITE) [a-z:@;?<>\\[\\]0-9]{0,12} SIP/2.0\r\n\
            (([vftim]|Via|CSeq|l|Expires|Path|Contact) ?:[ -~\t\r\n]{0,40}\r\n){0,10}\r\n[ -~]{0,10}",
    ) {
        registrar::run(text.as_bytes());
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
        registrar::run(&bytes);
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
