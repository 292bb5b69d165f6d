//! Messages seen a moment ago: what is captured twice counts once.

use std::collections::{HashMap, VecDeque};
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

/// Hashes of the messages of the last half second.
pub(super) struct Copies {
    hasher: foldhash::fast::FixedState,
    seen: HashMap<u64, Seen, foldhash::fast::FixedState>,
    order: VecDeque<(i64, u64)>,
    /// Messages that could not be compared with all of the last half second.
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
        Self { hasher, seen: HashMap::default(), order: VecDeque::new(), crowded: 0 }
    }

    /// Says what this one is, and remembers it.
    pub(super) fn take(&mut self, heard: &Heard<'_>) -> Copy {
        let at_us = heard.at_us;
        while self.order.front().is_some_and(|(then, _)| at_us.saturating_sub(*then) >= COPY_US) {
            self.forget_first();
        }
        let key = {
            let mut hash = self.hasher.build_hasher();
            hash.write(heard.bytes);
            hash.finish()
        };
        let way = self.hasher.hash_one((heard.source.map(sockets::key), heard.destination.map(sockets::key)));
        let seen = Seen { at_us, way, packet: heard.packet };
        if let Some(before) = self.seen.get(&key) {
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
        if self.order.len() >= SEEN_MAX {
            self.crowded += 1;
            self.forget_first();
        }
        self.seen.insert(key, seen);
        self.order.push_back((at_us, key));
        Copy::New
    }

    fn forget_first(&mut self) {
        let Some((then, key)) = self.order.pop_front() else { return };
        if self.seen.get(&key).is_some_and(|seen| seen.at_us == then) {
            self.seen.remove(&key);
        }
    }
}

/// Capture points and HEP agents are so far apart at most; no timer of SIP sends anything again sooner (RFC 3261 T1).
const COPY_US: i64 = 500_000;
/// The same where packets have no number (IPv6, and Linux where nothing may be fragmented).
const UNNUMBERED_US: i64 = 100_000;
const SEEN_MAX: usize = 131_072;

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
    fn it_holds_no_more_than_half_a_second_and_a_bound() {
        let mut copies = Copies::new();
        for port in 0..u16::MAX {
            copies.take(&heard(i64::from(port) * 100_000, port, None, FeedKind::Mirror));
        }
        assert!(copies.order.len() <= 5 && copies.seen.len() <= 5);
    }
}
