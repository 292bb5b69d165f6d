//! Asterisk's manager interface: what recorded ones say, read whole and in pieces, and a scripted one on a real socket,
//! honest and hostile.

mod captures;
mod dialects;
mod hostile;
mod login;
mod server;
mod sessions;
mod told;

#[path = "../support/mod.rs"]
mod support;
