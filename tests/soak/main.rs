//! Promises 1 and 4 under load: whatever happens to the process, its database, its disk or its clock, what was acknowledged
//! is there afterwards, SIP is answered in time meanwhile, and nobody has to mend anything by hand.
//!
//! `make test` runs each in a short form; `make soak` sets `SOAK=full` and runs them for as long as docs/soak.md says.

#[path = "../support/mod.rs"]
mod support;

mod clock;
mod disk;
mod kill;
mod ledger;
mod load;
mod outage;
mod proxy;

use std::time::Duration;

/// Whether this is `make soak`.
fn full() -> bool {
    std::env::var("SOAK").is_ok_and(|form| form == "full")
}

/// One value for `make test`, another for `make soak`.
fn either<T>(short: T, in_full: T) -> T {
    if full() { in_full } else { short }
}

/// Says how far a long run is.
fn progress(test: &str, what: &str) {
    eprintln!("{test}: {what}");
}

/// The slowest of all, and what 99 of 100 stayed below.
fn quantiles(times: &mut [Duration]) -> (Duration, Duration) {
    times.sort_unstable();
    let at = |index: usize| times.get(index).copied().unwrap_or_default();
    (at(times.len().saturating_sub(1)), at((times.len() * 99 / 100).min(times.len().saturating_sub(1))))
}

/// Devices appear as fast as the load makes them.
const CONFIGURATION: &str = "[limits]\ndevices_per_second_max = 100000";
