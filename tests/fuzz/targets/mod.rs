//! What is fuzzed: a plain function a target, with the inputs it begins from. `tests/fuzz/README.md` says how one is added.

pub mod authorization;
pub mod capture;
pub mod cloud_event;
pub mod dialog;
pub mod digest;
pub mod event_socket;
pub mod framing;
pub mod hep;
pub mod manager;
pub mod notification;
pub mod registrar;
pub mod scan;
mod seeds;

#[path = "../../support/packets.rs"]
#[allow(dead_code, reason = "seeds use a part of it")]
mod packets;
#[path = "../../support/hep.rs"]
#[allow(dead_code, reason = "seeds use a part of it")]
pub mod recordings;
#[path = "../../calls/world.rs"]
#[allow(dead_code, reason = "targets use a part of it")]
mod world;

/// Something that reads what outsiders send.
#[derive(Clone, Copy)]
pub struct Target {
    /// Its name, which is that of its program in `fuzz_targets/`.
    pub name: &'static str,
    /// Does it; panics when something that must hold does not.
    pub run: fn(&[u8]),
    /// Inputs to begin from, read from `fixtures/`.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

/// All of them.
pub const ALL: [Target; 12] = [
    Target { name: "authorization", run: authorization::run, seeds: seeds::authorizations },
    Target { name: "capture", run: capture::run, seeds: seeds::captures },
    Target { name: "cloud_event", run: cloud_event::run, seeds: seeds::cloud_events },
    Target { name: "dialog", run: dialog::run, seeds: seeds::hep_recordings },
    Target { name: "digest", run: digest::run, seeds: seeds::challenges },
    Target { name: "event_socket", run: event_socket::run, seeds: seeds::event_sockets },
    Target { name: "framing", run: framing::run, seeds: seeds::sip_streams },
    Target { name: "hep", run: hep::run, seeds: seeds::hep_packets },
    Target { name: "notification", run: notification::run, seeds: seeds::notifications },
    Target { name: "manager", run: manager::run, seeds: seeds::managers },
    Target { name: "registrar", run: registrar::run, seeds: seeds::sip_messages },
    Target { name: "scan", run: scan::run, seeds: seeds::sip_messages },
];
