//! Where events come in: one module a kind of feed.

pub mod feed;
pub mod sip;
pub mod site;
pub mod webhook;
