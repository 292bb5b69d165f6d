//! A SIP stream: the same messages come out of it however it is cut.

use hookswitch::sip::frame::{Frame, FrameError, Framer};

/// The first byte says where the rest is cut in pieces.
pub fn run(bytes: &[u8]) {
    let Some((step, stream)) = bytes.split_first() else { return };
    let step = usize::from(*step) + 1;
    let cuts: Vec<usize> = (1..).map(|piece| piece * step).take_while(|cut| *cut < stream.len()).take(200).collect();
    assert_eq!(frames(stream, &cuts), frames(stream, &[]));
}

/// What a stream holds when it arrives cut at `cuts`.
pub fn frames(stream: &[u8], cuts: &[usize]) -> Vec<Result<Frame, FrameError>> {
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
