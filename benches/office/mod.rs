//! What a busy office's PBX sends as HEP: calls from a trunk that ring a phone, are answered and end; phones that refresh
//! their registration; keepalives. All of them overlap, as they do on a real wire.

use std::fmt::Write as _;

/// Phones of the office; their extensions begin at [`FIRST`].
pub const PHONES: usize = 2_000;
/// The first extension.
pub const FIRST: usize = 1_000;
/// Messages of one unit: a call on two legs (14), a registration (4), three keepalives (6).
pub const UNIT: usize = CALL + REGISTRATION + KEEPALIVES;

const CALL: usize = 14;
const REGISTRATION: usize = 4;
const KEEPALIVES: usize = 6;
/// Units between two messages of one call, so that about `CALL` times as many go on at once.
const SPREAD: usize = 40;

/// The packets of `units`, numbered from `first`; each differs from every other one.
pub fn packets(first: usize, units: usize) -> Vec<Vec<u8>> {
    let mut packets = Vec::with_capacity(units * UNIT);
    for unit in first..first + units {
        for step in 0..CALL {
            // Before the first SPREAD steps there are calls of which only the start is seen, as at any beginning.
            let Some(call) = unit.checked_sub(step * SPREAD) else { continue };
            packets.push(call_step(call, step));
        }
        packets.extend((0..REGISTRATION).map(|step| registration_step(unit, step)));
        packets.extend((0..KEEPALIVES).map(|step| keepalive_step(unit, step)));
    }
    packets
}

/// One phone's registration, for the beginning.
pub fn registration(phone: usize) -> Vec<Vec<u8>> {
    (0..REGISTRATION).map(|step| registration_step(phone, step)).collect()
}

/// The kind of each step: leg (0 trunk, 1 phone), what it is, whether it goes towards the PBX.
const STEPS: [(usize, &str, bool); CALL] = [
    (0, "INVITE", true),
    (0, "100 Trying", false),
    (1, "INVITE", false),
    (1, "100 Trying", true),
    (1, "180 Ringing", true),
    (0, "180 Ringing", false),
    (1, "200 OK", true),
    (0, "200 OK", false),
    (1, "ACK", false),
    (0, "ACK", true),
    (0, "BYE", true),
    (0, "200 BYE", false),
    (1, "BYE", false),
    (1, "200 BYE", true),
];

fn call_step(call: usize, step: usize) -> Vec<u8> {
    let (leg, what, to_pbx) = STEPS[step];
    let phone = FIRST + call * 7 % PHONES;
    let caller = format!("+1415555{:04}", call % 10_000);
    let (far, user) = if leg == 0 { (TRUNK, "+14155550100".to_owned()) } else { (PHONE, phone.to_string()) };
    let (method, cseq) = match what {
        "BYE" | "200 BYE" => ("BYE", 2),
        "ACK" => ("ACK", 1),
        _ => ("INVITE", 1),
    };
    let is_request = !what.starts_with(|c: char| c.is_ascii_digit());
    let target = if leg == 0 { format!("sip:{user}@192.0.2.10") } else { format!("sip:{user}@{far}:5060;ob") };
    let mut text = if is_request {
        format!("{method} {target} SIP/2.0\r\n")
    } else {
        format!("SIP/2.0 {}\r\n", what.replace("BYE", "OK"))
    };
    // The request's sender is the trunk on its leg, the PBX on the phone's.
    let sender = if leg == 0 { TRUNK } else { PBX };
    let branch = format!("z9hG4bK-{call:08x}-{leg}-{}", if method == "INVITE" { "i" } else { method });
    let to_tag = if what == "INVITE" || what == "100 Trying" { String::new() } else { format!(";tag=t{call:x}{leg}") };
    let _ = write!(
        text,
        "Via: SIP/2.0/UDP {sender}:5060;rport=5060;branch={branch}\r\n\
         From: \"Jane Caller\" <sip:{caller}@pbx.example>;tag=f{call:x}{leg}\r\n\
         To: <sip:{user}@pbx.example>{to_tag}\r\n\
         Call-ID: {call:08x}-{leg}-4f2a-9d1c-office@192.0.2.10\r\n\
         CSeq: {cseq} {method}\r\n\
         Contact: <sip:{user}@{sender}:5060>\r\n\
         Max-Forwards: 70\r\n\
         User-Agent: Office PBX 22.1.0\r\n\
         Allow: OPTIONS, REGISTER, SUBSCRIBE, NOTIFY, PUBLISH, INVITE, ACK, BYE, CANCEL, UPDATE, PRACK, INFO, REFER\r\n\
         Supported: 100rel, timer, replaces, norefersub, histinfo\r\n"
    );
    finish(&mut text, if what == "INVITE" || what == "200 OK" { SDP } else { "" });
    wrap(&text, far, to_pbx)
}

