//! The concurrent maps.

pub mod streams;
