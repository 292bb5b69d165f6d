//! A real Asterisk with real phones and a trunk, seen by hookswitch through HEP, through AMI and through both at once.

#[path = "../support/mod.rs"]
mod support;

mod ami;
mod pbx;
mod proxy;
mod record;
mod scene;
mod tee;
mod watcher;

mod control;
mod direct_calls;
mod faults;
mod members;
mod phones;
mod queue_calls;
mod sixteen;
mod speed;
mod transfers;
