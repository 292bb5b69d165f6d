//! hookswitch: knows which phone rings and whose screen must pop.
pub mod config;
pub mod model;
pub mod sip;
pub mod switchboard;
