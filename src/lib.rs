//! hookswitch: knows which phone rings and whose screen must pop.
mod accept;
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
pub mod sip;
pub mod store;
pub mod switchboard;
pub mod telemetry;
