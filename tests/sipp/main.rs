//! Every answer of the registrar, asked for by SIPp.

#[path = "../support/mod.rs"]
mod support;

mod answers;
