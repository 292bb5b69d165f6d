//! HEP packets: what real Asterisk and FreeSWITCH sent reads as their decoded forms say; nothing a peer sends panics.

use hookswitch::sip::hep::{Content, HepError, Packet, Packets, decode, inflate, is_hep, length};
use hookswitch::sip::scan;
use hookswitch::sip::scan::MESSAGE_LEN_MAX;
use miniz_oxide::deflate::compress_to_vec_zlib;
use proptest::prelude::*;

use crate::targets::recordings::recorded;

const SIP: &[u8] = b"OPTIONS sip:a SIP/2.0\r\n\r\n";

fn chunk(vendor: u16, kind: u16, body: &[u8]) -> Vec<u8> {
    let length = u16::try_from(body.len() + 6).unwrap();
    [&vendor.to_be_bytes()[..], &kind.to_be_bytes(), &length.to_be_bytes(), body].concat()
}

fn version3(magic: &[u8], chunks: &[Vec<u8>]) -> Vec<u8> {
    let body = chunks.concat();
    [magic, &u16::try_from(body.len() + 6).unwrap().to_be_bytes(), &body].concat()
}

/// A header of version 1 or 2 as Kamailio and FreeSWITCH write them, apart from the length it claims.
fn fixed(version: u8, claimed: u8, family: u8, addresses: &[u8], time: &[u8]) -> Vec<u8> {
    let head = [version, claimed, family, 17, 0x13, 0xc4, 0x13, 0xce];
    [&head[..], addresses, time, SIP].concat()
}

/// What the recorder's own decoder wrote about a packet, but for the time.
fn described(packet: &Packet<'_>) -> String {
    let message = scan(packet.payload).expect("it carries SIP");
    let text = std::str::from_utf8(packet.payload).unwrap();
    let first: String = text.lines().next().unwrap().chars().take(90).collect();
    let correlation = packet.correlation.map(|id| std::str::from_utf8(id).unwrap()).unwrap_or_default();
    let cseq = message.cseq().unwrap();
    format!(
        "SIP ip{} {} > {} capid={} corr={correlation} callid={} | {first} | {} {}",
        packet.protocol.unwrap(),
        packet.source.unwrap(),
        packet.destination.unwrap(),
        packet.capture_id.unwrap(),
        message.call_id().unwrap(),
        cseq.number,
        cseq.method,
    )
}

#[test]
fn what_asterisk_and_freeswitch_sent_reads_as_recorded() {
    for (name, key) in FIXTURES {
        let (packets, text) = (recorded(name), std::fs::read_to_string(format!("fixtures/hep/{name}.txt")).unwrap());
        assert_eq!(packets.len(), text.lines().count(), "{name}");
        let begun = decode(&packets[0]).unwrap().captured.unwrap();
        for (packet, line) in packets.iter().zip(text.lines()) {
            assert!(is_hep(packet));
            assert_eq!(length(packet), Ok(Some(packet.len())));
            let packet = decode(packet).unwrap();
            let (time, line) = line.trim_start().split_once(' ').unwrap();
            assert_eq!(described(&packet), line, "{name}");
            assert_eq!((packet.content, packet.key, packet.version), (Content::Sip, key, 3));
            let at = |(seconds, micros): (u32, u32)| f64::from(seconds) + f64::from(micros) / 1e6;
            let since = at(packet.captured.unwrap()) - at(begun);
            assert!((since - time.parse::<f64>().unwrap()).abs() < 0.001, "{name}: {since} is not {time}");
        }
    }
}

#[test]
fn every_cut_of_a_real_packet_is_refused() {
    for (name, _) in FIXTURES {
        for packet in recorded(name) {
            for end in 0..packet.len() {
                assert!(decode(&packet[..end]).is_err(), "{name} cut at {end}");
            }
        }
    }
}

