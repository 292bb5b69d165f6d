//! Where events come in: one module a kind of feed.

pub mod asterisk;
pub mod capture;
pub mod connect;
pub mod feed;
pub mod feeds;
pub mod freeswitch;
pub mod replay;
pub mod report;
pub mod sip;
pub mod site;
pub mod subscribe;
pub mod webhook;
