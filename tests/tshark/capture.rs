//! Packets as a capture file, and what tshark reads in it.

use std::process::Command;

use crate::support::folder::Folder;

/// What tshark made of one packet.
#[derive(Debug)]
pub struct Decoded {
    /// The status of the response.
    pub status: String,
    /// What it remarks at or above the level of a warning.
    pub complaints: String,
}

/// Lets tshark read `packets`, each as one UDP datagram from and to the SIP port.
pub fn decode(folder: &Folder, packets: &[&[u8]]) -> Vec<Decoded> {
    let file = folder.write("answers.pcap", pcap(packets));
    let mut tshark = Command::new("tshark");
    tshark.arg("-n").arg("-r").arg(file).args(["-T", "fields", "-E", "separator=/t", "-E", "occurrence=a"]);
    for field in ["sip.Status-Code", "_ws.expert.severity", "_ws.expert.message", "_ws.malformed"] {
        tshark.args(["-e", field]);
    }
    let output = tshark.output().expect("tshark runs; .ci/tools installs what is missing");
    assert!(output.status.success(), "tshark: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).lines().map(decoded).collect()
}

fn decoded(line: &str) -> Decoded {
    let fields: Vec<&str> = line.split('\t').collect();
    let field = |index: usize| fields.get(index).copied().unwrap_or_default();
    let severe = field(1).split(',').filter_map(|severity| severity.parse::<u32>().ok()).any(|level| level >= WARNING);
    let complaints = if severe || !field(3).is_empty() { format!("{} {}", field(2), field(3)) } else { String::new() };
    Decoded { status: field(0).to_owned(), complaints }
}

/// A capture file (libpcap 2.4) of raw IPv4.
fn pcap(packets: &[&[u8]]) -> Vec<u8> {
    let mut file = Vec::new();
    for word in [0xA1B2_C3D4, 0x0002_0004, 0, 0, 0x0004_0000, LINKTYPE_RAW] {
        file.extend_from_slice(&u32::to_be_bytes(word));
    }
    for (second, packet) in packets.iter().enumerate() {
        let datagram = datagram(packet);
        let length = u32::try_from(datagram.len()).expect("a datagram is short");
        for word in [u32::try_from(second).expect("few packets"), 0, length, length] {
            file.extend_from_slice(&word.to_be_bytes());
        }
        file.extend_from_slice(&datagram);
    }
    file
}

/// IPv4 and UDP headers without checksums (tshark does not ask for them), and the payload.
fn datagram(payload: &[u8]) -> Vec<u8> {
    let length = |more: usize| u16::try_from(payload.len() + more).expect("a datagram is short").to_be_bytes();
    let mut datagram = vec![0x45, 0];
    datagram.extend_from_slice(&length(28));
    datagram.extend_from_slice(&[0, 0, 0, 0, 64, 17, 0, 0, 127, 0, 0, 1, 127, 0, 0, 1]);
    datagram.extend_from_slice(&SIP_PORT.to_be_bytes());
    datagram.extend_from_slice(&SIP_PORT.to_be_bytes());
    datagram.extend_from_slice(&length(8));
    datagram.extend_from_slice(&[0, 0]);
    datagram.extend_from_slice(payload);
    datagram
}

const LINKTYPE_RAW: u32 = 101;
const SIP_PORT: u16 = 5060;
/// `PI_WARN` of Wireshark's expert severities.
const WARNING: u32 = 0x0060_0000;
