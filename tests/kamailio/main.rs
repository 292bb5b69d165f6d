//! A small office on a real Kamailio: real phones register there, a trunk brings calls, hookswitch is told of it all.

#[path = "../support/mod.rs"]
mod support;

mod calls;
mod copies;
mod desk;
mod office;
mod phones;
