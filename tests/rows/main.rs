//! The features, row by row, through what a PBX, an admin and an agent can reach: SIP datagrams, the API and its streams of
//! the real binary. Each row runs on `SQLite` and on Postgres, and looks again after a restart.

mod answers;
mod people;
mod phones;
mod popups;
mod queues;
#[path = "../support/mod.rs"]
mod support;
#[path = "../calls/wire.rs"]
#[allow(dead_code, reason = "each test program uses the part it needs")]
mod wire;
mod world;
