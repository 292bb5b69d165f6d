//! Stateless answers to requests (RFC 3261 §8.2.6, §8.2.7, §18.2; RFC 3581).

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io::Write as _;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use super::cseq::Method;
use super::fault::HeaderError;
use super::name::Name;
use super::refusal::Refusal;
use super::scan::Message;
use super::syntax::{split_first, trim};
use super::via::Via;
use crate::model::{Binding, Now, UnixMillis};

/// What makes our To tags ours: random, drawn once a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Salt(pub [u8; 16]);

/// Everything that answers to one request have in common.
#[derive(Clone, Debug)]
pub struct Reply<'m, 'a> {
    message: &'m Message<'a>,
    via: Via<'a>,
    source: SocketAddr,
    tag: u64,
}

/// Why nothing may or can be sent back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Unanswerable {
    /// It is a response itself.
    #[error("a response is not answered")]
    Response,
    /// An ACK is never answered (RFC 3261 §17.1.1.3).
    #[error("an ACK is not answered")]
    Ack,
    /// Without a Via nobody knows where the answer goes.
    #[error("no way back: {0}")]
    NoWayBack(HeaderError),
}

impl Unanswerable {
    /// A metric label: a few stable words.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Response => "response",
            Self::Ack => "ack",
            Self::NoWayBack(_) => "no_way_back",
        }
    }
}

/// A response being written. [`Response::finish`] gives its bytes.
#[derive(Clone, Debug)]
#[must_use = "a response does nothing until its bytes are sent"]
pub struct Response {
    bytes: Vec<u8>,
}

impl<'m, 'a> Reply<'m, 'a> {
    /// Prepares answers to `message`, which came from `source`.
    ///
    /// The To tag depends on `salt`, Call-ID and the top Via only: a retransmission gets the same one, and so does the
    /// CANCEL of an INVITE (RFC 3261 §8.2.7, §9.2).
    ///
    /// # Errors
    /// When the message is no request, an ACK, or has no usable Via.
    pub fn to(message: &'m Message<'a>, source: SocketAddr, salt: &Salt) -> Result<Self, Unanswerable> {
        match message.method() {
            None => return Err(Unanswerable::Response),
            Some(Method::Ack) => return Err(Unanswerable::Ack),
            Some(_) => {}
        }
        let via = message.top_via().map_err(Unanswerable::NoWayBack)?;
        let mut hash = DefaultHasher::new();
        (salt.0, message.header(Name::CallId), via.sent, via.branch).hash(&mut hash);
        Ok(Self { message, via, source, tag: hash.finish() })
    }

    /// Where a response sent over UDP goes; over a stream it goes back on the connection instead.
    #[must_use]
    pub fn destination(&self) -> SocketAddr {
        destination(&self.via, self.source)
    }

    /// Starts a response with this status line.
    pub fn status(&self, status: u16, reason: &str) -> Response {
        self.status_in(Vec::with_capacity(RESPONSE_LEN_TYPICAL), status, reason)
    }

    /// As [`Reply::status`], written over `buffer`, so that a listener can use one again and again.
    pub fn status_in(&self, mut buffer: Vec<u8>, status: u16, reason: &str) -> Response {
        buffer.clear();
        let out = &mut buffer;
        put_status(out, status, reason);
        self.put_vias(out);
        self.put_copies(out, Name::From);
        self.put_to(out, status);
        self.put_copies(out, Name::CallId);
        self.put_copies(out, Name::CSeq);
        Response { bytes: buffer }
    }

    /// Starts the response that `refusal` describes, with its headers.
    pub fn refuse(&self, refusal: &Refusal) -> Response {
        self.status(refusal.status, &refusal.reason).headers(refusal)
    }

    fn put_vias(&self, out: &mut Vec<u8>) {
        let mut fields = self.message.raw_headers(Name::Via);
        out.extend_from_slice(b"Via: ");
        self.put_top_via(out);
        // The first field is text, or top_via() would have failed.
        let first = fields.next().and_then(|field| std::str::from_utf8(field).ok()).unwrap_or_default();
        if let Some(more) = split_first(first).1 {
            out.extend_from_slice(b", ");
            put_value(out, trim(more).as_bytes());
        }
        out.extend_from_slice(b"\r\n");
        for field in fields {
            put_header(out, Name::Via.text(), field);
        }
    }

