//! The units that ship.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Output};

use hookswitch::config::{Config, Protocol};

use crate::support::folder::Folder;

#[test]
fn systemd_finds_nothing_wrong_with_the_units() {
    let folder = Folder::new("units");
    // It looks whether the program is there.
    let service = unit("hookswitch.service").replace("/usr/bin/hookswitch", env!("CARGO_BIN_EXE_hookswitch"));
    let service = folder.write("hookswitch.service", service);
    let socket = folder.write("hookswitch.socket", unit("hookswitch.socket"));
    let verified = analyze(&["verify", "--man=no"], &[&service, &socket]);
    let said = String::from_utf8_lossy(&verified.stderr).into_owned();
    assert!(verified.status.success(), "{said}");
    // A key it does not know is only a warning.
    assert!(!said.contains("hookswitch."), "{said}");
}

#[test]
fn what_the_service_may_do_is_as_little_as_systemd_can_take_away() {
    let service = Path::new(env!("CARGO_MANIFEST_DIR")).join("systemd/hookswitch.service");
    // In tenths: 1.5 of 10 at most.
    let judged = analyze(&["security", "--offline=true", "--threshold=15", "--no-pager"], &[&service]);
    assert!(judged.status.success(), "{}", String::from_utf8_lossy(&judged.stdout));
    let overall = String::from_utf8_lossy(&judged.stdout).into_owned();
    assert!(overall.contains("Overall exposure level for hookswitch.service"), "{overall}");
}

#[test]
fn the_socket_unit_has_the_addresses_of_the_default_configuration() {
    let config = Config::default();
    let mut configured: BTreeSet<String> = BTreeSet::new();
    for bind in config.listeners.iter().flat_map(|listener| &listener.bind) {
        let kind = if bind.protocol == Protocol::Udp { "ListenDatagram" } else { "ListenStream" };
        configured.insert(format!("{kind}={}", bind.address));
    }
    configured.extend(config.http.listen.iter().chain(&config.ops.listen).map(|at| format!("ListenStream={at}")));
    let unit = unit("hookswitch.socket");
    let listens = unit.lines().filter(|line| line.starts_with("Listen")).map(str::to_owned);
    assert_eq!(listens.collect::<BTreeSet<_>>(), configured);
}

#[test]
fn systemd_waits_longer_for_the_end_than_the_end_may_take() {
    let unit = unit("hookswitch.service");
    let seconds = unit.lines().find_map(|line| line.strip_prefix("TimeoutStopSec=")).expect("it is set");
    // The runtime may need two more.
    assert!(seconds.parse::<u32>().unwrap() > Config::default().limits.stop_s + 2);
}

fn unit(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("systemd").join(name);
    std::fs::read_to_string(path).expect("it ships")
}

fn analyze(words: &[&str], units: &[&Path]) -> Output {
    let output = Command::new("systemd-analyze").args(words).args(units).output();
    output.expect("systemd-analyze is installed; .ci/tools does that")
}
