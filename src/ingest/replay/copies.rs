//! Messages seen a moment ago: what is captured twice counts once.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, Hasher};

use super::sockets;
use crate::ingest::capture::Heard;
use crate::model::FeedKind;

/// What a message is to those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Copy {
    /// It was not seen lately, or was sent again.
    New,
    /// The same packet, captured twice.
    SamePacket,
    /// The same message on another way: before and behind an address translation, or at two points of capture.
    OtherWay,
}

/// Hashes of the messages of the last half second at least.
pub(super) struct Copies {
    hasher: foldhash::fast::FixedState,
    /// Those since `young_since_us`, and those of the half second before. They are forgotten all at once: to look for each
    /// again, in memory that is cold by then, would cost as much as noting it.
    young: HashMap<u64, Seen, foldhash::fast::FixedState>,
    old: HashMap<u64, Seen, foldhash::fast::FixedState>,
    young_since_us: i64,
    /// Messages forgotten within half a second, because there were too many.
    pub(super) crowded: u64,
}

#[derive(Clone, Copy)]
struct Seen {
    at_us: i64,
    /// Hash of the addresses it went between.
    way: u64,
    packet: Option<u32>,
}

impl Copies {
    pub(super) fn new() -> Self {
        let hasher = foldhash::fast::FixedState::default();
        Self { hasher, young: HashMap::default(), old: HashMap::default(), young_since_us: i64::MIN, crowded: 0 }
    }

    /// Says what this one is, and remembers it.
    pub(super) fn take(&mut self, heard: &Heard<'_>) -> Copy {
        let at_us = heard.at_us;
        self.forget(at_us);
        let key = {
            let mut hash = self.hasher.build_hasher();
            hash.write(heard.bytes);
            hash.finish()
        };
        let way = self.hasher.hash_one((heard.source.map(sockets::key), heard.destination.map(sockets::key)));
        let seen = Seen { at_us, way, packet: heard.packet };
        let before = self.young.get(&key).or_else(|| self.old.get(&key));
        if let Some(before) = before.filter(|before| at_us.saturating_sub(before.at_us) < COPY_US) {
            if before.way != seen.way {
                return Copy::OtherWay;
            }
            // Without a number of the packet only time can tell it from one that was sent again.
            let is_same = match (before.packet, seen.packet, heard.feed) {
                (Some(before), Some(now), _) => before == now,
                (_, _, FeedKind::Hep) => true,
                _ => at_us.saturating_sub(before.at_us).abs() < UNNUMBERED_US,
            };
            if is_same {
                return Copy::SamePacket;
            }
        }
        self.young.insert(key, seen);
        Copy::New
    }

    fn forget(&mut self, at_us: i64) {
        let is_full = self.young.len() >= YOUNG_MAX;
        if !is_full && at_us.saturating_sub(self.young_since_us) < COPY_US {
            return;
        }
        if is_full {
            let missed = self.old.values().filter(|seen| at_us.saturating_sub(seen.at_us) < COPY_US).count();
            self.crowded += u64::try_from(missed).unwrap_or(u64::MAX);
        }
        std::mem::swap(&mut self.young, &mut self.old);
        self.young.clear();
        self.young_since_us = at_us;
    }
}

/// Capture points and HEP agents are so far apart at most; no timer of SIP sends anything again sooner (RFC 3261 T1).
const COPY_US: i64 = 500_000;
/// The same where packets have no number (IPv6, and Linux where nothing may be fragmented).
const UNNUMBERED_US: i64 = 100_000;
const YOUNG_MAX: usize = 65_536;

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;
    use crate::model::Transport;

    fn heard(at_us: i64, source: u16, packet: Option<u32>, feed: FeedKind) -> Heard<'static> {
        let source = Some(SocketAddr::from(([192, 0, 2, 1], source)));
        Heard { at_us, source, destination: None, transport: Transport::Udp, packet, feed, bytes: b"BYE" }
    }

    #[test]
    fn a_packet_captured_twice_is_told_from_a_message_sent_again() {
        let mut copies = Copies::new();
        assert_eq!(copies.take(&heard(0, 1, Some(7), FeedKind::Mirror)), Copy::New);
        assert_eq!(copies.take(&heard(90, 1, Some(7), FeedKind::Mirror)), Copy::SamePacket);
        assert_eq!(copies.take(&heard(90, 2, Some(7), FeedKind::Mirror)), Copy::OtherWay);
        assert_eq!(copies.take(&heard(1_000, 1, Some(8), FeedKind::Mirror)), Copy::New);
        assert_eq!(copies.take(&heard(700_000, 1, None, FeedKind::Mirror)), Copy::New);
        assert_eq!(copies.take(&heard(799_999, 1, None, FeedKind::Mirror)), Copy::SamePacket);
        assert_eq!(copies.take(&heard(800_000, 1, None, FeedKind::Mirror)), Copy::New);
        assert_eq!(copies.take(&heard(1_200_000, 1, None, FeedKind::Hep)), Copy::SamePacket);
    }

    #[test]
    fn it_holds_no_more_than_a_second_and_a_bound() {
        let take = |copies: &mut Copies, number: usize, at_us| {
            let bytes = number.to_string();
            copies.take(&Heard { bytes: bytes.as_bytes(), ..heard(at_us, 1, None, FeedKind::Mirror) })
        };
        let mut copies = Copies::new();
        for at_us in (0..10_000_000).step_by(100_000) {
            take(&mut copies, usize::try_from(at_us).unwrap(), at_us);
            assert!(copies.young.len() + copies.old.len() <= 10);
        }
        assert_eq!(copies.crowded, 0);
        let all = 3 * YOUNG_MAX;
        (0..all).for_each(|number| assert_eq!(take(&mut copies, number, 20_000_000), Copy::New));
        assert_eq!((copies.young.len() + copies.old.len(), copies.crowded), (2 * YOUNG_MAX, YOUNG_MAX as u64));
        assert_eq!(take(&mut copies, all - 1, 20_000_001), Copy::SamePacket);
    }
}
