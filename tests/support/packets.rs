//! Packets of the fixtures, to be wrapped in whatever a capture may have.

/// A captured IPv4 packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    pub at_us: u64,
    pub ip: Vec<u8>,
}

/// Every capture, by name.
pub fn fixtures() -> Vec<(String, Vec<u8>)> {
    let folder = std::fs::read_dir("fixtures/pcap").expect("the captures are there").flatten();
    let mut captures: Vec<_> = folder
        .filter(|entry| entry.path().extension().is_some_and(|extension| extension == "pcap"))
        .map(|entry| {
            let name = entry.file_name().to_string_lossy().trim_end_matches(".pcap").to_owned();
            (name, std::fs::read(entry.path()).expect("a capture can be read"))
        })
        .collect();
    captures.sort();
    assert!(captures.len() >= 10);
    captures
}

pub fn fixture(name: &str) -> Vec<u8> {
    std::fs::read(format!("fixtures/pcap/sip-{name}.pcap")).expect("the capture is there")
}

/// The IP packets of a fixture, and where in its file each record ends.
pub fn packets(pcap: &[u8]) -> Vec<(Packet, usize)> {
    let word = |at: usize| u32::from_le_bytes(pcap[at..at + 4].try_into().expect("four bytes"));
    let (mut at, mut found) = (24, Vec::new());
    while at < pcap.len() {
        let at_us = u64::from(word(at)) * 1_000_000 + u64::from(word(at + 4));
        let end = at + 16 + usize::try_from(word(at + 8)).expect("short");
        found.push((Packet { at_us, ip: pcap[at + 16 + 14..end].to_vec() }, end));
        at = end;
    }
    found
}

/// The IP packets of a fixture.
pub fn ip(name: &str) -> Vec<Packet> {
    packets(&fixture(name)).into_iter().map(|(packet, _)| packet).collect()
}

/// A pcap file of frames.
pub fn pcap(link: u32, frames: impl IntoIterator<Item = (u64, Vec<u8>)>) -> Vec<u8> {
    let mut file = Vec::new();
    for word in [0xa1b2_c3d4, 0x0004_0002, 0, 0, 262_144, link] {
        file.extend_from_slice(&u32::to_le_bytes(word));
    }
    for (at_us, frame) in frames {
        let length = u32::try_from(frame.len()).expect("short");
        for word in [second(at_us), micro(at_us), length, length] {
            file.extend_from_slice(&word.to_le_bytes());
        }
        file.extend_from_slice(&frame);
    }
    file
}

/// The same with other byte orders and finer stamps.
pub fn pcap_as(magic: u32, big_endian: bool, link: u32, frames: impl IntoIterator<Item = (u64, Vec<u8>)>) -> Vec<u8> {
    let order = |word: u32| if big_endian { word.to_be_bytes() } else { word.to_le_bytes() };
    let versions = if big_endian { 0x0002_0004 } else { 0x0004_0002 };
    let mut file: Vec<u8> = [magic, versions, 0, 0, 262_144, link].into_iter().flat_map(order).collect();
    for (at_us, frame) in frames {
        let length = u32::try_from(frame.len()).expect("short");
        let fraction = if magic == 0xa1b2_3c4d { micro(at_us) * 1000 } else { micro(at_us) };
        file.extend([second(at_us), fraction, length, length].into_iter().flat_map(order));
        file.extend_from_slice(&frame);
    }
    file
}

/// A pcapng file of frames, its stamps in nanoseconds, with blocks in it that hold no packet.
pub fn pcapng(big_endian: bool, link: u16, frames: impl IntoIterator<Item = (u64, Vec<u8>)>) -> Vec<u8> {
    let word = |word: u32| if big_endian { word.to_be_bytes() } else { word.to_le_bytes() };
    let half = |half: u16| if big_endian { half.to_be_bytes() } else { half.to_le_bytes() };
    let block = |kind: u32, body: &[u8]| {
        let length = u32::try_from(body.len() + 12).expect("short");
        [&word(kind)[..], &word(length), body, &word(length)].concat()
    };
    let section = [&word(0x1a2b_3c4d)[..], &half(1), &half(0), &[0xff; 8]].concat();
    let resolution = [&half(9)[..], &half(1), &[9, 0, 0, 0], &half(0), &half(0)].concat();
    let interface = [&half(link)[..], &half(0), &word(0), &resolution].concat();
    let mut file = [block(0x0a0d_0d0a, &section), block(1, &interface), block(0x0bad, b"whatever")].concat();
    for (at_us, frame) in frames {
        let ns = at_us * 1000;
        let (high, low) =
            (u32::try_from(ns >> 32).expect("32 bits"), u32::try_from(ns & 0xffff_ffff).expect("32 bits"));
        let length = u32::try_from(frame.len()).expect("short");
        let mut body = [word(0), word(high), word(low), word(length), word(length)].concat();
        body.extend_from_slice(&frame);
        body.resize(body.len().next_multiple_of(4), 0);
        file.extend(block(6, &body));
    }
    file
}

/// An IPv4 packet around a payload; fragments say where they belong.
pub fn ipv4(like: &[u8], protocol: u8, id: u16, place: u16, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(payload.len() + 20).expect("short").to_be_bytes();
    let mut packet = vec![0x45, 0, length[0], length[1]];
    packet.extend(id.to_be_bytes());
    packet.extend(place.to_be_bytes());
    packet.extend([64, protocol, 0, 0]);
    packet.extend_from_slice(&like[12..20]);
    packet.extend_from_slice(payload);
    packet
}

/// The same packet as IPv6 (`2001:db8::` and the IPv4 address), its extension headers in front of the payload.
pub fn ipv6(like: &[u8], next: u8, extensions: &[u8], payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(extensions.len() + payload.len()).expect("short").to_be_bytes();
    let mut packet = vec![0x60, 0, 0, 0, length[0], length[1], next, 64];
    for address in [&like[12..16], &like[16..20]] {
        packet.extend([0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0]);
        packet.extend_from_slice(address);
    }
    packet.extend_from_slice(extensions);
    packet.extend_from_slice(payload);
    packet
}

/// What is behind the IPv4 header.
pub fn payload(ip: &[u8]) -> &[u8] {
    &ip[usize::from(ip[0] & 15) * 4..]
}

/// A TCP segment with the ports of a UDP datagram.
pub fn tcp(udp: &[u8], sequence: u32, flags: u8, payload: &[u8]) -> Vec<u8> {
    let mut segment = udp[..4].to_vec();
    segment.extend(sequence.to_be_bytes());
    segment.extend([0; 4]);
    segment.extend([0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
    segment.extend_from_slice(payload);
    segment
}

fn second(at_us: u64) -> u32 {
    u32::try_from(at_us / 1_000_000).expect("this century")
}

fn micro(at_us: u64) -> u32 {
    u32::try_from(at_us % 1_000_000).expect("a fraction")
}

pub const ETHERNET: u32 = 1;
pub const RAW: u32 = 101;
