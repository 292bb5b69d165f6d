//! FreeSWITCH's event socket. No package of it can be had to run against, so what a real one sent is replayed over a real
//! socket into the real daemon, byte for byte; what it was asked is answered from recordings too.

#[path = "../support/mod.rs"]
mod support;

mod asking;
mod bench;
mod calls;
mod control;
mod decoding;
mod hostile;
mod office;
mod recorded;
mod server;
mod state;
mod unrecorded;
