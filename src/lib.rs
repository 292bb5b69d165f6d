//! hookswitch: knows which phone rings and whose screen must pop.
//!
//! # The code map
//! Imports go one way, from the bottom of this list to its top; `tests/layers.rs` checks it.
//!
//! | module | what it is |
//! | --- | --- |
//! | [`model`] | the nouns: devices, bindings, users, links, queues, calls, offers, what a feed reports |
//! | [`sip`] | SIP without sockets: scan, frame, reply, registrar, dialog tracker |
//! | [`switchboard`] | calls and offers of one site: `apply(now, input, view) → effects` |
//! | [`store`] | the only SQL: load, the journal (group commit), history |
//! | [`registry`] | the concurrent maps everything is read from, and the event streams |
//! | [`ingest`] | feeds: the SIP listeners, connectors, webhook and captures, and the site tasks that own calls |
//! | [`http`] | the API, one file a resource |
//! | [`lifecycle`] | from configuration to a serving daemon and back |
//! | [`activation`], [`supervision`] | what systemd hands over, and what it is told |
//! | [`config`], [`clock`], [`metrics`], [`telemetry`], [`data_dir`], [`sealing`] | what all of them stand on |
//!
//! # Invariants
//! - `model`, `sip` and `switchboard` wait for nothing and read no clock: time comes in as [`model::Now`].
//! - A change gets its number and its place in the journal under the lock of the record it changes, so the journal's
//!   watermark says exactly which changes are stored ([`store::Journal`]).
//! - Whoever promises a change to a peer (a 200 to REGISTER, a 2xx to a write) waits for its number first.
//! - No lock of a concurrent map is held across an await, and never two at once.
//! - Everything a peer can make us keep has a bound, and each bound a counter.

mod accept;
pub mod activation;
mod census;
pub mod clock;
pub mod config;
pub mod data_dir;
pub mod http;
pub mod ingest;
pub mod lifecycle;
pub mod metrics;
pub mod model;
pub mod registry;
pub mod sealing;
pub mod sip;
pub mod store;
pub mod supervision;
pub mod switchboard;
pub mod telemetry;
