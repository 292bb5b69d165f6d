//! Inputs to begin from: the recordings and samples that the other tests read as well.

use std::fs;
use std::path::PathBuf;

use super::{packets, recordings};

/// `fixtures/hep`: recordings, each packet after its length (u32, big-endian).
pub fn hep_recordings() -> Vec<Vec<u8>> {
    files("hep", "bin")
}

/// The packets in them.
pub fn hep_packets() -> Vec<Vec<u8>> {
    let recordings = hep_recordings();
    recordings.iter().flat_map(|recording| super::dialog::packets(recording).map(<[u8]>::to_vec)).collect()
}

/// `fixtures/notify`: bodies of notifications.
pub fn notifications() -> Vec<Vec<u8>> {
    files("notify", "xml")
}

/// `fixtures/sip`: messages.
pub fn sip_messages() -> Vec<Vec<u8>> {
    files("sip", "sip")
}

/// The same one after the other with keepalives between them, cut in pieces of 1, 8 and 64 bytes.
pub fn sip_streams() -> Vec<Vec<u8>> {
    let messages = sip_messages();
    let pieces = [0_u8, 7, 63].into_iter().cycle();
    messages.chunks(3).zip(pieces).map(|(some, piece)| [&[piece][..], &some.join(&b"\r\n\r\n"[..])].concat()).collect()
}

/// `fixtures/esl`: the beginnings of what an event socket said.
pub fn event_sockets() -> Vec<Vec<u8>> {
    let begun = |mut recording: Vec<u8>| {
        recording.truncate(12_000);
        recording
    };
    files("esl", "txt").into_iter().map(begun).collect()
}

/// `fixtures/ami`: the beginnings of calls and lists that a manager interface told.
pub fn managers() -> Vec<Vec<u8>> {
    let middle = |recording: Vec<u8>| recording.get(8_000..20_000).unwrap_or(&recording).to_vec();
    files("ami", "ami").into_iter().map(middle).collect()
}

/// Captures of every kind of file, link layer and wrapping, and logs.
pub fn captures() -> Vec<Vec<u8>> {
    let register = || packets::ip("register").into_iter().map(|packet| (packet.at_us, packet.ip));
    let behind = |link: u32, head: &[u8]| packets::pcap(link, register().map(|(at, ip)| (at, [head, &ip].concat())));
    let ethernet = |tags: &[u8]| behind(packets::ETHERNET, &[&[2; 12], tags].concat());
    let raw = |wrap: &dyn Fn(&[u8]) -> Vec<u8>| packets::pcap(packets::RAW, register().map(|(at, ip)| (at, wrap(&ip))));
    let mut all = vec![
        packets::fixture("direct-cancel"),
        packets::fixture("tcp-phone"),
        ethernet(&[8, 0]),
        ethernet(&[0x88, 0xa8, 0, 7, 0x81, 0, 0, 8, 8, 0]),
        ethernet(&[0x88, 0x64, 0x11, 0, 0, 1, 0, 9, 0, 0x21]),
        ethernet(&[0x88, 0x47, 0, 1, 0x10, 64, 0, 1, 0x11, 64]),
        ethernet(&[0, 100, 0xaa, 0xaa, 3, 0, 0, 0, 8, 0]),
        behind(9, &[0xff, 3, 0, 0x21]),
        behind(51, &[0x11, 0, 0, 1, 0, 9, 0, 0x21]),
        behind(113, &[0, 0, 0, 1, 0, 6, 2, 2, 2, 2, 2, 2, 0, 0, 8, 0]),
        behind(276, &[8, 0, 0, 0, 0, 0, 0, 2, 0, 1, 0, 6, 2, 2, 2, 2, 2, 2, 0, 0]),
        behind(0, &[2, 0, 0, 0]),
        behind(108, &[0, 0, 0, 2]),
        raw(&|ip| packets::ipv4(&[9; 20], 4, 1, 0, ip)),
        raw(&|ip| packets::ipv6(&[9; 20], 4, &[], ip)),
        raw(&|ip| packets::ipv6(ip, 0, &[ip[9], 0, 1, 4, 0, 0, 0, 0], packets::payload(ip))),
        packets::pcapng(false, 101, register()),
        packets::pcapng(true, 101, register()),
        packets::pcap_as(0xa1b2_3c4d, true, packets::RAW, register()),
        fragments(),
        segments(),
    ];
    let hep = recordings::recorded("asterisk-register");
    let compressed = |packet: &Vec<u8>| recordings::compressed(packet, recordings::message(packet));
    all.extend([hep.concat(), hep.iter().map(compressed).collect::<Vec<_>>().concat()]);
    all.extend(hep_recordings().into_iter().take(1));
    all.extend(managers().into_iter().take(2).map(|log| [b"Asterisk Call Manager/11.0.0\r\n", &log[..]].concat()));
    all.extend(event_sockets().into_iter().take(2));
    all
}

