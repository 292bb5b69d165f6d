//! How many connections there are and what they make us hold, in all and from each source, whichever address they came to.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use metrics::Gauge;

use crate::config::Limits;

/// The connections of all addresses that one service listens on. Cloning it shares it.
#[derive(Clone, Debug)]
pub struct Census(Arc<Inner>);

/// A connection's place in the census; dropping it frees it, and what it held.
#[derive(Debug)]
pub struct Seat {
    census: Census,
    source: IpAddr,
    held: Tally,
    gauge: Gauge,
}

/// How much all connections, and those of each source, may take up.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Of all sources together.
    pub total: Tally,
    /// Of each source.
    pub source: Tally,
}

/// What connections take up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// How many there are.
    pub connections: usize,
    /// How many of them have sent a part of a message.
    pub unfinished: usize,
    /// Bytes of such parts, and of replies that wait.
    pub bytes: usize,
}

#[derive(Debug)]
struct Inner {
    /// Short holds of a plain lock: when a connection comes or goes, and when what it holds changes, which with messages
    /// that come whole is never.
    seated: Mutex<Seated>,
    place: &'static str,
}

#[derive(Debug)]
struct Seated {
    bounds: Bounds,
    total: Tally,
    sources: HashMap<IpAddr, Tally>,
}

impl Census {
    /// Takes connections within `bounds`. `place` names the service in `hookswitch_dropped_total`.
    #[must_use]
    pub fn new(place: &'static str, bounds: Bounds) -> Self {
        let seated = Seated { bounds, total: Tally::default(), sources: HashMap::new() };
        Self(Arc::new(Inner { seated: Mutex::new(seated), place }))
    }

    /// Goes by these bounds from now on. Who is seated stays.
    pub fn bound(&self, bounds: Bounds) {
        self.seated().bounds = bounds;
    }

    /// A place for a connection from `address`; none, and counted, when a limit is reached. `gauge` shows how many there
    /// are where it came to.
    #[must_use]
    pub fn seat(&self, address: IpAddr, gauge: &Gauge) -> Option<Seat> {
        let source = source_of(address);
        let mut seated = self.seated();
        let bounds = seated.bounds;
        if seated.total.connections >= bounds.total.connections {
            self.dropped("connections");
            return None;
        }
        let tally = seated.sources.entry(source).or_default();
        if tally.connections >= bounds.source.connections {
            self.dropped("connections_per_source");
            return None;
        }
        tally.connections += 1;
        seated.total.connections += 1;
        gauge.increment(1.0);
        let held = Tally { connections: 1, ..Tally::default() };
        Some(Seat { census: self.clone(), source, held, gauge: gauge.clone() })
    }

    fn seated(&self) -> MutexGuard<'_, Seated> {
        self.0.seated.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn dropped(&self, reason: &'static str) {
        metrics::counter!("hookswitch_dropped_total", "where" => self.0.place, "reason" => reason).increment(1);
    }
}

impl Seat {
    /// Notes what the connection holds now.
    ///
    /// # Errors
    /// The limit this would pass, in a few stable words for a metric; the connection is to be closed then.
    pub fn hold(&mut self, is_unfinished: bool, bytes: usize) -> Result<(), &'static str> {
        let held = Tally { connections: 1, unfinished: usize::from(is_unfinished), bytes };
        if held == self.held {
            return Ok(());
        }
        let mut seated = self.census.seated();
        let bounds = seated.bounds;
        let total = seated.total.less(self.held).plus(held);
        let source = seated.sources.get(&self.source).copied().unwrap_or_default().less(self.held).plus(held);
        if held.unfinished > self.held.unfinished {
            if total.unfinished > bounds.total.unfinished {
                return Err("unfinished");
            }
            if source.unfinished > bounds.source.unfinished {
                return Err("unfinished_per_source");
            }
        }
        if held.bytes > self.held.bytes {
            if total.bytes > bounds.total.bytes {
                return Err("held_bytes");
            }
            if source.bytes > bounds.source.bytes {
                return Err("held_bytes_per_source");
            }
        }
        seated.total = total;
        seated.sources.insert(self.source, source);
        drop(seated);
        self.held = held;
        Ok(())
    }
}

impl Bounds {
    /// Of the addresses where SIP is spoken.
    #[must_use]
    pub fn of_sip(limits: &Limits) -> Self {
        Self {
            total: Tally {
                connections: size(limits.connections_max),
                unfinished: size(limits.unfinished_max),
                bytes: size(limits.held_kib_max).saturating_mul(1024),
            },
            source: Tally {
                connections: size(limits.connections_per_source_max),
                unfinished: size(limits.unfinished_per_source_max),
                bytes: size(limits.held_kib_per_source_max).saturating_mul(1024),
            },
        }
    }

