//! A small office on a real Kamailio, with real phones and a trunk.

#[path = "../support/mod.rs"]
mod support;

mod copies;
mod office;