/// Each datagram in pieces of 160 bytes, the last one first.
fn fragments() -> Vec<u8> {
    let mut pieces = Vec::new();
    for (id, packet) in (1_u16..).zip(packets::ip("register")) {
        let whole = packets::payload(&packet.ip);
        for (place, piece) in (0_u16..).step_by(20).zip(whole.chunks(160)).collect::<Vec<_>>().into_iter().rev() {
            let has_more = u16::from(usize::from(place) * 8 + piece.len() < whole.len()) << 13;
            pieces.push((packet.at_us, packets::ipv4(&packet.ip, 17, id, place | has_more, piece)));
        }
    }
    packets::pcap(packets::RAW, pieces)
}

/// The messages one way as a TCP stream, whose numbers wrap and in which neighbours change places.
fn segments() -> Vec<u8> {
    let all = packets::ip("direct-cancel");
    let way = |ip: &[u8]| [&ip[12..20], &packets::payload(ip)[..4]].concat();
    let first = all.first().expect("a packet");
    let udp = packets::payload(&first.ip);
    let segment =
        |sequence, flags, bytes: &[u8]| packets::ipv4(&first.ip, 6, 1, 0, &packets::tcp(udp, sequence, flags, bytes));
    let mut sequence = u32::MAX - 300;
    let mut frames = vec![(first.at_us, segment(sequence.wrapping_sub(1), 2, b""))];
    for packet in all.iter().filter(|packet| way(&packet.ip) == way(&first.ip)) {
        for piece in packets::payload(&packet.ip)[8..].chunks(100) {
            frames.push((packet.at_us, segment(sequence, 0x18, piece)));
            sequence = sequence.wrapping_add(u32::try_from(piece.len()).expect("short"));
        }
    }
    frames[1..].chunks_mut(2).for_each(<[_]>::reverse);
    packets::pcap(packets::RAW, frames)
}

