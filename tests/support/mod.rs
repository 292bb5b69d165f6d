//! What tests against real programs share: starting and stopping them, and looking at what they say.
//!
//! Everything started here ends with its guard, on panic as well; ports are free ones; logs are kept when a test fails.
#![allow(dead_code, reason = "each test program uses the part it needs")]

pub mod api;
pub mod baresip;
pub mod daemon;
pub mod events;
pub mod folder;
pub mod hep;
pub mod kamailio;
pub mod packets;
pub mod phone;
pub mod ports;
pub mod postgres;
pub mod process;
pub mod sink;
pub mod sipp;
pub mod tls;
pub mod tunnel;
pub mod wait;
