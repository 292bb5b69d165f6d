//! TCP connections, each direction on its own, within bounds.

use std::collections::{BTreeSet, HashMap};

use super::Skipped;
use super::messages::Cut;
use super::segment::{Flow, Segment};
use super::stream::{Stream, WINDOW_MAX};

/// All connections.
#[derive(Default)]
pub(super) struct Streams {
    flows: HashMap<Flow, Stream>,
    /// Those that wait for a missing segment, by when they give up.
    waiting: BTreeSet<(i64, Flow)>,
    held: usize,
}

impl Streams {
    /// Takes one segment and hands what is whole by now to `out`, in the stream's order.
    pub(super) fn take(
        &mut self,
        at_us: i64,
        flow: Flow,
        segment: &Segment<'_>,
        skipped: &mut Skipped,
        out: &mut impl FnMut(Flow, Cut<'_>),
    ) {
        self.give_up(at_us, skipped, out);
        if segment.begins {
            self.begin(at_us, flow, segment.sequence.wrapping_add(1), skipped);
            return;
        }
        // Bare acknowledgements begin no stream.
        if segment.payload.is_empty() && !self.flows.contains_key(&flow) {
            return;
        }
        self.make_room(at_us, skipped);
        let stream = self.flows.entry(flow).or_insert_with(|| Stream::new(segment.sequence, false, at_us));
        stream.heard_us = at_us;
        stream.finishes |= segment.finishes;
        self.held -= stream.ahead_len;
        stream.segment(segment, skipped, &mut |cut| out(flow, cut));
        self.held += stream.ahead_len;
        if segment.resets || (stream.finishes && !stream.has_gap()) {
            self.end(flow, skipped, out);
        } else {
            self.wait(at_us, flow, skipped, out);
        }
    }

    /// The capture is over: what waits for missing segments waits no longer.
    pub(super) fn finish(&mut self, skipped: &mut Skipped, out: &mut impl FnMut(Flow, Cut<'_>)) {
        self.give_up(i64::MAX, skipped, out);
        self.flows.clear();
        self.held = 0;
    }

    fn begin(&mut self, at_us: i64, flow: Flow, next: u32, skipped: &mut Skipped) {
        if let Some(known) = self.flows.get_mut(&flow) {
            // The same SYN again, or one that was captured behind the data it came before.
            let behind = usize::try_from(known.next.wrapping_sub(next)).unwrap_or(usize::MAX);
            if behind <= WINDOW_MAX && at_us.saturating_sub(known.heard_us) < GAP_US {
                known.is_followed = true;
                return;
            }
        }
        self.forget(flow);
        self.make_room(at_us, skipped);
        self.flows.insert(flow, Stream::new(next, true, at_us));
    }

    fn end(&mut self, flow: Flow, skipped: &mut Skipped, out: &mut impl FnMut(Flow, Cut<'_>)) {
        if let Some(stream) = self.flows.get_mut(&flow) {
            self.held -= stream.ahead_len;
            while stream.skip_gap(skipped, &mut |cut| out(flow, cut)) {}
            self.held += stream.ahead_len;
        }
        self.forget(flow);
    }

    fn forget(&mut self, flow: Flow) {
        if let Some(stream) = self.flows.remove(&flow) {
            self.held -= stream.ahead_len;
            if let Some(at) = stream.gives_up_us {
                self.waiting.remove(&(at, flow));
            }
        }
    }

    /// Notes until when the stream waits, if it has a gap; one that holds too much waits no longer.
    fn wait(&mut self, at_us: i64, flow: Flow, skipped: &mut Skipped, out: &mut impl FnMut(Flow, Cut<'_>)) {
        let Some(stream) = self.flows.get_mut(&flow) else { return };
        self.held -= stream.ahead_len;
        while stream.is_crowded() || self.held > HELD_MAX {
            if !stream.skip_gap(skipped, &mut |cut| out(flow, cut)) {
                break;
            }
        }
        self.held += stream.ahead_len;
        match (stream.has_gap(), stream.gives_up_us) {
            (false, Some(at)) => {
                stream.gives_up_us = None;
                self.waiting.remove(&(at, flow));
            }
            (true, None) => {
                let at = at_us.saturating_add(GAP_US);
                stream.gives_up_us = Some(at);
                self.waiting.insert((at, flow));
            }
            _ => {}
        }
    }

    fn give_up(&mut self, at_us: i64, skipped: &mut Skipped, out: &mut impl FnMut(Flow, Cut<'_>)) {
        while self.waiting.first().is_some_and(|(at, _)| *at <= at_us) {
            let Some((_, flow)) = self.waiting.pop_first() else { return };
            let Some(stream) = self.flows.get_mut(&flow) else { continue };
            stream.gives_up_us = None;
            self.held -= stream.ahead_len;
            while stream.skip_gap(skipped, &mut |cut| out(flow, cut)) {}
            self.held += stream.ahead_len;
            if stream.finishes {
                self.forget(flow);
            }
        }
    }

    /// Keeps the number of connections within its bound: those that were silent go first, then those without a message.
    fn make_room(&mut self, at_us: i64, skipped: &mut Skipped) {
        if self.flows.len() < STREAMS_MAX {
            return;
        }
        let before = self.flows.len();
        let silent = |stream: &Stream| at_us.saturating_sub(stream.heard_us) > SILENT_US;
        self.flows.retain(|_, stream| stream.has_gap() || !silent(stream));
        if self.flows.len() >= STREAMS_MAX {
            self.flows.retain(|_, stream| stream.has_gap() || stream.has_messages());
        }
        if self.flows.len() >= STREAMS_MAX {
            self.flows.clear();
            self.waiting.clear();
            self.held = 0;
        }
        skipped.tcp_streams += u64::try_from(before - self.flows.len()).unwrap_or(u64::MAX);
    }
}

/// How long a missing segment is waited for.
const GAP_US: i64 = 2_000_000;
/// Segments kept in all.
const HELD_MAX: usize = 64 * 1024 * 1024;
const STREAMS_MAX: usize = 65_536;
const SILENT_US: i64 = 600_000_000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ingest::capture::stream::AHEAD_MAX;

    const BYE: &[u8] = b"BYE sip:a@b SIP/2.0\r\nl: 3\r\n\r\nabc";
    const ACK: &[u8] = b"ACK sip:a@b SIP/2.0\r\nl: 0\r\n\r\n";

    fn flow() -> Flow {
        Flow { source: "192.0.2.1:5060".parse().unwrap(), destination: "192.0.2.2:5060".parse().unwrap() }
    }

    struct Wire {
        streams: Streams,
        skipped: Skipped,
        heard: Vec<Vec<u8>>,
        at_us: i64,
    }

    impl Wire {
        fn new(first: u32) -> Self {
            let mut wire = Self { streams: Streams::default(), skipped: Skipped::default(), heard: vec![], at_us: 0 };
            wire.send(Segment {
                sequence: first.wrapping_sub(1),
                begins: true,
                finishes: false,
                resets: false,
                payload: b"",
            });
            wire
        }

        fn send(&mut self, segment: Segment<'_>) {
            let heard = &mut self.heard;
            self.streams.take(self.at_us, flow(), &segment, &mut self.skipped, &mut |_, cut| match cut {
                Cut::Sip(bytes) | Cut::Hep(bytes) => heard.push(bytes.to_vec()),
            });
        }

        fn data(&mut self, sequence: u32, payload: &[u8]) {
            self.send(Segment { sequence, begins: false, finishes: false, resets: false, payload });
        }
    }

    #[test]
    fn segments_in_any_order_twice_and_overlapping_give_every_message_once_across_the_wrap_of_the_numbers() {
        let stream = [BYE, ACK, BYE].concat();
        for first in [1, u32::MAX - 20] {
            let mut wire = Wire::new(first);
            let at = |offset: usize| first.wrapping_add(u32::try_from(offset).unwrap());
            let mut cuts: Vec<usize> = (0..stream.len()).step_by(7).collect();
            cuts.reverse();
            cuts.swap(0, 2);
            for offset in cuts {
                let end = stream.len().min(offset + 10);
                wire.data(at(offset), &stream[offset..end]);
                wire.data(at(offset), &stream[offset..end]);
            }
            assert_eq!(wire.heard, [BYE, ACK, BYE], "{first}");
            assert_eq!((wire.streams.held, wire.streams.waiting.len()), (0, 0));
        }
    }

    #[test]
    fn a_capture_that_begins_within_a_message_finds_the_next_one() {
        let mut wire = Wire::new(1);
        wire.streams = Streams::default();
        wire.data(500, b"ample>\r\nContent-Length: 0\r\n\r\n");
        wire.data(529, BYE);
        assert_eq!((wire.heard.len(), wire.skipped.tcp_other_bytes), (1, 29));
    }

    #[test]
    fn behind_a_segment_that_never_comes_it_goes_on_after_a_while() {
        let mut wire = Wire::new(1);
        let second = 1 + u32::try_from(BYE.len()).unwrap();
        wire.data(second + 5, &ACK[5..]);
        wire.data(second + u32::try_from(ACK.len()).unwrap(), BYE);
        assert!(wire.heard.is_empty());
        wire.at_us = GAP_US;
        wire.send(Segment { sequence: 1, begins: false, finishes: false, resets: false, payload: b"" });
        assert_eq!((&*wire.heard, wire.skipped.tcp_gaps), (&[BYE.to_vec()][..], 1));
    }

    #[test]
    fn a_peer_that_never_fills_its_gap_is_held_to_a_bound() {
        let mut wire = Wire::new(1);
        for sequence in 0..10_000_u32 {
            wire.data(100 + sequence * 1_000, &[b'a'; 999]);
            assert!(wire.streams.held <= AHEAD_MAX + 1_000);
        }
    }

    #[test]
    fn other_protocols_are_stepped_over() {
        let mut wire = Wire::new(1);
        wire.data(1, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n");
        wire.data(28, ACK);
        assert_eq!((wire.heard.len(), wire.skipped.tcp_other_bytes), (1, 27));
    }
}
