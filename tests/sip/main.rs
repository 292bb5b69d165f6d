//! SIP listeners through the real binary's sockets.

mod burst;
mod connections;
mod digest;
mod hep;
mod jssip;
mod keepalive;
mod mirror;
mod registrar;
mod registration;
mod replica;
mod secrets;
mod start;
mod stream;
#[path = "../support/mod.rs"]
mod support;
mod tls;
mod torture;
mod ws;
