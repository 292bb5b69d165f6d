//! Where events come in: one module a kind of feed.

pub mod capture;
pub mod feed;
pub mod replay;
pub mod sip;
pub mod site;
pub mod webhook;
