//! Under systemd: its units as systemd judges them, sockets that it hands over and keeps, what it is told, and reloads.
//!
//! systemd itself is not started. Its own `systemd-socket-activate` opens the sockets, and a loop of a shell does with them
//! what systemd does: it starts the daemon on them again whenever that has ended.

#[path = "../support/mod.rs"]
mod support;

mod kept;
mod reload;
mod restart;
mod stop;
mod told;
mod units;