/// A day of a PBX that posts: each type of event, one by one and in batches.
pub fn cloud_events() -> Vec<Vec<u8>> {
    let event = |kind: &str, data: &str| {
        format!(r#"{{"specversion":"1.0","id":"1","source":"/pbx","type":"{kind}","data":{data}}}"#)
    };
    let start = |leg: &str, way: &str, more: &str| {
        let data = format!(r#"{{"leg":"{leg}","call":"c","direction":"{way}","to":"101"{more}}}"#);
        event("pbx.leg.started", &data)
    };
    let named = |kind: &str, leg: &str| event(&format!("pbx.leg.{kind}"), &format!(r#"{{"leg":"{leg}"}}"#));
    let end = |leg: &str| event("pbx.leg.ended", &format!(r#"{{"leg":"{leg}","end":{{"how":"bye"}}}}"#));
    let caller = start("a", "to_pbx", r#","caller":{"number":"+14155550100","name":"Jane","withheld":false}"#);
    let ring = |leg: &str, device: &str, queue: &str| {
        start(leg, "from_pbx", &format!(r#","device":"{device}","domain":"pbx.example"{queue}"#))
    };
    let waits = event("pbx.leg.queued", r#"{"leg":"a","queue":"sales","position":1,"waited_ms":2000}"#);
    let queue = r#","queue":"sales","sip_call_id":"x@y""#;
    let [one, two] = [ring("b", "101", queue), ring("c", "102", queue)];
    let others = [
        event("pbx.device.registered", r#"{"user":"101","expires_s":60,"address":"192.0.2.7:5060"}"#),
        event("pbx.device.unregistered", r#"{"user":"101","contact":"sip:101@192.0.2.7"}"#),
        event("pbx.queue", r#"{"queue":"sales","number":"600","members":[{"user":"101","paused":true}]}"#),
        event("pbx.queue.member", r#"{"queue":"sales","member":{"user":"101","penalty":3,"state":"busy"}}"#),
        event("pbx.queue.member_removed", r#"{"queue":"sales","user":"101"}"#),
        event("pbx.legs", r#"{"legs":["a","b"]}"#),
        named("unqueued", "a"),
        named("cancelling", "a"),
        named("transferred", "b"),
        event("pbx.leg.moved", r#"{"leg":"b","call":"d"}"#),
    ];
    let batch =
        |events: &[&String]| format!("[{}]", events.iter().map(|event| event.as_str()).collect::<Vec<_>>().join(","));
    let direct =
        batch(&[&caller, &ring("b", "101", ""), &named("ringing", "b"), &named("answered", "b"), &end("b"), &end("a")]);
    let queued = batch(&[
        &caller,
        &waits,
        &one,
        &two,
        &named("ringing", "b"),
        &named("ringing", "c"),
        &named("answered", "c"),
        &end("b"),
        &others[6],
        &others[8],
        &end("c"),
        &end("a"),
    ]);
    let moved = batch(&[&caller, &one, &named("ringing", "b"), &others[9], &others[7], &end("a")]);
    let mut all =
        vec![direct.into_bytes(), queued.into_bytes(), moved.into_bytes(), caller.into_bytes(), waits.into_bytes()];
    all.extend(others.into_iter().map(String::into_bytes));
    all
}

/// What PBXs asked for credentials with, and what else they may ask with.
pub fn challenges() -> Vec<Vec<u8>> {
    let recorded = ["asterisk-register", "freeswitch-register"].into_iter().flat_map(recordings::recorded);
    let mut all: Vec<Vec<u8>> = recorded
        .map(|packet| recordings::message(&packet).to_vec())
        .filter(|message| message.starts_with(b"SIP/2.0 401"))
        .collect();
    let asked = |line: &str| format!("SIP/2.0 407 Proxy Authentication Required\r\nProxy-Authenticate: {line}\r\n\r\n");
    all.extend(
        [
            asked(r#"Digest realm="a, b", nonce="1", opaque="", stale=TRUE, qop="auth,auth-int", algorithm=SHA-256"#),
            asked(r#"digest realm="a \"b\" \\", nonce="2""#),
            asked("Digest realm=plain ,\r\n nonce=3,qop=auth\r\nProxy-Authenticate: Basic realm=x"),
        ]
        .map(String::into_bytes),
    );
    all
}

/// What phones proved their passwords with, and what else they may show.
pub fn authorizations() -> Vec<Vec<u8>> {
    let recorded = ["asterisk-register", "freeswitch-register"].into_iter().flat_map(recordings::recorded);
    let mut all: Vec<Vec<u8>> = recorded
        .map(|packet| recordings::message(&packet).to_vec())
        .filter(|message| message.windows(15).any(|part| part == b"\r\nAuthorization"))
        .collect();
    let shown = |line: &str| format!("REGISTER sip:pbx.example SIP/2.0\r\nAuthorization: {line}\r\n\r\n");
    let (proof, tail) = ("response=\"8ca523f5e9506fed4657c9700eebdbec\"", "cnonce=\"0a4f113b\", qop=auth");
    all.extend(
        [
            format!(r#"Digest username="101", realm="r", nonce="n", uri="sip:a", {proof}, nc=00000001, {tail}"#),
            format!(r#"digest username="a \"b\" \\", realm="a, b",{proof},nc=ffffffff,nonce=n,uri=a,algorithm=SHA-256,{tail}"#),
            format!("Digest username=101,realm=r,\r\n nonce=n,uri=\"\",algorithm=SHA-512-256,{proof},nc=0000000a,{tail}"),
            format!(r#"Digest username="101", realm="r", nonce="n", uri="sip:a", {proof}, opaque="", algorithm=MD5"#),
            format!("Basic MTAxOng=\r\nAuthorization: Digest {proof}, {tail}, nc=00000001, nc=00000002"),
        ]
        .map(|line| shown(&line).into_bytes()),
    );
    all
}

/// Files of `fixtures/FOLDER` in order of name.
fn files(folder: &str, extension: &str) -> Vec<Vec<u8>> {
    // The fuzz programs are of another crate, two folders down.
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let root = root.ancestors().find(|folder| folder.join("fixtures").is_dir()).expect("the fixtures are there");
    let entries = fs::read_dir(root.join("fixtures").join(folder)).expect("a folder of fixtures");
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
    paths.retain(|path| path.extension().is_some_and(|found| found == extension));
    paths.sort();
    assert!(!paths.is_empty(), "fixtures/{folder} has no .{extension}");
    paths.iter().map(|path| fs::read(path).expect("it can be read")).collect()
}
