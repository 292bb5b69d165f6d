//! hookswitch: knows which phone rings and whose screen must pop.
pub mod config;
pub mod data_dir;
pub mod ingest;
pub mod metrics;
pub mod model;
pub mod sip;
pub mod switchboard;
pub mod telemetry;
