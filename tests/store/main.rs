//! The registry and its database, as one: `SQLite` always, and a real Postgres.

mod database;
mod engines;
mod log;
mod outage;
#[path = "../support/postgres.rs"]
mod postgres;
mod prune;
mod reopen;
mod samples;
