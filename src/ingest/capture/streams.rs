//! TCP connections, each direction on its own: segments put back in order, messages cut out of them.
//!
//! A capture may begin in the middle of a connection and may lack segments. Then the next place where a message begins
//! is looked for, and what lies before it is counted.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::SocketAddr;

use super::Skipped;
use super::payload::{begins_sip, find_sip, may_begin_sip};
use crate::sip::hep::{self, Packets};
use crate::sip::{Frame, Framer};

/// One direction of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Flow {
    pub(super) source: SocketAddr,
    pub(super) destination: SocketAddr,
}

/// A TCP segment.
#[derive(Clone, Copy)]
pub(super) struct Segment<'a> {
    pub(super) sequence: u32,
    pub(super) begins: bool,
    pub(super) finishes: bool,
    pub(super) resets: bool,
    pub(super) payload: &'a [u8],
}

/// What was cut out of a stream.
pub(super) enum Cut<'a> {
    Sip(&'a [u8]),
    Hep(&'a [u8]),
}

/// All connections.
#[derive(Default)]
pub(super) struct Streams {
    flows: HashMap<Flow, Stream>,
    /// Those that wait for a missing segment, by when they give up.
    waiting: BTreeSet<(i64, Flow)>,
    held: usize,
}

#[derive(Default)]
struct Stream {
    /// Sequence number of the next byte.
    next: u32,
    /// Its beginning was captured, or messages were found in it: missing segments are worth waiting for.
    is_followed: bool,
    content: Content,
    /// Segments behind a gap, by their distance from `next` when they came.
    ahead: BTreeMap<u32, Box<[u8]>>,
    ahead_len: usize,
    /// When the gap is given up.
    gives_up_us: Option<i64>,
    finishes: bool,
    heard_us: i64,
}

#[derive(Default)]
enum Content {
    /// No message begins in what was seen; the bytes may be the start of one.
    #[default]
    Unknown,
    Begun(Vec<u8>),
    Sip(Framer),
    Hep(Packets),
}

impl<'a> Segment<'a> {
    /// Reads a TCP header; none when it makes no sense.
    pub(super) fn read(bytes: &'a [u8]) -> Option<(u16, u16, Self)> {
        let header = bytes.first_chunk::<20>()?;
        let payload = bytes.get(usize::from(header[12] >> 4).max(5) * 4..)?;
        let flag = |bit: u8| header[13] & bit != 0;
        let segment = Self {
            sequence: u32::from_be_bytes([header[4], header[5], header[6], header[7]]),
            begins: flag(2),
            finishes: flag(1),
            resets: flag(4),
            payload,
        };
        Some((u16::from_be_bytes([header[0], header[1]]), u16::from_be_bytes([header[2], header[3]]), segment))
    }
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
        let stream = self.flows.entry(flow).or_insert_with(|| Stream { next: segment.sequence, ..Stream::default() });
        stream.heard_us = at_us;
        stream.finishes |= segment.finishes;
        self.held -= stream.ahead_len;
        stream.segment(segment, skipped, &mut |cut| out(flow, cut));
        self.held += stream.ahead_len;
        if segment.resets || (stream.finishes && stream.ahead.is_empty()) {
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
        self.flows.insert(flow, Stream { next, is_followed: true, heard_us: at_us, ..Stream::default() });
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
        while stream.ahead_len > AHEAD_MAX || stream.ahead.len() > SEGMENTS_AHEAD_MAX || self.held > HELD_MAX {
            if !stream.skip_gap(skipped, &mut |cut| out(flow, cut)) {
                break;
            }
        }
        self.held += stream.ahead_len;
        match (stream.ahead.is_empty(), stream.gives_up_us) {
            (true, Some(at)) => {
                stream.gives_up_us = None;
                self.waiting.remove(&(at, flow));
            }
            (false, None) => {
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
        self.flows.retain(|_, stream| !stream.ahead.is_empty() || !silent(stream));
        if self.flows.len() >= STREAMS_MAX {
            let is_ours = |stream: &Stream| matches!(stream.content, Content::Sip(_) | Content::Hep(_));
            self.flows.retain(|_, stream| !stream.ahead.is_empty() || is_ours(stream));
        }
        if self.flows.len() >= STREAMS_MAX {
            self.flows.clear();
            self.waiting.clear();
            self.held = 0;
        }
        skipped.tcp_streams += u64::try_from(before - self.flows.len()).unwrap_or(u64::MAX);
    }
}

impl Stream {
    fn segment(&mut self, segment: &Segment<'_>, skipped: &mut Skipped, out: &mut impl FnMut(Cut<'_>)) {
        let mut payload = segment.payload;
        if payload.is_empty() {
            return;
        }
        let distance = segment.sequence.wrapping_sub(self.next);
        if distance > u32::MAX / 2 {
            let known = usize::try_from(distance.wrapping_neg()).unwrap_or(usize::MAX);
            if known > WINDOW_MAX {
                return self.restart(segment, skipped, out);
            }
            // Sent or captured again; what of it is new counts.
            payload = payload.get(known..).unwrap_or_default();
            if payload.is_empty() {
                skipped.tcp_again += 1;
                return;
            }
        } else if usize::try_from(distance).unwrap_or(usize::MAX) > WINDOW_MAX {
            return self.restart(segment, skipped, out);
        } else if distance > 0 {
            if self.is_followed {
                self.keep(segment.sequence, payload, skipped);
                return;
            }
            self.next = segment.sequence;
        }
        self.feed(payload, skipped, out);
        self.catch_up(skipped, out);
    }

    /// Far from all that was seen: another connection of the same ports, whose beginning was not captured.
    fn restart(&mut self, segment: &Segment<'_>, skipped: &mut Skipped, out: &mut impl FnMut(Cut<'_>)) {
        *self =
            Self { next: segment.sequence, heard_us: self.heard_us, gives_up_us: self.gives_up_us, ..Self::default() };
        self.feed(segment.payload, skipped, out);
    }

    fn keep(&mut self, sequence: u32, payload: &[u8], skipped: &mut Skipped) {
        match self.ahead.get(&sequence) {
            Some(known) if known.len() >= payload.len() => skipped.tcp_again += 1,
            known => {
                self.ahead_len -= known.map_or(0, |known| known.len());
                self.ahead_len += payload.len();
                self.ahead.insert(sequence, payload.into());
            }
        }
    }

    /// Feeds the kept segments that now follow.
    fn catch_up(&mut self, skipped: &mut Skipped, out: &mut impl FnMut(Cut<'_>)) {
        while let Some((sequence, distance)) = self.nearest() {
            if distance > 0 && distance <= u32::MAX / 2 {
                return;
            }
            let Some(payload) = self.ahead.remove(&sequence) else { return };
            self.ahead_len -= payload.len();
            let known = usize::try_from(distance.wrapping_neg()).unwrap_or(usize::MAX);
            match payload.get(known..) {
                Some(new) if !new.is_empty() => self.feed(new, skipped, out),
                _ => skipped.tcp_again += 1,
            }
        }
    }

    /// The kept segment that comes first, and how far behind `next` it begins (beyond half of all numbers: before it).
    fn nearest(&self) -> Option<(u32, u32)> {
        // Sequence numbers wrap: those just before `next` come first, then those after it.
        let behind = self.next.wrapping_sub(u32::MAX / 2);
        let order = |sequence: &u32| sequence.wrapping_sub(behind);
        let sequence = *self.ahead.keys().min_by_key(|sequence| order(sequence))?;
        Some((sequence, sequence.wrapping_sub(self.next)))
    }

    /// Goes on behind the gap. False when there is none.
    fn skip_gap(&mut self, skipped: &mut Skipped, out: &mut impl FnMut(Cut<'_>)) -> bool {
        let Some((sequence, distance)) = self.nearest() else { return false };
        skipped.tcp_gaps += 1;
        if distance <= u32::MAX / 2 {
            self.next = sequence;
        }
        self.content = Content::Unknown;
        self.catch_up(skipped, out);
        true
    }

    fn feed(&mut self, payload: &[u8], skipped: &mut Skipped, out: &mut impl FnMut(Cut<'_>)) {
        self.next = self.next.wrapping_add(u32::try_from(payload.len()).unwrap_or(0));
        match &mut self.content {
            Content::Unknown => self.look(payload, skipped, out),
            Content::Begun(begun) => {
                let mut whole = std::mem::take(begun);
                whole.extend_from_slice(payload);
                self.content = Content::Unknown;
                self.look(&whole, skipped, out);
            }
            Content::Sip(framer) => {
                framer.push(payload);
                self.drain(skipped, out);
            }
            Content::Hep(packets) => {
                packets.push(payload);
                self.drain(skipped, out);
            }
        }
    }

    /// Looks for the beginning of a message.
    fn look(&mut self, bytes: &[u8], skipped: &mut Skipped, out: &mut impl FnMut(Cut<'_>)) {
        let count = |length: usize| u64::try_from(length).unwrap_or(u64::MAX);
        if hep::is_hep(bytes) && matches!(hep::length(bytes), Ok(Some(_))) {
            let mut packets = Packets::default();
            packets.push(bytes);
            self.content = Content::Hep(packets);
        } else if let Some(at) = find_sip(bytes) {
            skipped.tcp_other_bytes += count(at);
            let mut framer = Framer::new();
            framer.push(bytes.get(at..).unwrap_or_default());
            self.content = Content::Sip(framer);
        } else {
            if self.is_followed && may_begin_sip(bytes) {
                self.content = Content::Begun(bytes.to_vec());
            } else {
                skipped.tcp_other_bytes += count(bytes.len());
            }
            return;
        }
        self.is_followed = true;
        self.drain(skipped, out);
    }

    fn drain(&mut self, skipped: &mut Skipped, out: &mut impl FnMut(Cut<'_>)) {
        let broken = match &mut self.content {
            Content::Sip(framer) => loop {
                match framer.next() {
                    Some(Ok(Frame::Message(bytes))) if begins_sip(&bytes) => out(Cut::Sip(&bytes)),
                    Some(Ok(Frame::Message(bytes))) => {
                        skipped.tcp_other_bytes += u64::try_from(bytes.len()).unwrap_or(u64::MAX);
                    }
                    Some(Ok(Frame::Ping)) => {}
                    Some(Err(_)) => break true,
                    None => break false,
                }
            },
            Content::Hep(packets) => loop {
                match packets.next() {
                    Some(Ok(bytes)) => out(Cut::Hep(&bytes)),
                    Some(Err(_)) => break true,
                    None => break false,
                }
            },
            Content::Unknown | Content::Begun(_) => false,
        };
        if broken {
            skipped.tcp_broken += 1;
            self.content = Content::Unknown;
        }
    }
}

/// How long a missing segment is waited for.
const GAP_US: i64 = 2_000_000;
const AHEAD_MAX: usize = 256 * 1024;
const SEGMENTS_AHEAD_MAX: usize = 256;
/// Segments kept in all.
const HELD_MAX: usize = 64 * 1024 * 1024;
const STREAMS_MAX: usize = 65_536;
const SILENT_US: i64 = 600_000_000;
/// Further from the expected sequence number than any window is: another connection.
const WINDOW_MAX: usize = 16 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

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
