//! IP packets that came in pieces, put back together within bounds.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;

use super::Skipped;
use super::ip::{Fragment, Packet};

/// Packets of which some pieces are there.
#[derive(Default)]
pub(super) struct Fragments {
    partial: HashMap<Key, Partial>,
    /// In the order they began.
    order: VecDeque<(i64, Key)>,
    held: usize,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Key {
    source: IpAddr,
    destination: IpAddr,
    id: Option<u32>,
    /// IPv6 pieces are of one packet whatever they say about the protocol; only the first one's counts.
    protocol: Option<u8>,
}

struct Partial {
    began_us: i64,
    pieces: Vec<(usize, Box<[u8]>)>,
    /// Length of the whole, once the last piece was seen.
    total: Option<usize>,
    protocol: u8,
}

impl Fragments {
    /// Adds a piece; the protocol and payload of the whole when it was the last one missing.
    pub(super) fn add(
        &mut self,
        at_us: i64,
        packet: &Packet<'_>,
        fragment: Fragment,
        skipped: &mut Skipped,
    ) -> Option<(u8, Vec<u8>)> {
        self.forget(at_us, skipped);
        let end = fragment.offset + packet.payload.len();
        // A piece in the middle is a multiple of eight long, and nothing lies beyond what a length field can say.
        if end > PACKET_LEN_MAX || packet.payload.is_empty() || packet.is_cut {
            skipped.fragments += 1;
            return None;
        }
        let protocol = packet.source.is_ipv4().then_some(packet.protocol);
        let key = Key { source: packet.source, destination: packet.destination, id: packet.id, protocol };
        let order = &mut self.order;
        let partial = self.partial.entry(key).or_insert_with(|| {
            order.push_back((at_us, key));
            Partial { began_us: at_us, pieces: Vec::new(), total: None, protocol: packet.protocol }
        });
        if fragment.offset == 0 {
            partial.protocol = packet.protocol;
        }
        if !fragment.has_more {
            partial.total.get_or_insert(end);
        }
        // A piece captured twice says nothing new.
        if partial.pieces.len() < PIECES_MAX && partial.pieces.iter().all(|(offset, _)| *offset != fragment.offset) {
            partial.pieces.push((fragment.offset, packet.payload.into()));
            self.held += packet.payload.len();
        }
        let whole = partial.whole()?;
        let protocol = partial.protocol;
        self.remove(&key);
        Some((protocol, whole))
    }

    /// Lets go of packets whose other pieces will not come any more, or that are too many.
    fn forget(&mut self, at_us: i64, skipped: &mut Skipped) {
        while let Some(&(began_us, key)) = self.order.front() {
            let current = self.partial.get(&key).is_some_and(|partial| partial.began_us == began_us);
            let due = at_us.saturating_sub(began_us) > WAIT_US
                || self.partial.len() >= PACKETS_MAX
                || self.held > HELD_MAX
                || self.order.len() > 2 * PACKETS_MAX;
            if current && !due {
                return;
            }
            self.order.pop_front();
            if current {
                skipped.fragments += self.remove(&key);
            }
        }
    }

    /// How many pieces went.
    fn remove(&mut self, key: &Key) -> u64 {
        let Some(partial) = self.partial.remove(key) else { return 0 };
        self.held -= partial.pieces.iter().map(|(_, piece)| piece.len()).sum::<usize>();
        u64::try_from(partial.pieces.len()).unwrap_or(u64::MAX)
    }
}

impl Partial {
    /// The payload, once there is no hole in it. Where pieces overlap the one at the lower place counts.
    fn whole(&mut self) -> Option<Vec<u8>> {
        let total = self.total?;
        self.pieces.sort_by_key(|(offset, _)| *offset);
        let mut whole = Vec::with_capacity(total);
        for (offset, piece) in &self.pieces {
            let known = whole.len().checked_sub(*offset)?;
            whole.extend_from_slice(piece.get(known..).unwrap_or_default());
        }
        whole.truncate(total);
        (whole.len() == total).then_some(whole)
    }
}

const PACKET_LEN_MAX: usize = 65_535;
/// How long pieces wait for the others (RFC 1122 §3.3.2: 60 s at least for a host; a capture has them together).
const WAIT_US: i64 = 30_000_000;
const PACKETS_MAX: usize = 4_096;
const PIECES_MAX: usize = 64;
const HELD_MAX: usize = 16 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn piece(id: u32, payload: &[u8]) -> Packet<'_> {
        let (source, destination) = (IpAddr::from([192, 0, 2, 1]), IpAddr::from([192, 0, 2, 2]));
        Packet { source, destination, protocol: 17, id: Some(id), fragment: None, payload, is_cut: false }
    }

    fn add(
        fragments: &mut Fragments,
        at_us: i64,
        id: u32,
        offset: usize,
        has_more: bool,
        text: &[u8],
    ) -> Option<String> {
        let fragment = Fragment { offset, has_more };
        let whole = fragments.add(at_us, &piece(id, text), fragment, &mut Skipped::default())?;
        Some(String::from_utf8(whole.1).unwrap())
    }

    #[test]
    fn pieces_in_any_order_and_twice_make_the_whole_once() {
        let mut fragments = Fragments::default();
        assert_eq!(add(&mut fragments, 0, 1, 8, true, b"89abcdef"), None);
        assert_eq!(add(&mut fragments, 0, 1, 8, true, b"89abcdef"), None);
        assert_eq!(add(&mut fragments, 0, 2, 0, true, b"other..."), None);
        assert_eq!(add(&mut fragments, 0, 1, 16, false, b"end"), None);
        assert_eq!(add(&mut fragments, 0, 1, 0, true, b"01234567").as_deref(), Some("0123456789abcdefend"));
        assert_eq!((fragments.partial.len(), fragments.held), (1, 8));
    }

    #[test]
    fn what_is_never_completed_is_forgotten_and_counted() {
        let (mut fragments, mut skipped) = (Fragments::default(), Skipped::default());
        let fragment = Fragment { offset: 0, has_more: true };
        for id in 0..10_000 {
            fragments.add(0, &piece(id, b"01234567"), fragment, &mut skipped);
        }
        assert!(fragments.partial.len() <= PACKETS_MAX && fragments.order.len() <= 2 * PACKETS_MAX + 1);
        fragments.add(WAIT_US + 1, &piece(10_000, b"01234567"), fragment, &mut skipped);
        assert_eq!((fragments.partial.len(), fragments.held, skipped.fragments), (1, 8, 10_000));
    }

    #[test]
    fn a_piece_beyond_any_packet_is_refused() {
        let mut skipped = Skipped::default();
        let fragment = Fragment { offset: 65_528, has_more: false };
        assert_eq!(Fragments::default().add(0, &piece(1, b"0123456789"), fragment, &mut skipped), None);
        assert_eq!(skipped.fragments, 1);
    }
}