    /// The top Via as it came, with `received` when the source is not its sent-by host or `rport` was asked for, and
    /// `rport` filled (RFC 3261 §18.2.1, RFC 3581 §4). What the peer itself put there is not believed.
    fn put_top_via(&self, out: &mut Vec<u8>) {
        let via = &self.via;
        put_value(out, via.sent.as_bytes());
        for (name, value) in via.params.iter() {
            if name.eq_ignore_ascii_case("received") || name.eq_ignore_ascii_case("rport") {
                continue;
            }
            out.push(b';');
            put_value(out, name.as_bytes());
            if let Some(value) = value {
                out.push(b'=');
                put_value(out, value.as_bytes());
            }
        }
        let source = self.source.ip().to_canonical();
        if via.rport.is_some() || address(via.host) != Some(source) {
            out.extend_from_slice(b";received=");
            put_address(out, source);
        }
        if via.rport.is_some() {
            out.extend_from_slice(b";rport=");
            put_number(out, self.source.port().into());
        }
    }

    fn put_to(&self, out: &mut Vec<u8>, status: u16) {
        let Some(value) = self.message.raw_headers(Name::To).next() else { return };
        out.extend_from_slice(b"To: ");
        put_value(out, value);
        if status > 100 && self.message.tag(Name::To).map_or(true, |tag| tag.is_none()) {
            out.extend_from_slice(b";tag=");
            put_hex(out, self.tag);
        }
        out.extend_from_slice(b"\r\n");
    }

    /// Only the first field is copied: From, Call-ID and `CSeq` have one, or the request is being refused for it.
    fn put_copies(&self, out: &mut Vec<u8>, name: Name) {
        if let Some(value) = self.message.raw_headers(name).next() {
            put_header(out, name.text(), value);
        }
    }
}

impl Response {
    /// Starts the response that `refusal` describes to the request that `response`, one of ours, answers.
    pub fn instead_of(response: &[u8], refusal: &Refusal) -> Self {
        let mut bytes = Vec::with_capacity(RESPONSE_LEN_TYPICAL);
        put_status(&mut bytes, refusal.status, &refusal.reason);
        for line in response.split_inclusive(|byte| *byte == b'\n').skip(1) {
            let rest = COPIED.iter().find_map(|name| line.strip_prefix(name.text().as_bytes()));
            if rest.is_some_and(|rest| rest.starts_with(b":")) {
                bytes.extend_from_slice(line);
            }
        }
        Self { bytes }.headers(refusal)
    }

    /// Adds a header. Line breaks in `value` become spaces.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        put_header(&mut self.bytes, name, value.as_bytes());
        self
    }

    fn headers(self, refusal: &Refusal) -> Self {
        refusal.headers.iter().fold(self, |response, (name, value)| response.header(name, value))
    }

    /// Adds a Contact for each binding that lives at `now`, with the seconds it has left (rounded up).
    pub fn contacts(mut self, bindings: &[Binding], now: Now) -> Self {
        for binding in bindings.iter().filter(|binding| binding.expires_at > now.tick) {
            let out = &mut self.bytes;
            out.extend_from_slice(b"Contact: <");
            out.extend_from_slice(binding.contact.as_bytes());
            out.extend_from_slice(b">;expires=");
            put_number(out, (binding.expires_at - now.tick).div_ceil(1_000));
            if binding.q < 1_000 {
                put(out, format_args!(";q=0.{:03}", binding.q));
            }
            if let Some(instance) = &binding.instance {
                out.extend_from_slice(b";+sip.instance=\"<");
                out.extend_from_slice(instance.as_bytes());
                out.extend_from_slice(b">\"");
            }
            if let Some(reg_id) = binding.reg_id {
                out.extend_from_slice(b";reg-id=");
                put_number(out, reg_id.into());
            }
            out.extend_from_slice(b"\r\n");
        }
        self
    }

    /// Adds a Date header (RFC 3261 §20.17).
    pub fn date(mut self, at: UnixMillis) -> Self {
        put_date(&mut self.bytes, at);
        self
    }

    /// The bytes to send; the body is empty.
    #[must_use]
    pub fn finish(mut self) -> Vec<u8> {
        self.bytes.extend_from_slice(b"Content-Length: 0\r\n\r\n");
        self.bytes
    }
}

