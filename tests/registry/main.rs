//! The registry's own rules, in memory: what may be changed, who has which phone, what a device's state is.

mod devices;
mod edits;
mod identity;
mod members;
mod popups;
mod registering;
#[path = "../store/samples.rs"]
#[allow(dead_code, reason = "shared with the tests of the database")]
mod samples;
mod truth;

use std::sync::Arc;

use hookswitch::clock::Clock;
use hookswitch::registry::{Defaults, Limits, Registry};
use hookswitch::store::Store;

/// A registry on a database that nobody looks at, and its first account, site, PBX and admin.
async fn office(clock: &Clock, limits: Limits) -> (Arc<Registry>, Defaults) {
    let store = Store::open("sqlite::memory:").await.expect("a database in memory");
    let registry = Registry::open(store, clock.clone(), limits).await.expect("an empty registry");
    let defaults = registry.ensure_defaults().expect("defaults");
    (registry, defaults)
}
