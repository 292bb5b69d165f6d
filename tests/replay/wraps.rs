//! The same packets in every link layer, tunnel, fragment and stream give the same findings.

use std::collections::HashMap;

use crate::heard::{Found, replay};
use crate::support::hep::{compressed, message, recorded};
use crate::support::packets::{self, ETHERNET, Packet, RAW, ip, ipv4, ipv6, payload, pcap, pcap_as, pcapng, tcp};

const NAMES: [&str; 5] = ["register", "direct-answered", "internal-call", "tcp-phone", "queue-abandon"];

/// Each scenario as it was captured, and rewrapped packet by packet.
fn same_when(link: u32, wrap: impl Fn(&[u8]) -> Vec<u8>) {
    for name in NAMES {
        let plain = replay(packets::fixture(name));
        let wrapped = replay(pcap(link, ip(name).into_iter().map(|packet| (packet.at_us, wrap(&packet.ip)))));
        assert_eq!(wrapped.events(), plain.events(), "{name}");
        assert_eq!(wrapped.totals(), plain.totals(), "{name}");
    }
}

fn before(head: &[u8]) -> impl Fn(&[u8]) -> Vec<u8> {
    move |ip| [head, ip].concat()
}

const MACS: [u8; 12] = [2; 12];

fn ethernet(tags: &[u8]) -> Vec<u8> {
    [&MACS[..], tags].concat()
}

#[test]
fn ethernet_with_vlan_tags_one_in_the_other_and_padding() {
    same_when(ETHERNET, before(&ethernet(&[0x81, 0, 0, 7, 8, 0])));
    same_when(ETHERNET, before(&ethernet(&[0x88, 0xa8, 0, 7, 0x81, 0, 0, 8, 8, 0])));
    same_when(ETHERNET, |ip| [&ethernet(&[8, 0])[..], ip, &[0; 20]].concat());
}

#[test]
fn pppoe_mpls_and_llc() {
    same_when(ETHERNET, before(&ethernet(&[0x88, 0x64, 0x11, 0, 0, 1, 0, 9, 0, 0x21])));
    same_when(ETHERNET, before(&ethernet(&[0x81, 0, 0, 7, 0x88, 0x64, 0x11, 0, 0, 1, 0, 9, 0, 0x21])));
    same_when(51, before(&[0x11, 0, 0, 1, 0, 9, 0, 0x21]));
    same_when(9, before(&[0xff, 3, 0, 0x21]));
    same_when(ETHERNET, before(&ethernet(&[0x88, 0x47, 0, 1, 0x10, 64, 0, 1, 0x11, 64])));
    same_when(ETHERNET, before(&ethernet(&[0, 100, 0xaa, 0xaa, 3, 0, 0, 0, 8, 0])));
}

#[test]
fn linux_cooked_1_and_2() {
    same_when(113, before(&[0, 0, 0, 1, 0, 6, 2, 2, 2, 2, 2, 2, 0, 0, 8, 0]));
    same_when(276, before(&[8, 0, 0, 0, 0, 0, 0, 2, 0, 1, 0, 6, 2, 2, 2, 2, 2, 2, 0, 0]));
    same_when(113, before(&[0, 0, 0, 1, 0, 6, 2, 2, 2, 2, 2, 2, 0, 0, 0x81, 0, 0, 7, 8, 0]));
}

#[test]
fn raw_and_loopback_of_either_byte_order() {
    for link in [RAW, 12, 14, 228] {
        same_when(link, <[u8]>::to_vec);
    }
    same_when(0, before(&[2, 0, 0, 0]));
    same_when(0, before(&[0, 0, 0, 2]));
    same_when(108, before(&[0, 0, 0, 2]));
}

#[test]
fn ip_in_ip_and_in_ipv6() {
    same_when(RAW, |inner| ipv4(&[9; 20], 4, 1, 0, inner));
    same_when(RAW, |inner| ipv6(&[9; 20], 4, &[], inner));
    same_when(RAW, |inner| ipv4(&[9; 20], 4, 1, 0, &ipv4(&[8; 20], 4, 1, 0, inner)));
}

#[test]
fn every_form_of_the_file_itself() {
    for name in NAMES {
        let plain = replay(packets::fixture(name));
        let frames = || ip(name).into_iter().map(|packet| (packet.at_us, packet.ip));
        for (form, file) in [
            ("big-endian", pcap_as(0xa1b2_c3d4, true, RAW, frames())),
            ("nanoseconds", pcap_as(0xa1b2_3c4d, false, RAW, frames())),
            ("big-endian nanoseconds", pcap_as(0xa1b2_3c4d, true, RAW, frames())),
            ("pcapng", pcapng(false, 101, frames())),
            ("big-endian pcapng", pcapng(true, 101, frames())),
            ("two sections", [pcapng(true, 101, []), pcapng(false, 101, frames())].concat()),
        ] {
            let found = replay(file);
            assert_eq!((found.events(), found.totals()), (plain.events(), plain.totals()), "{name} as {form}");
        }
    }
}

