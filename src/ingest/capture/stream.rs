//! One direction of a connection: its segments put back in order.

use std::collections::BTreeMap;

use super::Skipped;
use super::messages::{Cut, Messages};
use super::segment::Segment;

/// What was seen of it and what is missing.
#[derive(Default)]
pub(super) struct Stream {
    /// Sequence number of the next byte.
    pub(super) next: u32,
    /// Its beginning was captured, or messages were found in it: missing segments are worth waiting for.
    pub(super) is_followed: bool,
    messages: Messages,
    /// Segments behind a gap, by their sequence number.
    ahead: BTreeMap<u32, Box<[u8]>>,
    pub(super) ahead_len: usize,
    /// When the gap is given up.
    pub(super) gives_up_us: Option<i64>,
    pub(super) finishes: bool,
    pub(super) heard_us: i64,
}

impl Stream {
    /// One whose next byte has this number; `is_followed` = its beginning was captured.
    pub(super) fn new(next: u32, is_followed: bool, heard_us: i64) -> Self {
        Self { next, is_followed, heard_us, ..Self::default() }
    }

    /// Whether it waits for a missing segment.
    pub(super) fn has_gap(&self) -> bool {
        !self.ahead.is_empty()
    }

    /// Whether more is kept behind a gap than a window has.
    pub(super) fn is_crowded(&self) -> bool {
        self.ahead_len > AHEAD_MAX || self.ahead.len() > SEGMENTS_AHEAD_MAX
    }

    /// Whether messages were found in it.
    pub(super) fn has_messages(&self) -> bool {
        self.messages.are_found()
    }

    /// Takes a segment; what is in order by now is searched for messages, what lies behind a gap is kept.
    pub(super) fn segment(&mut self, segment: &Segment<'_>, skipped: &mut Skipped, out: &mut impl FnMut(Cut<'_>)) {
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
        let new = Self::new(segment.sequence, false, self.heard_us);
        *self = Self { gives_up_us: self.gives_up_us, ..new };
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
    pub(super) fn skip_gap(&mut self, skipped: &mut Skipped, out: &mut impl FnMut(Cut<'_>)) -> bool {
        let Some((sequence, distance)) = self.nearest() else { return false };
        skipped.tcp_gaps += 1;
        if distance <= u32::MAX / 2 {
            self.next = sequence;
        }
        self.messages = Messages::Unknown;
        self.catch_up(skipped, out);
        true
    }

    fn feed(&mut self, payload: &[u8], skipped: &mut Skipped, out: &mut impl FnMut(Cut<'_>)) {
        self.next = self.next.wrapping_add(u32::try_from(payload.len()).unwrap_or(0));
        self.is_followed |= self.messages.push(payload, self.is_followed, skipped, out);
    }
}

/// Further from the expected sequence number than any window is: another connection.
pub(super) const WINDOW_MAX: usize = 16 * 1024 * 1024;
pub(super) const AHEAD_MAX: usize = 256 * 1024;
const SEGMENTS_AHEAD_MAX: usize = 256;
