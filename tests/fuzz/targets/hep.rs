//! A HEP packet, and a stream that begins with it.

use hookswitch::sip::hep::{self, Content, HepError, Packets};
use hookswitch::sip::scan::MESSAGE_LEN_MAX;

/// Decodes a packet; what it says it holds, it holds. Then as a stream, cut anywhere.
pub fn run(bytes: &[u8]) {
    let _ = hep::is_hep(bytes);
    if let Ok(packet) = hep::decode(bytes) {
        assert!((1..=3).contains(&packet.version) && !packet.payload.is_empty());
        for part in [Some(packet.payload), packet.key, packet.correlation].into_iter().flatten() {
            assert!(part.is_empty() || bytes.as_ptr_range().contains(&part.as_ptr()), "it is of the packet");
        }
        if packet.content == Content::Compressed
            && let Ok(message) = hep::inflate(packet.payload)
        {
            assert!((1..=MESSAGE_LEN_MAX).contains(&message.len()));
        }
    }
    let middle = bytes.len() / 2;
    assert_eq!(stream(&[bytes]), stream(&[&bytes[..middle], &bytes[middle..]]));
}

/// The packets of a stream that arrives in `pieces`; after an error it is given up.
fn stream(pieces: &[&[u8]]) -> Vec<Result<Vec<u8>, HepError>> {
    let (mut packets, mut found) = (Packets::default(), Vec::new());
    for piece in pieces {
        packets.push(piece);
        for packet in packets.by_ref() {
            let lost = packet.is_err();
            found.push(packet.map(|packet| packet.to_vec()));
            if lost {
                return found;
            }
        }
        assert!(packets.pending() < usize::from(u16::MAX), "it holds less than one packet");
    }
    found
}
