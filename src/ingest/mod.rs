//! Where events come in: one module a kind of feed.

pub mod asterisk;
pub mod dial;
pub mod feed;
pub mod feeds;
pub mod sip;
pub mod site;
pub mod webhook;