fn as_ipv6(packet: &Packet) -> (u64, Vec<u8>) {
    let hop_by_hop = [packet.ip[9], 0, 1, 4, 0, 0, 0, 0];
    (packet.at_us, ipv6(&packet.ip, 0, &hop_by_hop, payload(&packet.ip)))
}

/// Everything but the addresses.
fn alike(found: &Found, plain: &Found, what: &str) {
    let (mut found_totals, mut plain_totals) = (found.totals(), plain.totals());
    (found_totals.records, plain_totals.records) = (0, 0);
    (found_totals.skipped, plain_totals.skipped) = Default::default();
    assert_eq!(found_totals, plain_totals, "{what}");
    let calls =
        |found: &Found| found.calls().iter().map(|call| (call.outcome, call.ring_ms, call.talk_ms)).collect::<Vec<_>>();
    assert_eq!(calls(found), calls(plain), "{what}");
    let registrations = |found: &Found| {
        found.registrations().into_iter().map(|one| (one.at, one.user, one.outcome)).collect::<Vec<_>>()
    };
    assert_eq!(registrations(found), registrations(plain), "{what}");
}

#[test]
fn ipv6_with_extension_headers() {
    for name in NAMES {
        let found = replay(pcap(229, ip(name).iter().map(as_ipv6)));
        alike(&found, &replay(packets::fixture(name)), name);
    }
}

#[test]
fn fragments_in_any_order_and_twice() {
    for name in NAMES {
        let plain = replay(packets::fixture(name));
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for (id, packet) in (1_u16..).zip(ip(name)) {
            let whole = payload(&packet.ip);
            let pieces: Vec<(usize, &[u8])> =
                whole.chunks(160).enumerate().map(|(n, piece)| (n * 160, piece)).collect();
            for (offset, piece) in pieces.into_iter().rev() {
                let has_more = u16::from(offset + piece.len() < whole.len());
                let offset = u16::try_from(offset).unwrap();
                v4.push((packet.at_us, ipv4(&packet.ip, packet.ip[9], id, (offset / 8) | (has_more << 13), piece)));
                v4.push(v4.last().unwrap().clone());
                let place = (offset | has_more).to_be_bytes();
                let head = [packet.ip[9], 0, place[0], place[1], 0, 0, id.to_be_bytes()[0], id.to_be_bytes()[1]];
                v6.push((packet.at_us, ipv6(&packet.ip, 44, &head, piece)));
            }
        }
        let found = replay(pcap(RAW, v4));
        assert_eq!(found.events(), plain.events(), "{name}");
        alike(&replay(pcap(RAW, v6)), &plain, name);
    }
}

/// The datagrams of a scenario as TCP segments of this length.
fn as_tcp(name: &str, segment_len: usize) -> Vec<(u64, Vec<u8>)> {
    let mut sequences: HashMap<Vec<u8>, u32> = HashMap::new();
    let mut frames = Vec::new();
    for packet in ip(name) {
        let udp = payload(&packet.ip);
        let flow = [&packet.ip[12..20], &udp[..4]].concat();
        let sequence = sequences.entry(flow).or_insert_with(|| {
            // A SYN carries the number before the first byte's; that first number is near the end of all numbers.
            frames.push((packet.at_us, ipv4(&packet.ip, 6, 1, 0, &tcp(udp, u32::MAX - 1_000, 2, b""))));
            u32::MAX - 999
        });
        for piece in udp[8..].chunks(segment_len) {
            frames.push((packet.at_us, ipv4(&packet.ip, 6, 1, 0, &tcp(udp, *sequence, 0x18, piece))));
            *sequence = sequence.wrapping_add(u32::try_from(piece.len()).unwrap());
        }
    }
    frames
}

