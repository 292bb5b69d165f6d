//! A large capture out of the fixtures: every call and registration of them over and over, each with its own phones,
//! callers, Call-IDs, branches and tags, many at a time.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

/// One message of a scenario: when it came, between which ports, and its bytes.
struct Message {
    after_us: u64,
    source: u16,
    destination: u16,
    text: String,
}

/// Writes a capture of at least `messages` SIP messages.
pub fn write(path: &Path, messages: u64) {
    let scenarios: Vec<Vec<Message>> = SCENARIOS.iter().map(|name| read(name)).collect();
    let mut out = Writer::new(path);
    let (mut written, mut copy, mut clock_us) = (0, 0_u32, START_US);
    let mut due = std::collections::BinaryHeap::new();
    while written < messages || !due.is_empty() {
        if written < messages {
            // Another scenario begins every so often, so that some hundred are under way at once.
            let which = usize::try_from(copy).expect("few") % scenarios.len();
            due.push(std::cmp::Reverse((clock_us + scenarios[which][0].after_us, which, 0_usize, copy)));
            copy += 1;
            clock_us += EVERY_US;
        }
        while due.peek().is_some_and(|std::cmp::Reverse((at, ..))| *at <= clock_us || written >= messages) {
            let Some(std::cmp::Reverse((at, which, place, copy))) = due.pop() else { break };
            out.message(at, &scenarios[which][place], copy);
            written += 1;
            if let Some(next) = scenarios[which].get(place + 1) {
                let gap = next.after_us - scenarios[which][place].after_us;
                due.push(std::cmp::Reverse((at + gap, which, place + 1, copy)));
            }
        }
    }
    out.file.flush().expect("the disk has room");
}

/// Reads a fixture: Ethernet, IPv4, UDP.
fn read(name: &str) -> Vec<Message> {
    let bytes =
        std::fs::read(format!("{}/fixtures/pcap/sip-{name}.pcap", env!("CARGO_MANIFEST_DIR"))).expect("it is there");
    let word = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four"));
    let mut messages: Vec<Message> = Vec::new();
    let (mut at, mut first) = (24, None);
    while at < bytes.len() {
        let stamp = u64::from(word(at)) * 1_000_000 + u64::from(word(at + 4));
        let length = usize::try_from(word(at + 8)).expect("short");
        let packet = &bytes[at + 16..at + 16 + length];
        at += 16 + length;
        let port = |at: usize| u16::from_be_bytes([packet[at], packet[at + 1]]);
        if packet[23] == 17 {
            messages.push(Message {
                after_us: stamp - *first.get_or_insert(stamp),
                source: port(34),
                destination: port(36),
                text: String::from_utf8_lossy(&packet[42..]).into_owned(),
            });
        }
    }
    messages
}

struct Writer {
    file: BufWriter<File>,
    packet: u16,
}

impl Writer {
    fn new(path: &Path) -> Self {
        let mut file = BufWriter::with_capacity(1 << 20, File::create(path).expect("target/ can be written"));
        for word in [0xa1b2_c3d4_u32, 0x0004_0002, 0, 0, 262_144, 1] {
            file.write_all(&word.to_le_bytes()).expect("the disk has room");
        }
        Self { file, packet: 0 }
    }

    fn message(&mut self, at_us: u64, message: &Message, copy: u32) {
        let text = renamed(&message.text, copy);
        let (source, destination) = (socket(message.source, copy), socket(message.destination, copy));
        self.packet = self.packet.wrapping_add(1).max(1);
        let length = u16::try_from(text.len()).expect("short");
        let mut packet = vec![0; 12];
        packet.extend([0x08, 0x00, 0x45, 0]);
        packet.extend((length + 28).to_be_bytes());
        packet.extend(self.packet.to_be_bytes());
        packet.extend([0x40, 0, 64, 17, 0, 0]);
        packet.extend(source.0);
        packet.extend(destination.0);
        packet.extend(source.1.to_be_bytes());
        packet.extend(destination.1.to_be_bytes());
        packet.extend((length + 8).to_be_bytes());
        packet.extend([0, 0]);
        packet.extend(text.as_bytes());
        let captured = u32::try_from(packet.len()).expect("short");
        let (second, micro) = (u32::try_from(at_us / 1_000_000), u32::try_from(at_us % 1_000_000));
        for word in [second.expect("this century"), micro.expect("a fraction"), captured, captured] {
            self.file.write_all(&word.to_le_bytes()).expect("the disk has room");
        }
        self.file.write_all(&packet).expect("the disk has room");
    }
}

/// The PBX has one address, each phone and trunk of a copy its own.
fn socket(port: u16, copy: u32) -> ([u8; 4], u16) {
    match port {
        5070 => ([10, 0, 0, 1], 5070),
        5090 => ([10, 0, 0, 2], 5090),
        phone => {
            let phones = (copy % PHONES).to_be_bytes();
            ([10, 1, phones[2], phones[3]], phone)
        }
    }
}

/// The same message of another call: identifiers, extensions and caller of its own.
fn renamed(text: &str, copy: u32) -> String {
    let phone = copy % PHONES;
    let text = &same_contacts(text);
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((text, ""));
    let mut out = String::with_capacity(text.len() + 128);
    for line in head.split("\r\n") {
        let name = line.split(':').next().unwrap_or_default();
        let mut line = match name {
            "Call-ID" | "i" => format!("{line}-{copy}x"),
            _ => line
                .replace("branch=z9hG4bK", &format!("branch=z9hG4bK{copy}x"))
                .replace(";tag=", &format!(";tag={copy}x")),
        };
        for extension in ["101", "102", "103"] {
            let number = format!("{}{phone:04}", &extension[2..]);
            line = line.replace(&format!("sip:{extension}"), &format!("sip:{number}"));
        }
        line = line.replace("+14155550100", &format!("+1415555{:04}", copy % 5_000));
        line = line.replace("+14155550199", &format!("+1415555{:04}", 5_000 + copy % 2_500));
        line = line.replace("+14155550123", &format!("+1415555{:04}", 7_500 + copy % 2_500));
        for (index, port) in [5081_u16, 5083, 5085, 5090].into_iter().enumerate() {
            let (ip, _) = socket(port, copy);
            let [a, b, c, d] = ip;
            if index < 4 {
                line = line.replace(&format!("127.0.0.1:{port}"), &format!("{a}.{b}.{c}.{d}:{port}"));
            }
        }
        line = line.replace("127.0.0.1", "10.0.0.1");
        out.push_str(&line);
        out.push_str("\r\n");
    }
    out.push_str("\r\n");
    out.push_str(body);
    out
}

/// A phone is called where it registered: the contact's user part, which differs from recording to recording, is one.
fn same_contacts(text: &str) -> String {
    let mut pieces = text.split("-0x");
    let mut out = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        out.push_str("-x");
        out.push_str(piece.trim_start_matches(|digit: char| digit.is_ascii_hexdigit()));
    }
    out
}

const SCENARIOS: [&str; 8] = [
    "register",
    "direct-answered",
    "register",
    "queue-call",
    "internal-call",
    "direct-cancel",
    "outbound-answered",
    "register",
];
const PHONES: u32 = 2_000;
const START_US: u64 = 1_777_883_400_000_000;
/// Between the starts of two scenarios: some hundred a second, as in a very busy office.
const EVERY_US: u64 = 5_000;
