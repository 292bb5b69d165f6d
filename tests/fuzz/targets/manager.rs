//! Asterisk's manager interface: the stream of messages, and what the decoder makes of them.

use hookswitch::ingest::asterisk::codec::{Codec, Frame};
use hookswitch::ingest::asterisk::exercise;

/// The messages are the same wherever the stream is cut; the decoder takes whatever they say.
pub fn run(bytes: &[u8]) {
    let middle = bytes.len() / 2;
    assert_eq!(stream(&[bytes]), stream(&[&bytes[..middle], &bytes[middle..]]));
    exercise(bytes);
}

/// The messages of a stream that arrives in `pieces`.
fn stream(pieces: &[&[u8]]) -> Vec<Frame> {
    let (mut codec, mut found) = (Codec::default(), Vec::new());
    for piece in pieces {
        codec.push(piece);
        found.extend(std::iter::from_fn(|| codec.next_frame()));
    }
    found
}
