//! SIP is counted as tshark counts it.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use crate::heard::replay;
use crate::support::folder::Folder;
use crate::support::packets::{self, RAW, ip, ipv4, payload, pcap, pcapng};

/// What `tshark -q -z sip,stat` says: messages, requests by method, responses by status.
fn tshark(file: &Path) -> (u64, BTreeMap<String, u64>, BTreeMap<u16, u64>) {
    let output = Command::new("tshark").arg("-n").arg("-r").arg(file).args(["-q", "-z", "sip,stat"]).output();
    let output = output.expect("tshark runs; .ci/tools installs what is missing");
    assert!(output.status.success(), "tshark: {}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let (mut messages, mut requests, mut responses) = (0, BTreeMap::new(), BTreeMap::new());
    for line in text.lines() {
        if let Some(count) = line.strip_prefix("Number of SIP messages:") {
            messages = count.trim().parse().expect("a number");
        } else if let Some((name, count)) = line.split_once(':').filter(|(_, count)| count.ends_with("Packets")) {
            let count = count.trim().trim_end_matches("Packets").trim().parse().expect("a number");
            match name.trim().strip_prefix("SIP ") {
                Some(status) => drop(responses.insert(status[..3].parse().expect("a status"), count)),
                None => drop(requests.insert(name.trim().to_owned(), count)),
            }
        }
    }
    (messages, requests, responses)
}

fn agrees(folder: &Folder, name: &str, file: Vec<u8>) -> u64 {
    let path = folder.write(&format!("{name}.pcap"), &file);
    let totals = replay(file).totals();
    let (messages, requests, responses) = tshark(&path);
    assert_eq!((totals.messages, totals.requests, totals.responses), (messages, requests, responses), "{name}");
    messages
}

#[test]
fn every_fixture_counts_as_tshark_counts_it() {
    let folder = Folder::new("replay-counts");
    let all: u64 = packets::fixtures().into_iter().map(|(name, file)| agrees(&folder, &name, file)).sum();
    assert!(all > 90, "only {all} messages in all");
}

#[test]
fn vlan_fragments_and_pcapng_count_as_tshark_counts_them() {
    let folder = Folder::new("replay-counts-wrapped");
    let name = "internal-call";
    let mut vlan = vec![2; 12];
    vlan.extend([0x81, 0, 0, 7, 8, 0]);
    let tagged = ip(name).into_iter().map(|packet| (packet.at_us, [&vlan[..], &packet.ip].concat()));
    agrees(&folder, "vlan", pcap(packets::ETHERNET, tagged));
    let fragments = (1..).zip(ip(name)).flat_map(|(id, packet)| {
        let whole = payload(&packet.ip);
        let (first, last) = whole.split_at(400.min(whole.len() / 8 * 8));
        let place = u16::try_from(first.len() / 8).unwrap();
        let piece = |place: u16, piece: &[u8]| (packet.at_us, ipv4(&packet.ip, packet.ip[9], id, place, piece));
        [piece(0x2000, first), piece(place, last)]
    });
    agrees(&folder, "fragments", pcap(RAW, fragments));
    agrees(&folder, "pcapng", pcapng(false, 101, ip(name).into_iter().map(|packet| (packet.at_us, packet.ip))));
}
