//! hookswitch: knows which phone rings and whose screen must pop.
pub mod clock;
pub mod http;
pub mod model;
pub mod registry;
pub mod sip;
pub mod store;
pub mod switchboard;