fn registration_step(unit: usize, step: usize) -> Vec<u8> {
    let phone = FIRST + unit % PHONES;
    let round = unit / PHONES;
    let cseq = 2 * round + 1 + step / 2;
    let mut text = match step {
        0 | 2 => "REGISTER sip:pbx.example SIP/2.0\r\n",
        1 => "SIP/2.0 401 Unauthorized\r\n",
        _ => "SIP/2.0 200 OK\r\n",
    }
    .to_owned();
    let to_tag = if step.is_multiple_of(2) { "" } else { ";tag=registrar" };
    let _ = write!(
        text,
        "Via: SIP/2.0/UDP {PHONE}:5060;rport=5060;branch=z9hG4bK-r{unit:08x}-{cseq}\r\n\
         From: <sip:{phone}@pbx.example>;tag=r{phone}\r\n\
         To: <sip:{phone}@pbx.example>{to_tag}\r\n\
         Call-ID: register-{phone}@{PHONE}\r\n\
         CSeq: {cseq} REGISTER\r\n\
         User-Agent: Desk Phone 5.4.1\r\n"
    );
    match step {
        0 => text.push_str("Expires: 3600\r\n"),
        1 => text
            .push_str("WWW-Authenticate: Digest realm=\"pbx.example\", nonce=\"1700000000/abcdef\", algorithm=MD5\r\n"),
        2 => text.push_str(
            "Authorization: Digest username=\"x\", realm=\"pbx.example\", nonce=\"1700000000/abcdef\", \
             uri=\"sip:pbx.example\", response=\"00000000000000000000000000000000\"\r\nExpires: 3600\r\n",
        ),
        _ => text.push_str("Date: Fri, 20 Nov 2026 12:00:00 GMT\r\nExpires: 3600\r\n"),
    }
    if step != 1 {
        let _ = write!(text, "Contact: <sip:{phone}@{PHONE}:5060>;expires=3600\r\n");
    }
    finish(&mut text, "");
    wrap(&text, PHONE, step.is_multiple_of(2))
}

fn keepalive_step(unit: usize, step: usize) -> Vec<u8> {
    let phone = FIRST + (unit * 3 + step / 2) % PHONES;
    let is_request = step.is_multiple_of(2);
    let mut text =
        if is_request { format!("OPTIONS sip:{phone}@{PHONE}:5060 SIP/2.0\r\n") } else { "SIP/2.0 200 OK\r\n".into() };
    let _ = write!(
        text,
        "Via: SIP/2.0/UDP {PBX}:5060;rport;branch=z9hG4bK-o{unit:08x}-{}\r\n\
         From: <sip:pbx@pbx.example>;tag=o{unit:x}\r\n\
         To: <sip:{phone}@pbx.example>\r\n\
         Call-ID: options-{unit:08x}-{}@192.0.2.10\r\n\
         CSeq: 1 OPTIONS\r\n\
         Max-Forwards: 70\r\n\
         User-Agent: Office PBX 22.1.0\r\n",
        step / 2,
        step / 2,
    );
    finish(&mut text, "");
    wrap(&text, PHONE, !is_request)
}

fn finish(text: &mut String, body: &str) {
    if !body.is_empty() {
        text.push_str("Content-Type: application/sdp\r\n");
    }
    let _ = write!(text, "Content-Length: {}\r\n\r\n{body}", body.len());
}

/// As Asterisk's `res_hep` does.
fn wrap(sip: &str, far: &str, to_pbx: bool) -> Vec<u8> {
    let address = |text: &str| text.split('.').map(|part| part.parse::<u8>().expect("an address")).collect::<Vec<_>>();
    let (source, destination) = if to_pbx { (far, PBX) } else { (PBX, far) };
    let port = 5060_u16.to_be_bytes();
    let chunks: [(u8, &[u8]); 11] = [
        (1, &[2]),
        (2, &[17]),
        (3, &address(source)),
        (4, &address(destination)),
        (7, &port),
        (8, &port),
        (9, &[0x65, 0, 0, 0]),
        (10, &[0, 0, 0, 1]),
        (11, &[1]),
        (12, &[0, 0, 0x07, 0xd1]),
        (15, sip.as_bytes()),
    ];
    let mut packet = b"HEP3\0\0".to_vec();
    for (kind, body) in chunks {
        packet.extend([0, 0, 0, kind]);
        packet.extend(u16::try_from(body.len() + 6).expect("it fits").to_be_bytes());
        packet.extend(body);
    }
    let length = u16::try_from(packet.len()).expect("it fits").to_be_bytes();
    packet[4..6].copy_from_slice(&length);
    packet
}

const PBX: &str = "192.0.2.10";
const PHONE: &str = "198.51.100.7";
const TRUNK: &str = "203.0.113.5";
const SDP: &str = "v=0\r\no=- 1 1 IN IP4 192.0.2.10\r\ns=call\r\nc=IN IP4 192.0.2.10\r\nt=0 0\r\n\
    m=audio 14000 RTP/AVP 0 8 9 101\r\na=rtpmap:0 PCMU/8000\r\na=rtpmap:8 PCMA/8000\r\na=rtpmap:9 G722/8000\r\n\
    a=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-16\r\na=ptime:20\r\na=sendrecv\r\n";
