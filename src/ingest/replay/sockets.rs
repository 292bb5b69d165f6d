//! Which sockets are the PBX's. Packets do not say, and it decides which way a call went.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};

use smallvec::SmallVec;

use crate::model::Hop;

/// What was learnt about sockets so far.
#[derive(Default)]
pub(super) struct Sockets {
    /// Those that accepted a registration: without doubt a PBX's. As the HEP listener learns them.
    own: SmallVec<[SocketAddr; 8]>,
    /// Whom each socket exchanges requests with.
    peers: HashMap<Key, SmallVec<[Key; 2]>, foldhash::fast::RandomState>,
}

impl Sockets {
    /// Notes that this socket accepted a registration.
    pub(super) fn accepts_registrations(&mut self, socket: SocketAddr) {
        if !self.own.contains(&socket) && self.own.len() < OWN_MAX {
            self.own.push(socket);
        }
    }

    /// Notes that a request that begins something went between these two.
    pub(super) fn talk(&mut self, source: SocketAddr, destination: SocketAddr) {
        let (source, destination) = (key(source), key(destination));
        for (one, other) in [(source, destination), (destination, source)] {
            if self.peers.len() >= SOCKETS_MAX && !self.peers.contains_key(&one) {
                return;
            }
            let peers = self.peers.entry(one).or_default();
            if peers.len() < PEERS_MAX && !peers.contains(&other) {
                peers.push(other);
            }
        }
    }

    /// Which way a message went: to or from a socket that is the PBX's for sure, else one of a machine that has such a
    /// socket, else the one that talks with more others.
    pub(super) fn hop(&self, source: Option<SocketAddr>, destination: Option<SocketAddr>) -> Hop {
        let (Some(source), Some(destination)) = (source, destination) else { return Hop::Unknown };
        let is_own = |end: SocketAddr| self.own.contains(&end);
        let is_near = |end: SocketAddr| self.own.iter().any(|own| own.ip() == end.ip());
        let peers = |end: SocketAddr| self.peers.get(&key(end)).map_or(0, SmallVec::len);
        match (is_own(source), is_own(destination), is_near(source), is_near(destination)) {
            (true, false, ..) | (false, false, true, false) => Hop::FromPbx,
            (false, true, ..) | (false, false, false, true) => Hop::ToPbx,
            (true, true, ..) => Hop::Unknown,
            _ => match peers(source).cmp(&peers(destination)) {
                std::cmp::Ordering::Greater => Hop::FromPbx,
                std::cmp::Ordering::Less => Hop::ToPbx,
                std::cmp::Ordering::Equal => Hop::Unknown,
            },
        }
    }
}

/// A socket in a form that costs little to hash and compare.
pub(super) type Key = (u128, u16);

pub(super) fn key(socket: SocketAddr) -> Key {
    let address = match socket.ip() {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => address,
    };
    (address.to_bits(), socket.port())
}

/// A PBX has a few.
const OWN_MAX: usize = 64;
const SOCKETS_MAX: usize = 262_144;
/// More than this makes no difference.
const PEERS_MAX: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    fn at(port: u16) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], port))
    }

    #[test]
    fn who_accepts_registrations_is_the_pbx_and_else_who_talks_with_more() {
        let mut sockets = Sockets::default();
        let hop = |sockets: &Sockets, a, b| sockets.hop(Some(at(a)), Some(at(b)));
        sockets.talk(at(5090), at(5060));
        assert_eq!(hop(&sockets, 5090, 5060), Hop::Unknown);
        sockets.talk(at(5060), at(5081));
        assert_eq!((hop(&sockets, 5090, 5060), hop(&sockets, 5060, 5081)), (Hop::ToPbx, Hop::FromPbx));
        sockets.accepts_registrations(at(5070));
        assert_eq!((hop(&sockets, 5060, 5070), hop(&sockets, 5070, 5060)), (Hop::ToPbx, Hop::FromPbx));
        assert_eq!(sockets.hop(None, Some(at(5070))), Hop::Unknown);
    }
}
