//! The SIP core through its public surface: samples, a second parser's opinion, and properties.

mod hep;
mod hostile_input;
mod registrar_rules;
mod samples;
mod second_opinion;
#[path = "../fuzz/targets/mod.rs"]
#[allow(dead_code, reason = "shared with the fuzz targets")]
mod targets;
mod torture;