#[test]
fn tcp_streams_cut_anywhere_in_any_order_and_twice() {
    for name in ["register", "direct-answered", "internal-call", "queue-abandon"] {
        let plain = replay(packets::fixture(name));
        for length in [1, 7, 100, 536, 60_000] {
            let whole = as_tcp(name, length);
            alike(&replay(pcap(RAW, whole.clone())), &plain, &format!("{name} in segments of {length}"));
            let twice = whole.iter().flat_map(|frame| [frame.clone(), frame.clone()]);
            alike(&replay(pcap(RAW, twice)), &plain, &format!("{name} in segments of {length}, twice"));
        }
        // Neighbours change places within what was sent at one time.
        let mut swapped = as_tcp(name, 100);
        let ends: Vec<usize> = (1..swapped.len()).filter(|at| swapped[*at].0 == swapped[*at - 1].0).collect();
        for at in ends.into_iter().step_by(2) {
            swapped.swap(at, at - 1);
        }
        alike(&replay(pcap(RAW, swapped)), &plain, &format!("{name} in another order"));
    }
}

#[test]
fn a_stream_with_a_hole_loses_only_the_message_that_the_hole_is_in() {
    let mut frames = as_tcp("direct-answered", 100);
    let messages = replay(pcap(RAW, frames.clone())).totals().messages;
    frames.remove(3);
    let found = replay(pcap(RAW, frames)).totals();
    assert_eq!((found.messages, found.skipped.tcp_gaps), (messages - 1, 1));
}

#[test]
fn a_packet_captured_twice_counts_once() {
    for name in NAMES {
        let plain = replay(packets::fixture(name));
        let twice = ip(name).into_iter().flat_map(|packet| {
            let mut routed = packet.ip.clone();
            routed[8] -= 1;
            [(packet.at_us, packet.ip), (packet.at_us + 20, routed)]
        });
        let found = replay(pcap(RAW, twice));
        assert_eq!(found.events(), plain.events(), "{name}");
        let (found, plain) = (found.totals(), plain.totals());
        assert_eq!((found.messages, &found.requests), (plain.messages, &plain.requests), "{name}");
        assert!(found.captured_twice + found.skipped.tcp_again >= found.messages, "{name}");
    }
}

/// HEP packets as datagrams and as a stream, each captured when it says so.
fn on_the_wire(packets: &[Vec<u8>]) -> [Vec<u8>; 2] {
    let head = |packet: &[u8]| {
        let length = u16::try_from(packet.len() + 8).unwrap().to_be_bytes();
        [&[0x9c, 0x40, 0x23, 0x64, length[0], length[1], 0, 0][..], packet].concat()
    };
    let udp = packets.iter().map(|packet| (stamp(packet), ipv4(&[9; 20], 17, 7, 0, &head(packet))));
    let mut sequence = 100;
    let mut segments = Vec::new();
    for packet in packets {
        for piece in packet.chunks(200) {
            segments.push((stamp(packet), ipv4(&[9; 20], 6, 1, 0, &tcp(&head(b""), sequence, 0x18, piece))));
            sequence += u32::try_from(piece.len()).unwrap();
        }
    }
    [pcap(RAW, udp), pcap(RAW, segments)]
}

/// When a HEP packet says it was captured.
fn stamp(packet: &[u8]) -> u64 {
    let (seconds, micros) = hookswitch::sip::hep::decode(packet).unwrap().captured.unwrap();
    u64::from(seconds) * 1_000_000 + u64::from(micros)
}

#[test]
fn hep_in_udp_and_in_tcp_is_unwrapped() {
    let from_dump = replay(std::fs::read("fixtures/hep/asterisk-direct-answered.bin").unwrap());
    let packets = recorded("asterisk-direct-answered");
    let plain = replay(packets.concat());
    assert_eq!((plain.events(), plain.totals()), (from_dump.events(), from_dump.totals()));
    for capture in on_the_wire(&packets) {
        assert_eq!(replay(capture).events(), from_dump.events());
    }
    assert_eq!(from_dump.totals().messages, 13);
}

#[test]
fn hep_that_is_compressed_is_read_up_to_what_a_message_may_be() {
    let packets = recorded("asterisk-direct-answered");
    let plain = replay(packets.concat());
    let packed: Vec<Vec<u8>> = packets.iter().map(|packet| compressed(packet, message(packet))).collect();
    let [udp, tcp] = on_the_wire(&packed);
    for capture in [packed.concat(), udp, tcp] {
        assert_eq!(replay(capture).events(), plain.events());
    }
    // One more that swells beyond any message, and one that is no zlib.
    let mut broken = compressed(&packets[0], message(&packets[0]));
    let end = broken.len() - 20;
    broken[end..].fill(0);
    let [udp, tcp] = on_the_wire(&[&packed[..], &[compressed(&packets[0], &vec![b' '; 10_000_000]), broken]].concat());
    for capture in [udp, tcp] {
        let totals = replay(capture).totals();
        assert_eq!((totals.messages, totals.skipped.broken_hep, totals.skipped.other_hep), (13, 2, 0));
    }
}