#[test]
fn chunks_of_other_vendors_and_unknown_ones_are_skipped() {
    for magic in [b"HEP3", b"EEP3"] {
        let bytes = version3(
            magic,
            &[
                chunk(0, 5, &[0x20; 16]),
                chunk(0, 6, &[0x30; 16]),
                chunk(0, 7, &[0x13, 0xc4]),
                chunk(0, 8, &[0x13, 0xc5]),
                chunk(9, 15, b"another vendor's"),
                chunk(0, 999, b"who knows"),
                chunk(0, 11, &[1]),
                chunk(0, 15, SIP),
            ],
        );
        let packet = decode(&bytes).unwrap();
        assert_eq!(packet.payload, SIP);
        assert_eq!(packet.source.unwrap().to_string(), "[2020:2020:2020:2020:2020:2020:2020:2020]:5060");
        assert_eq!(packet.destination.unwrap().port(), 5061);
        assert_eq!((packet.key, packet.capture_id), (None, None));
    }
}

#[test]
fn what_is_not_sip_and_what_is_compressed_is_told_apart() {
    let content = |chunks: &[Vec<u8>]| decode(&version3(b"HEP3", chunks)).map(|packet| packet.content);
    assert_eq!(content(&[chunk(0, 11, &[5]), chunk(0, 15, b"{}")]), Ok(Content::Other(5)));
    assert_eq!(content(&[chunk(0, 11, &[100]), chunk(0, 15, b"log")]), Ok(Content::Other(100)));
    assert_eq!(content(&[chunk(0, 15, SIP)]), Ok(Content::Other(0)), "it does not say what it is");
    assert_eq!(content(&[chunk(0, 11, &[1]), chunk(0, 16, b"zlib")]), Ok(Content::Compressed));
    assert_eq!(content(&[chunk(0, 11, &[1])]), Err(HepError::Empty));
    assert_eq!(content(&[chunk(0, 11, &[1]), chunk(0, 15, b"")]), Err(HepError::Empty));
}

#[test]
fn a_compressed_message_comes_out_whole_or_not_at_all() {
    let packed = compress_to_vec_zlib(SIP, 6);
    assert_eq!(inflate(&packed).as_deref(), Ok(SIP));
    for end in 0..packed.len() {
        assert_eq!(inflate(&packed[..end]), Err(HepError::Zlib), "cut at {end}");
    }
    assert_eq!(inflate(SIP), Err(HepError::Zlib), "not compressed at all");
    assert_eq!(inflate(&compress_to_vec_zlib(b"", 6)), Err(HepError::Empty));
    let mut damaged = packed;
    *damaged.last_mut().unwrap() ^= 1;
    assert_eq!(inflate(&damaged), Err(HepError::Zlib), "its checksum is wrong");
}

#[test]
fn nothing_inflates_beyond_the_longest_message() {
    let longest = vec![b' '; MESSAGE_LEN_MAX];
    assert_eq!(inflate(&compress_to_vec_zlib(&longest, 9)).map(|message| message.len()), Ok(MESSAGE_LEN_MAX));
    // 60 kB that would be 60 MB.
    for length in [MESSAGE_LEN_MAX + 1, 60_000_000] {
        let bomb = compress_to_vec_zlib(&vec![b' '; length], 9);
        assert!(bomb.len() < MESSAGE_LEN_MAX);
        assert_eq!(inflate(&bomb), Err(HepError::Inflated), "{length} bytes in {}", bomb.len());
    }
}

#[test]
fn impossible_lengths_are_refused() {
    assert_eq!(decode(b"HEP3\x00\x05"), Err(HepError::Length));
    assert_eq!(decode(b"HEP3\x00\x0c\0\0\0\x0f\0\x05"), Err(HepError::Length), "a chunk shorter than its header");
    assert_eq!(decode(b"HEP3\x00\x0c\0\0\0\x0f\xff\xff"), Err(HepError::Truncated), "a chunk past the end");
    assert_eq!(decode(&version3(b"HEP3", &[chunk(0, 7, &[1])])), Err(HepError::Length), "a port of one byte");
    assert_eq!(decode(b"HEP4\x00\x06"), Err(HepError::NotHep));
    assert_eq!(length(b"HE"), Ok(None));
    assert_eq!(length(b"HX"), Err(HepError::NotHep));
}