    /// Of addresses where HTTP is spoken; their server bounds what is half sent.
    #[must_use]
    pub fn of_http(limits: &Limits) -> Self {
        let only = |connections| Tally { connections: size(connections), ..Tally::default() };
        Self { total: only(limits.http_connections_max), source: only(limits.http_connections_per_source_max) }
    }
}

impl Tally {
    fn plus(self, other: Self) -> Self {
        Self {
            connections: self.connections + other.connections,
            unfinished: self.unfinished + other.unfinished,
            bytes: self.bytes + other.bytes,
        }
    }

    fn less(self, other: Self) -> Self {
        Self {
            connections: self.connections.saturating_sub(other.connections),
            unfinished: self.unfinished.saturating_sub(other.unfinished),
            bytes: self.bytes.saturating_sub(other.bytes),
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut seated = self.census.seated();
        seated.total = seated.total.less(self.held);
        if let Some(tally) = seated.sources.get_mut(&self.source) {
            *tally = tally.less(self.held);
            if tally.connections == 0 {
                seated.sources.remove(&self.source);
            }
        }
        self.gauge.decrement(1.0);
    }
}

/// Who counts as one source: an IPv4 address, however it is written, or a /64 of IPv6, since whoever has one address of that
/// has all of them.
#[must_use]
pub fn source_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX))),
        v4 @ IpAddr::V4(_) => v4,
    }
}

fn size(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_connections_hold_is_bounded_by_source_and_in_all_and_freed_with_them() {
        let tally = |unfinished, bytes| Tally { connections: 9, unfinished, bytes };
        let census = Census::new("test", Bounds { total: tally(2, 20), source: tally(1, 15) });
        let sources: [IpAddr; 3] = ["192.0.2.1", "192.0.2.2", "192.0.2.3"].map(|text| text.parse().unwrap());
        let mut seats: Vec<Seat> =
            [0, 0, 1, 2].into_iter().map(|at: usize| census.seat(sources[at], &Gauge::noop()).unwrap()).collect();
        assert_eq!(seats[0].hold(true, 10), Ok(()));
        assert_eq!(seats[1].hold(true, 1), Err("unfinished_per_source"));
        assert_eq!(seats[1].hold(false, 6), Err("held_bytes_per_source"));
        assert_eq!(seats[1].hold(false, 5), Ok(()));
        assert_eq!(seats[2].hold(true, 6), Err("held_bytes"));
        assert_eq!(seats[2].hold(true, 5), Ok(()));
        assert_eq!(seats[3].hold(true, 0), Err("unfinished"));
        assert_eq!(seats[0].hold(false, 0), Ok(()), "it is whole");
        assert_eq!(seats[3].hold(true, 10), Ok(()));
        seats.clear();
        assert_eq!(census.seated().total, Tally::default());
        assert!(census.seated().sources.is_empty());
    }

    #[test]
    fn a_place_is_given_until_a_limit_is_reached_and_again_once_it_is_free() {
        let tally = |connections| Tally { connections, ..Tally::default() };
        let census = Census::new("test", Bounds { total: tally(3), source: tally(2) });
        let seat = |address| census.seat(address, &Gauge::noop());
        let (one, other): (IpAddr, IpAddr) = ("192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap());
        let first = seat(one).unwrap();
        let _second = seat(one).unwrap();
        assert!(seat(one).is_none(), "two are enough for one source");
        let _third = seat(other).unwrap();
        assert!(seat(other).is_none(), "three are enough in all");
        drop(first);
        assert!(seat(one).is_some());
        census.bound(Bounds { total: tally(4), source: tally(3) });
        let _fourth = seat(one).unwrap();
        census.bound(Bounds { total: tally(1), source: tally(1) });
        assert!(seat(other).is_none(), "who is seated stays, who comes is judged anew");
        assert_eq!(census.0.seated.lock().unwrap().sources.len(), 2, "a source without connections is forgotten");
    }

    #[test]
    fn an_address_is_the_same_source_however_it_is_written_and_a_network_of_ipv6_is_one() {
        let source = |text: &str| source_of(text.parse().unwrap()).to_string();
        assert_eq!(source("192.0.2.1"), "192.0.2.1");
        assert_eq!(source("::ffff:192.0.2.1"), "192.0.2.1");
        assert_eq!(source("2001:db8:0:7::1"), source("2001:db8:0:7:ffff::2"));
        assert_ne!(source("2001:db8:0:7::1"), source("2001:db8:0:8::1"));
    }
}
