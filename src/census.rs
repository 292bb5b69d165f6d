//! How many connections a listening address has, in all and from each source.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use metrics::Gauge;

/// The connections of one listening address. Cloning it shares it.
#[derive(Clone, Debug)]
pub struct Census(Arc<Inner>);

/// A connection's place in the census; dropping it frees it.
#[derive(Debug)]
pub struct Seat {
    census: Census,
    source: IpAddr,
}

#[derive(Debug)]
struct Inner {
    /// Short holds of a plain lock: one look-up when a connection comes, one when it goes.
    seated: Mutex<Seated>,
    place: &'static str,
    total_max: u32,
    source_max: u32,
    gauge: Gauge,
}

#[derive(Debug, Default)]
struct Seated {
    total: u32,
    sources: HashMap<IpAddr, u32>,
}

impl Census {
    /// Takes up to `total_max` connections, `source_max` of them from one address. `place` names the listener in
    /// `hookswitch_dropped_total`; `gauge` shows how many there are.
    #[must_use]
    pub fn new(place: &'static str, total_max: u32, source_max: u32, gauge: Gauge) -> Self {
        Self(Arc::new(Inner { seated: Mutex::default(), place, total_max, source_max, gauge }))
    }

    /// A place for a connection from `source`; none, and counted, when a limit is reached.
    #[must_use]
    pub fn seat(&self, source: IpAddr) -> Option<Seat> {
        let mut seated = self.0.seated.lock().unwrap_or_else(PoisonError::into_inner);
        if seated.total >= self.0.total_max {
            self.dropped("connections");
            return None;
        }
        let count = seated.sources.entry(source).or_insert(0);
        if *count >= self.0.source_max {
            self.dropped("connections_per_source");
            return None;
        }
        *count += 1;
        seated.total += 1;
        self.0.gauge.increment(1.0);
        Some(Seat { census: self.clone(), source })
    }

    fn dropped(&self, reason: &'static str) {
        metrics::counter!("hookswitch_dropped_total", "where" => self.0.place, "reason" => reason).increment(1);
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut seated = self.census.0.seated.lock().unwrap_or_else(PoisonError::into_inner);
        seated.total = seated.total.saturating_sub(1);
        if let Some(count) = seated.sources.get_mut(&self.source) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                seated.sources.remove(&self.source);
            }
        }
        self.census.0.gauge.decrement(1.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_given_until_a_limit_is_reached_and_again_once_it_is_free() {
        let census = Census::new("test", 3, 2, Gauge::noop());
        let (one, other): (IpAddr, IpAddr) = ("192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap());
        let first = census.seat(one).unwrap();
        let _second = census.seat(one).unwrap();
        assert!(census.seat(one).is_none(), "two are enough for one source");
        let _third = census.seat(other).unwrap();
        assert!(census.seat(other).is_none(), "three are enough in all");
        drop(first);
        assert!(census.seat(one).is_some());
        assert_eq!(census.0.seated.lock().unwrap().sources.len(), 2, "a source without connections is forgotten");
    }
}
