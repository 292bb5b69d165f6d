//! Files that break off, are damaged, or are none: a clear error, what was whole before it, and never a panic.

use std::io::Cursor;

use hookswitch::ingest::capture::FileError;
use hookswitch::ingest::replay::Links;
use proptest::prelude::*;

use crate::heard::{Drip, Found, replay, replay_from};
use crate::support::packets::{self, RAW, ip, packets, pcapng};

fn read(bytes: &[u8]) -> Found {
    replay_from(Box::new(Cursor::new(bytes.to_vec())), &Links::default())
}

/// Every kind of file.
fn files() -> Vec<(String, Vec<u8>)> {
    let mut files = packets::fixtures();
    files.retain(|(_, file)| file.len() > 24);
    files.push(("hep".into(), std::fs::read("fixtures/hep/asterisk-tcp-phone.bin").unwrap()));
    let frames = ip("internal-call").into_iter().map(|packet| (packet.at_us, packet.ip));
    files.push(("pcapng".into(), pcapng(false, u16::try_from(RAW).unwrap(), frames)));
    files
}

#[test]
fn a_file_read_byte_by_byte_gives_the_same() {
    for (name, file) in files() {
        let dripped = replay_from(Box::new(Drip(Cursor::new(file.clone()))), &Links::default());
        let whole = replay(file);
        assert_eq!((dripped.news, dripped.end), (whole.news, whole.end), "{name}");
    }
}

#[test]
fn a_file_cut_anywhere_gives_what_was_whole_and_says_where_it_breaks_off() {
    for (name, file) in files() {
        let whole = read(&file);
        for cut in (1..file.len()).step_by(37) {
            let found = read(&file[..cut]);
            assert_eq!(found.news, whole.news[..found.news.len()], "{name} cut at {cut}");
            match found.errors.as_slice() {
                [] | [FileError::BreaksOff { .. }] => {}
                // Too short to be told.
                [FileError::Unknown { .. }] if cut < 14 => {}
                other => panic!("{name} cut at {cut}: {other:?}"),
            }
        }
    }
}

#[test]
fn a_capture_cut_within_a_packet_names_the_packet_and_its_place() {
    let file = packets::fixture("direct-answered");
    let ends: Vec<usize> = packets(&file).into_iter().map(|(_, end)| end).collect();
    let found = read(&file[..ends[4] + 20]);
    let error = found.errors[0].to_string();
    assert_eq!(
        error,
        format!("capture: breaks off at byte {}, inside packet 6; what was whole before it was replayed", ends[4])
    );
    assert_eq!(found.totals().messages, 5);
    let at_the_end_of_one = read(&file[..ends[4]]);
    assert!(at_the_end_of_one.errors.is_empty());
}

#[test]
fn what_is_no_capture_is_named() {
    let error = |bytes: &[u8]| read(bytes).errors[0].to_string();
    assert_eq!(error(b""), "capture: empty, there is nothing to replay");
    assert!(error(b"hello, world").starts_with("capture: of no known kind; pcap,"), "{}", error(b"hello, world"));
    assert_eq!(error(&[0x1f, 0x8b, 8, 0]), "capture: compressed; unpack it first");
}

#[test]
fn a_damaged_capture_gives_what_was_before_the_damage() {
    let mut file = packets::fixture("direct-answered");
    let ends: Vec<usize> = packets(&file).into_iter().map(|(_, end)| end).collect();
    file[ends[6] + 8..ends[6] + 12].copy_from_slice(&0x7fff_ffff_u32.to_le_bytes());
    file.extend(vec![0; 5_000_000]);
    let found = read(&file);
    assert!(matches!(found.errors[0], FileError::Damaged { number: 8, .. }), "{:?}", found.errors);
    assert_eq!(found.totals().messages, 7);
}

#[test]
fn a_dump_of_something_else_is_damaged_where_it_stops_being_hep() {
    let mut file = std::fs::read("fixtures/hep/asterisk-register.bin").unwrap();
    let length = file.len();
    file.extend_from_slice(b"\xff\xff\xff\xff....");
    let found = read(&file);
    assert_eq!(
        found.errors[0].to_string(),
        format!(
            "capture: damaged at byte {length}: the length of no HEP packet where packet 9 should be; what was whole before it was replayed"
        )
    );
    assert_eq!(found.devices().len(), 2);
}

#[test]
fn stamps_in_no_order_are_no_reason_to_panic() {
    let mut stamps = [0, u64::from(u32::MAX) * 1_000_000, 5, 1_000_000, 0].into_iter().cycle();
    let frames = ip("internal-call").into_iter().map(|packet| (stamps.next().unwrap_or(0), packet.ip));
    let found = read(&packets::pcap(RAW, frames));
    assert_eq!(found.totals().messages, 16);
    assert!(found.totals().clock_set_back > 0);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn garbage_in_every_kind_of_file_never_panics(kind in 0_usize..6, noise in prop::collection::vec(any::<u8>(), 0..2_000)) {
        let head: &[u8] = [
            &[0xd4, 0xc3, 0xb2, 0xa1][..],
            &[0x0a, 0x0d, 0x0d, 0x0a],
            &[0, 0, 1, 0, b'H', b'E', b'P', b'3'],
            b"HEP3",
            b"Asterisk Call Manager/11.0.0\r\n",
            b"",
        ][kind];
        read(&[head, &noise].concat());
    }

    #[test]
    fn a_capture_with_wrong_bytes_in_it_never_panics(
        file in 0_usize..11,
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..30),
    ) {
        let files = files();
        let (_, mut bytes) = files[file % files.len()].clone();
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        read(&bytes);
    }

    #[test]
    fn packets_of_noise_never_panic(
        link in prop::sample::select(vec![0_u32, 1, 9, 51, 101, 108, 113, 276, 7]),
        frames in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 1..20),
    ) {
        let frames = frames.into_iter().map(|frame| (1_000_000, frame));
        read(&packets::pcap(link, frames));
    }
}
