//! Calls to phones as a PBX's mirror shows them: one rings at every tick, every other one is answered, and all of them end.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

/// What to offer.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// Where copies are sent.
    pub mirror: SocketAddr,
    /// Phones, called one after the other, again and again.
    pub phones: usize,
    pub per_second: usize,
    /// Calls in all.
    pub calls: usize,
}

/// Sends the copies at an even rate; when each phone rang, by call.
pub fn offer(load: Load) -> Vec<Instant> {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a free port");
    socket.connect(load.mirror).expect("it can be reached");
    let mut rang = Vec::with_capacity(load.calls);
    let tick = Duration::from_secs(1) / u32::try_from(load.per_second).expect("some hundred");
    let mut due = BinaryHeap::from([Reverse((Instant::now(), 0, 0))]);
    while let Some(Reverse((at, call, step))) = due.pop() {
        if let Some(early) = at.checked_duration_since(Instant::now()) {
            std::thread::sleep(early);
        }
        let Step { messages, next } = script(call, call % load.phones, step);
        if step == RINGS {
            rang.push(Instant::now());
        }
        for message in messages {
            socket.send(message.as_bytes()).expect("it is sent");
        }
        if let Some(after) = next {
            due.push(Reverse((at + after, call, step + 1)));
        }
        if step == 0 && call + 1 < load.calls {
            due.push(Reverse((at + tick, call + 1, 0)));
        }
    }
    rang
}

/// What is sent at once, and how long after it comes the next step.
struct Step {
    messages: Vec<String>,
    next: Option<Duration>,
}

/// INVITE; 180; then either CANCEL with all it brings, or 200 and, later, BYE.
fn script(call: usize, phone: usize, step: usize) -> Step {
    let message = |start: &str, method: &str, from_pbx: bool| message(start, method, from_pbx, call, phone);
    let target = format!("sip:{}@198.51.100.7:5060", extension(phone));
    let request = |method: &str| message(&format!("{method} {target} SIP/2.0"), method, true);
    let response = |status: &str, method: &str| message(&format!("SIP/2.0 {status}"), method, false);
    let is_answered = call % 2 == 1;
    let (messages, next) = match step {
        0 => (vec![request("INVITE"), response("100 Trying", "INVITE")], Some(50)),
        RINGS => (vec![response("180 Ringing", "INVITE")], Some(500)),
        2 if is_answered => (vec![response("200 OK", "INVITE"), request("ACK")], Some(500)),
        2 => {
            let ends = [request("CANCEL"), response("200 OK", "CANCEL"), response("487 Request Terminated", "INVITE")];
            (ends.into_iter().chain([request("ACK")]).collect(), None)
        }
        _ => (vec![request("BYE"), response("200 OK", "BYE")], None),
    };
    Step { messages, next: next.map(Duration::from_millis) }
}

/// A message between the PBX and the phone, as siptrace copies it.
fn message(start: &str, method: &str, from_pbx: bool, call: usize, phone: usize) -> String {
    let (source, destination, direction) = if from_pbx { (PBX, PHONE, "out") } else { (PHONE, PBX, "in") };
    let user = extension(phone);
    let (cseq, transaction) = match method {
        "BYE" => (2, "bye"),
        "ACK" if call % 2 == 1 => (1, "ack"),
        _ => (1, "invite"),
    };
    let to_tag =
        if start.starts_with("INVITE") || start.contains(" 100 ") || method == "CANCEL" { "" } else { ";tag=p" };
    let contact = if from_pbx { "pbx".to_owned() } else { user.clone() };
    format!(
        "{start}\r\n\
         X-Siptrace-Fromip: udp:{source}\r\nX-Siptrace-Toip: udp:{destination}\r\nX-Siptrace-Dir: {direction}\r\n\
         Via: SIP/2.0/UDP {PBX};rport;branch=z9hG4bK-{call}-{transaction}\r\n\
         Max-Forwards: 70\r\n\
         From: \"Jane Caller\" <sip:{}@pbx.example>;tag=f{call}\r\n\
         To: <sip:{user}@pbx.example>{to_tag}\r\n\
         Call-ID: {call}-4f2a-9d1c@pbx.example\r\n\
         CSeq: {cseq} {method}\r\n\
         Contact: <sip:{contact}@{source}>\r\n\
         User-Agent: Office PBX 22.1.0\r\n\
         Content-Length: 0\r\n\r\n",
        caller(call)
    )
}

/// Of a phone.
pub fn extension(phone: usize) -> String {
    (1_000 + phone).to_string()
}

/// The call this number is the caller of.
pub fn call_of(number: &str) -> Option<usize> {
    number.strip_prefix(CALLERS)?.parse().ok()
}

fn caller(call: usize) -> String {
    format!("{CALLERS}{call:06}")
}

/// The step at which the phone rings, which is what pops.
const RINGS: usize = 1;
const PBX: &str = "192.0.2.10:5060";
const PHONE: &str = "198.51.100.7:5060";
/// What callers' numbers begin with: one of Berlin's, which may be long.
const CALLERS: &str = "+4930555";
