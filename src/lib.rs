//! hookswitch: knows which phone rings and whose screen must pop.
pub mod http;
pub mod model;
pub mod registry;
pub mod sip;
pub mod switchboard;
