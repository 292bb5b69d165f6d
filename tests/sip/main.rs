//! SIP listeners through the real binary's sockets.

#[path = "../daemon/mod.rs"]
mod daemon;
mod mirror;
mod registrar;
mod replica;
mod start;
mod stream;