#[test]
fn versions_1_and_2_are_read_whether_or_not_the_length_counts_the_time() {
    let v4 = [192, 0, 2, 1, 198, 51, 100, 2];
    let time = [0x10, 0, 0, 0, 0x20, 0, 0, 0, 0xd1, 0x07, 0, 0];
    let one = fixed(1, 16, 2, &v4, &[]);
    let packet = decode(&one).unwrap();
    assert_eq!((packet.version, packet.payload, packet.capture_id), (1, SIP, None));
    assert_eq!(packet.source.unwrap().to_string(), "192.0.2.1:5060");
    assert_eq!(packet.destination.unwrap().to_string(), "198.51.100.2:5070");
    for claimed in [16, 28] {
        let two = fixed(2, claimed, 2, &v4, &time);
        let packet = decode(&two).unwrap();
        assert_eq!((packet.payload, packet.capture_id), (SIP, Some(2001)), "header length {claimed}");
        assert_eq!(packet.captured, Some((16, 32)));
        for end in 0..29 {
            assert!(decode(&two[..end]).is_err(), "cut at {end}");
        }
    }
    let six = fixed(2, 40, 10, &[0x20; 32], &time);
    assert_eq!(decode(&six).unwrap().payload, SIP);
    assert_eq!(decode(&fixed(1, 28, 2, &v4, &[])), Err(HepError::Length));
    assert_eq!(decode(&fixed(1, 16, 7, &v4, &[])), Err(HepError::Family));
}

#[test]
fn plain_sip_is_told_apart() {
    assert!(!is_hep(SIP) && !is_hep(b"\r\n\r\n") && !is_hep(b"HEPATITIS sip:a SIP/2.0") && !is_hep(b""));
    assert!(is_hep(b"EEP3") && is_hep(&[1]) && is_hep(&[2]));
}

#[test]
fn a_stream_is_cut_into_the_packets_that_went_in_however_it_arrives() {
    let sent = recorded("freeswitch-direct-answered");
    for step in [1, 7, 1000, 65_535] {
        let (mut stream, mut got) = (Packets::default(), Vec::new());
        for piece in sent.concat().chunks(step) {
            stream.push(piece);
            got.extend(stream.by_ref().map(|packet| packet.unwrap().to_vec()));
        }
        assert_eq!((got == sent, stream.pending()), (true, 0), "pieces of {step} bytes");
    }
    let mut stream = Packets::default();
    stream.push(b"INVITE sip:a SIP/2.0\r\n");
    assert_eq!((stream.next(), stream.next()), (Some(Err(HepError::NotHep)), None));
}

proptest! {
    #[test]
    fn no_bytes_panic(
        start in prop_oneof![Just(&b"HEP3"[..]), Just(&b"EEP3"[..]), Just(&[1u8][..]), Just(&[2, 16, 2][..]), Just(&b""[..])],
        rest in proptest::collection::vec(any::<u8>(), 0..200),
    ) {
        let bytes = [start, &rest].concat();
        let _ = (decode(&bytes), length(&bytes), is_hep(&bytes), inflate(&bytes));
    }

    #[test]
    fn a_real_packet_with_bytes_changed_never_panics_nor_reads_past_its_end(
        index in 0usize..13,
        changes in proptest::collection::vec((0usize..120, any::<u8>()), 1..6),
    ) {
        let mut packet = recorded("asterisk-direct-answered").swap_remove(index);
        for (at, byte) in changes {
            packet[at] = byte;
        }
        if let Ok(read) = decode(&packet) {
            prop_assert!(read.payload.len() < packet.len());
        }
    }
}

/// Captures, and the key in them.
const FIXTURES: [(&str, Option<&[u8]>); 8] = [
    ("asterisk-register", Some(b"hepsecret")),
    ("asterisk-unregister", Some(b"hepsecret")),
    ("asterisk-tcp-phone", Some(b"hepsecret")),
    ("asterisk-direct-answered", Some(b"hepsecret")),
    ("asterisk-direct-cancel", Some(b"hepsecret")),
    ("freeswitch-register", None),
    ("freeswitch-direct-answered", None),
    ("freeswitch-tcp-phone", None),
];
