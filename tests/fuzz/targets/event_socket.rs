//! FreeSWITCH's event socket: the stream of frames, and what the decoder makes of them.

use hookswitch::ingest::freeswitch::codec::{Codec, CodecError, Frame};
use hookswitch::ingest::freeswitch::exercise;

/// The frames are the same wherever the stream is cut; the decoder takes whatever they say.
pub fn run(bytes: &[u8]) {
    let middle = bytes.len() / 2;
    assert_eq!(stream(&[bytes]), stream(&[&bytes[..middle], &bytes[middle..]]));
    exercise(bytes);
}

/// The frames of a stream that arrives in `pieces`; after an error it is given up.
fn stream(pieces: &[&[u8]]) -> Vec<Result<Frame, CodecError>> {
    let (mut codec, mut found) = (Codec::default(), Vec::new());
    for piece in pieces {
        codec.push(piece);
        while let Some(frame) = codec.take().transpose() {
            let lost = frame.is_err();
            found.push(frame);
            if lost {
                return found;
            }
        }
    }
    found
}
