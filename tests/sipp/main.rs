//! Every answer to SIP, asked for by SIPp.

#[path = "../support/mod.rs"]
mod support;

mod answers;
mod complete;
mod office;
