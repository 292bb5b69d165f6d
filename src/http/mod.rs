//! The HTTP API.

mod kind;
pub mod problem;
pub mod secret;
