//! Recorded HEP packets.

use miniz_oxide::deflate::compress_to_vec_zlib;

/// The packets of `fixtures/hep/NAME.bin`.
pub fn recorded(name: &str) -> Vec<Vec<u8>> {
    let bytes = std::fs::read(format!("fixtures/hep/{name}.bin")).expect("the fixture is there");
    let (mut rest, mut packets) = (bytes.as_slice(), Vec::new());
    while let Some((length, after)) = rest.split_first_chunk::<4>() {
        let (packet, after) = after.split_at(u32::from_be_bytes(*length) as usize);
        packets.push(packet.to_vec());
        rest = after;
    }
    packets
}

/// Where the body of a chunk of the packet begins.
pub fn at_chunk(packet: &[u8], kind: u8) -> usize {
    let mut at = 6;
    while packet[at..at + 4] != [0, 0, 0, kind] {
        at += usize::from(u16::from_be_bytes([packet[at + 4], packet[at + 5]]));
    }
    at + 6
}

/// The message in the packet: the last chunk of what real PBXs send.
pub fn message(packet: &[u8]) -> &[u8] {
    &packet[at_chunk(packet, 15)..]
}

/// The packet with `message` in it, compressed.
pub fn compressed(packet: &[u8], message: &[u8]) -> Vec<u8> {
    let (head, payload) = (&packet[6..at_chunk(packet, 15) - 6], compress_to_vec_zlib(message, 6));
    let length = |bytes: usize| u16::try_from(bytes).expect("it fits a packet").to_be_bytes();
    let chunk = [&[0, 0, 0, 16][..], &length(payload.len() + 6), &payload].concat();
    [b"HEP3", &length(head.len() + chunk.len() + 6)[..], head, &chunk].concat()
}