/// Where a response to a request with this top Via that came from `source` goes over UDP: to the source address, at
/// the source port when `rport` was asked for (RFC 3581 §4), else at the sent-by port, else 5060 (RFC 3261 §18.2.2).
/// `maddr` is ignored: it would let anybody aim our answers at anybody.
#[must_use]
pub fn destination(via: &Via<'_>, source: SocketAddr) -> SocketAddr {
    let port = if via.rport.is_some() { source.port() } else { via.port.unwrap_or(5060) };
    let mut destination = source;
    destination.set_port(port);
    destination
}

fn put(out: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    // Writing to a Vec never fails.
    let _ = out.write_fmt(text);
}

fn put_status(out: &mut Vec<u8>, status: u16, reason: &str) {
    out.extend_from_slice(b"SIP/2.0 ");
    put_number(out, status.into());
    out.push(b' ');
    put_value(out, reason.as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// Sixteen digits.
fn put_hex(out: &mut Vec<u8>, number: u64) {
    let digits =
        (0..16).map(|at| b"0123456789abcdef"[usize::from(number.rotate_left(4 * at + 4).to_le_bytes()[0] & 15)]);
    out.extend(digits);
}

/// Two digits of a number below a hundred.
fn put_pair(out: &mut Vec<u8>, number: u64) {
    put_number(out, number / 10 % 10);
    put_number(out, number % 10);
}

fn put_address(out: &mut Vec<u8>, address: IpAddr) {
    let IpAddr::V4(v4) = address else { return put(out, format_args!("{address}")) };
    for (at, octet) in v4.octets().into_iter().enumerate() {
        if at > 0 {
            out.push(b'.');
        }
        put_number(out, octet.into());
    }
}

/// Decimal, without the machinery of `fmt`: several stand in every answer.
fn put_number(out: &mut Vec<u8>, number: u64) {
    if number >= 10 {
        put_number(out, number / 10);
    }
    out.extend((number % 10).try_into().map(|digit: u8| b'0' + digit));
}

fn put_header(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    put_value(out, value);
    out.extend_from_slice(b"\r\n");
}

/// Copies a value; folding, and a lone CR that some parser might take for a line break, becomes a space.
fn put_value(out: &mut Vec<u8>, value: &[u8]) {
    if memchr::memchr2(b'\r', b'\n', value).is_none() {
        out.extend_from_slice(value);
        return;
    }
    let lines = value.split(|byte| matches!(byte, b'\r' | b'\n')).map(<[u8]>::trim_ascii);
    for (index, line) in lines.filter(|line| !line.is_empty()).enumerate() {
        if index > 0 {
            out.push(b' ');
        }
        out.extend_from_slice(line);
    }
}

fn put_date(out: &mut Vec<u8>, at: UnixMillis) {
    let seconds = u64::try_from(at.0 / 1_000).unwrap_or(0);
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = civil(days);
    let name = |names: &[&'static str], index: u64| {
        usize::try_from(index).ok().and_then(|index| names.get(index).copied()).unwrap_or_default()
    };
    out.extend_from_slice(b"Date: ");
    out.extend_from_slice(name(&DAYS, days % 7).as_bytes());
    out.extend_from_slice(b", ");
    put_pair(out, day);
    out.push(b' ');
    out.extend_from_slice(name(&MONTHS, month).as_bytes());
    out.push(b' ');
    put_number(out, year);
    for (parted, number) in [(b' ', second / 3_600), (b':', second / 60 % 60), (b':', second % 60)] {
        out.push(parted);
        put_pair(out, number);
    }
    out.extend_from_slice(b" GMT\r\n");
}

/// Year, month (0–11) and day (1–31) of the day `days` after 1970-01-01, in eras of 400 years that start in March.
fn civil(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = (month_from_march + 2) % 12;
    (era * 400 + year_of_era + u64::from(month < 2), month, day)
}

/// The address a sent-by host is, when it is a literal.
fn address(host: &str) -> Option<IpAddr> {
    match host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        Some(v6) => v6.parse::<Ipv6Addr>().ok().map(|ip| IpAddr::from(ip).to_canonical()),
        None => host.parse().ok(),
    }
}

/// What every response has from its request (RFC 3261 §8.2.6.2).
const COPIED: [Name; 5] = [Name::Via, Name::From, Name::To, Name::CallId, Name::CSeq];
/// From the first day of 1970.
const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
const RESPONSE_LEN_TYPICAL: usize = 768;

#[cfg(test)]
mod tests {
    use super::super::scan::scan;
    use super::*;

    const SALT: Salt = Salt([7; 16]);

    fn request(via: &str) -> String {
        format!(
            "OPTIONS sip:pbx.example SIP/2.0\r\nv: {via}\r\nFrom: <sip:a@b>;tag=1\r\nTo:\r\n <sip:c@d>\r\n\
             Call-ID: x\r\nCSeq: 1 OPTIONS\r\n\r\n"
        )
    }

    fn answer(text: &str, source: &str) -> (String, String) {
        let message = scan(text.as_bytes()).unwrap();
        let reply = Reply::to(&message, source.parse().unwrap(), &SALT).unwrap();
        (String::from_utf8(reply.status(200, "OK").finish()).unwrap(), reply.destination().to_string())
    }

    fn line<'a>(text: &'a str, name: &str) -> Vec<&'a str> {
        text.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix(": ")).collect()
    }

    #[test]
    fn a_response_copies_what_the_rfc_says_and_adds_one_tag() {
        let text = request("SIP/2.0/UDP 192.0.2.1:5070;branch=z9hG4bK1 , SIP/2.0/TCP h2\r\nVia: SIP/2.0/UDP h3");
        let (response, destination) = answer(&text, "192.0.2.1:9");
        assert!(response.starts_with("SIP/2.0 200 OK\r\n") && response.ends_with("Content-Length: 0\r\n\r\n"));
        assert_eq!(
            line(&response, "Via"),
            ["SIP/2.0/UDP 192.0.2.1:5070;branch=z9hG4bK1, SIP/2.0/TCP h2", "SIP/2.0/UDP h3"]
        );
        assert_eq!(line(&response, "From"), ["<sip:a@b>;tag=1"]);
        assert_eq!((line(&response, "Call-ID"), line(&response, "CSeq")), (vec!["x"], vec!["1 OPTIONS"]));
        assert!(line(&response, "To")[0].starts_with("<sip:c@d>;tag="));
        assert_eq!(destination, "192.0.2.1:5070");
        assert_eq!(answer(&text, "192.0.2.1:9").0, response, "a retransmission gets the same tag");
        assert_ne!(line(&answer(&text.replace("bK1", "bK2"), "192.0.2.1:9").0, "To"), line(&response, "To"));
    }

    #[test]
    fn what_is_no_blank_in_a_via_is_copied() {
        let (response, _) = answer(&request("SIP/2.0/UDP h;branch=z9hG4bK1,\u{b}\t, SIP/2.0/TCP h2"), "192.0.2.1:9");
        let vias = line(&response, "Via")[0];
        assert!(vias.ends_with(", \u{b}\t, SIP/2.0/TCP h2"), "{vias:?}");
    }

    #[test]
    fn another_answer_can_be_made_of_the_one_that_was_to_be_sent() {
        let text = request("SIP/2.0/UDP h;branch=z9hG4bK1 , SIP/2.0/TCP h2\r\nVia: SIP/2.0/UDP\r\n h3;rport");
        let message = scan(text.as_bytes()).unwrap();
        let reply = Reply::to(&message, "192.0.2.1:9".parse().unwrap(), &SALT).unwrap();
        let ok = reply.status(200, "OK").header("Contact", "<sip:c@d>").header("Path", "<sip:e>").date(UnixMillis(0));
        let refusal = Refusal::new(503, "Not Now", "later").with("Retry-After", "5");
        let instead = Response::instead_of(&ok.finish(), &refusal).finish();
        assert_eq!(String::from_utf8(instead), String::from_utf8(reply.refuse(&refusal).finish()));
    }

    #[test]
    fn a_tag_that_is_there_is_kept_and_100_gets_none() {
        let text = request("SIP/2.0/UDP h").replace("<sip:c@d>", "<sip:c@d>;tag=theirs");
        assert_eq!(line(&answer(&text, "192.0.2.1:9").0, "To"), ["<sip:c@d>;tag=theirs"]);
        let text = request("SIP/2.0/UDP h");
        let message = scan(text.as_bytes()).unwrap();
        let trying = Reply::to(&message, "192.0.2.1:9".parse().unwrap(), &SALT).unwrap().status(100, "Trying").finish();
        assert_eq!(line(&String::from_utf8(trying).unwrap(), "To"), ["<sip:c@d>"]);
    }

    #[test]
    fn responses_find_their_way_through_nat() {
        for (via, source, expected, destination) in [
            (
                "SIP/2.0/UDP 10.0.0.1:5070;rport;branch=b",
                "192.0.2.9:4000",
                ";branch=b;received=192.0.2.9;rport=4000",
                "192.0.2.9:4000",
            ),
            ("SIP/2.0/UDP 10.0.0.1:5070", "192.0.2.9:4000", ";received=192.0.2.9", "192.0.2.9:5070"),
            ("SIP/2.0/UDP 10.0.0.1", "10.0.0.1:4000", "", "10.0.0.1:5060"),
            (
                "SIP/2.0/UDP pbx.example;maddr=203.0.113.1",
                "192.0.2.9:4000",
                ";maddr=203.0.113.1;received=192.0.2.9",
                "192.0.2.9:5060",
            ),
            (
                "SIP/2.0/UDP 10.0.0.1;received=203.0.113.1;rport=1",
                "192.0.2.9:4000",
                ";received=192.0.2.9;rport=4000",
                "192.0.2.9:4000",
            ),
            ("SIP/2.0/UDP [2001:db8::1]", "[2001:DB8:0::1]:4000", "", "[2001:db8::1]:5060"),
            (
                "SIP/2.0/UDP [2001:db8::1];rport",
                "[2001:db8::2]:4000",
                ";received=2001:db8::2;rport=4000",
                "[2001:db8::2]:4000",
            ),
            ("SIP/2.0/UDP 192.0.2.9", "[::ffff:192.0.2.9]:4000", "", "[::ffff:192.0.2.9]:5060"),
        ] {
            let (response, to) = answer(&request(via), source);
            let written = line(&response, "Via")[0];
            let params = written.find(';').map_or("", |at| &written[at..]);
            assert_eq!((params, to.as_str()), (expected, destination), "{via} from {source}");
        }
    }

    #[test]
    fn what_must_not_be_answered_is_not() {
        let source = "192.0.2.1:9".parse().unwrap();
        let outcome = |text: &str| Reply::to(&scan(text.as_bytes()).unwrap(), source, &SALT).map(|_| ()).unwrap_err();
        assert_eq!(outcome("SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP h\r\n\r\n"), Unanswerable::Response);
        assert_eq!(outcome("ACK sip:a@b SIP/2.0\r\nVia: SIP/2.0/UDP h\r\n\r\n"), Unanswerable::Ack);
        assert_eq!(outcome("BYE sip:a@b SIP/2.0\r\n\r\n").label(), "no_way_back");
        assert_eq!(outcome("BYE sip:a@b SIP/2.0\r\nVia: , SIP/2.0/UDP h\r\n\r\n").label(), "no_way_back");
    }

    #[test]
    fn nothing_a_peer_sends_breaks_our_lines() {
        let text = request("SIP/2.0/UDP h;x=\"a\rb\"").replace("Call-ID: x", "Call-ID: x\rX-Evil: y");
        let (response, _) = answer(&text, "192.0.2.1:9");
        assert!(response.split("\r\n").all(|line| !line.contains(['\r', '\n'])), "{response:?}");
        assert_eq!(line(&response, "X-Evil"), Vec::<&str>::new());
    }

    #[test]
    fn dates_are_written_as_rfc_1123_does() {
        let date = |unix_s: i64| {
            let mut out = Vec::new();
            put_date(&mut out, UnixMillis(unix_s * 1_000));
            String::from_utf8(out).unwrap()
        };
        assert_eq!(date(0), "Date: Thu, 01 Jan 1970 00:00:00 GMT\r\n");
        assert_eq!(date(951_782_400), "Date: Tue, 29 Feb 2000 00:00:00 GMT\r\n");
        assert_eq!(date(1_289_692_799), "Date: Sat, 13 Nov 2010 23:59:59 GMT\r\n");
        assert_eq!(date(4_102_444_800), "Date: Fri, 01 Jan 2100 00:00:00 GMT\r\n");
    }
}
