//! The recordings under `fixtures/esl`.

use std::collections::HashMap;
use std::path::PathBuf;

use hookswitch::ingest::freeswitch::codec::{Codec, Frame};

/// The bytes of a file.
pub fn bytes(file: &str) -> Vec<u8> {
    let path = PathBuf::from("fixtures/esl").join(file);
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The frames of `esl-FORMAT-NAME.txt`, with the bytes each came in.
pub fn frames(format: &str, name: &str) -> Vec<(Vec<u8>, Frame)> {
    cut(&bytes(&format!("esl-{format}-{name}.txt")))
}

/// The frames in some bytes, each with the bytes it came in.
pub fn cut(bytes: &[u8]) -> Vec<(Vec<u8>, Frame)> {
    let (mut codec, mut found, mut begin) = (Codec::default(), Vec::new(), 0);
    for (at, byte) in bytes.iter().enumerate() {
        codec.push(std::slice::from_ref(byte));
        while let Some(frame) = codec.take().expect("recordings are well formed") {
            found.push((bytes[begin..=at].to_vec(), frame));
            begin = at + 1;
        }
    }
    assert_eq!(begin, bytes.len(), "a recording ends with a frame");
    found
}

/// When a frame's event happened, in microseconds.
pub fn stamp(frame: &Frame) -> Option<i64> {
    match frame {
        Frame::Event(event) => event.get("Event-Date-Timestamp").parse().ok(),
        _ => None,
    }
}

/// The answers in `esl-NAME.actions.txt` by what was asked, in order.
pub fn answers(name: &str) -> HashMap<String, Vec<String>> {
    let text = String::from_utf8(bytes(&format!("esl-{name}.actions.txt"))).expect("recordings are text");
    let (mut answers, mut rest): (HashMap<String, Vec<String>>, _) = (HashMap::new(), text.as_str());
    while let Some(at) = rest.find(">>> ") {
        let (command, after) = rest[at + 4..].split_once('\n').expect("a command ends its line");
        rest = after;
        let Some(begun) = after.strip_prefix("Content-Type: api/response\nContent-Length: ") else { continue };
        let (length, body) = begun.split_once("\n\n").expect("headers end");
        let body = &body[..length.parse().expect("a length")];
        answers.entry(command.to_owned()).or_default().push(body.to_owned());
        rest = &begun[length.len() + 2 + body.len()..];
    }
    answers
}

/// The packets of `hep-NAME.bin` with their stamps in microseconds.
pub fn hep(name: &str) -> Vec<(i64, Vec<u8>)> {
    let bytes = bytes(&format!("hep-{name}.bin"));
    let (mut rest, mut packets) = (bytes.as_slice(), Vec::new());
    while let Some((length, after)) = rest.split_first_chunk::<4>() {
        let (packet, after) = after.split_at(u32::from_be_bytes(*length) as usize);
        let (seconds, micros) =
            hookswitch::sip::hep::decode(packet).expect("a packet").captured.expect("it has a stamp");
        packets.push((i64::from(seconds) * 1_000_000 + i64::from(micros), packet.to_vec()));
        rest = after;
    }
    packets
}
