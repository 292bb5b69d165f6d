//! From bytes to headers, in place: no copies, no allocation per header, a limit on everything.
//!
//! [`scan`] only finds where things are. It takes whatever can be told apart, so that a message with one bad header can
//! still be answered with a 400 that names it; the typed accessors judge the values.

use smallvec::SmallVec;

use super::cseq::Method;
use super::fault::{HeaderError, HeaderFault, ScanError};
pub use super::message::Message;
use super::message::{BAD_CONTENT_LENGTH, Field, StartLine};
use super::name::Name;
use super::syntax::is_token;

/// Finds the parts of a datagram, or of one framed message of a stream.
///
/// Line breaks before the message are skipped (RFC 3261 §7.5), lines may end in CRLF or LF, and a body longer than
/// its Content-Length is cut there (§18.3).
///
/// # Errors
/// When it is no SIP message at all or passes a limit. Nothing can be answered then.
pub fn scan(bytes: &[u8]) -> Result<Message<'_>, ScanError> {
    if bytes.len() > MESSAGE_LEN_MAX {
        return Err(ScanError::MessageTooLong);
    }
    let is_padding = |byte: &u8| matches!(byte, b'\r' | b'\n' | b' ' | 0);
    let blank = bytes.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
    if bytes.iter().skip(blank).all(is_padding) {
        return Err(ScanError::Keepalive);
    }
    // One search over the whole head, not one a line: lines are short, and beginning a search costs more than they do.
    let mut breaks = memchr::memchr_iter(b'\n', bytes).skip(bytes.iter().take(blank).filter(|b| **b == b'\n').count());
    let (line_end, mut at) = line(bytes, blank, &mut breaks).ok_or(ScanError::NotSip)?;
    let start = start_line(bytes.get(blank..line_end).unwrap_or_default())?;
    let mut message = Message {
        raw: bytes,
        head: None,
        start,
        fields: SmallVec::new(),
        present: 0,
        repeated: 0,
        first: [0; Name::COUNT],
        fault: None,
        body: &[],
    };
    // The empty line after the headers may be missing, but not half a header.
    while at < bytes.len() {
        let begin = at;
        let (mut end, mut next) = line(bytes, at, &mut breaks).ok_or(ScanError::Truncated)?;
        if end == begin {
            at = next;
            break;
        }
        while matches!(bytes.get(next), Some(b' ' | b'\t')) {
            (end, next) = line(bytes, next, &mut breaks).ok_or(ScanError::Truncated)?;
        }
        if end - begin > LINE_LEN_MAX {
            return Err(ScanError::LineTooLong);
        }
        message.field(begin, end)?;
        at = next;
    }
    let (head, rest) = bytes.split_at(at);
    message.head = if memchr::memchr(0, head).is_none() { simdutf8::basic::from_utf8(head).ok() } else { None };
    message.take_body(rest);
    Ok(message)
}

impl<'a> Message<'a> {
    /// Notes the header field in `raw[begin..end]`, which may span several lines.
    fn field(&mut self, begin: usize, end: usize) -> Result<(), ScanError> {
        if self.fields.len() >= HEADERS_MAX {
            return Err(ScanError::TooManyHeaders);
        }
        let bytes = self.raw.get(begin..end).unwrap_or_default();
        let colon = bytes.iter().position(|byte| *byte == b':').unwrap_or(0);
        let name = match bytes.get(..colon).unwrap_or_default() {
            name @ [.., b' ' | b'\t' | b'\r' | b'\n'] => name.trim_ascii_end(),
            name => name,
        };
        let known = Name::of(name);
        if known == Name::Other && !is_token(name) {
            self.fault = self.fault.or(Some(HeaderError::new("Header Line", HeaderFault::Line)));
            return Ok(());
        }
        let value = bytes.get(colon + 1..).unwrap_or_default();
        let (value_at, value_end) = if let [b' ', b'!'..=b'~', .., b'!'..=b'~'] = value {
            // As nearly everybody writes it.
            (begin + colon + 2, end)
        } else {
            let value_at = begin + colon + 1 + (value.len() - value.trim_ascii_start().len());
            (value_at, value_at + value.trim_ascii().len())
        };
        let offset = |at: usize| u16::try_from(at).map_err(|_| ScanError::MessageTooLong);
        self.fields.push(Field {
            name: known,
            name_at: offset(begin)?,
            name_end: offset(begin + name.len())?,
            value_at: offset(value_at)?,
            value_end: offset(value_end)?,
        });
        if self.present & known.bit() == 0 {
            self.present |= known.bit();
            // The limit on headers is below what a byte holds.
            self.first[known as usize] = u8::try_from(self.fields.len() - 1).unwrap_or(u8::MAX);
        } else {
            self.repeated |= known.bit();
        }
        Ok(())
    }

    fn take_body(&mut self, rest: &'a [u8]) {
        let body = self.content_length().and_then(|length| match length {
            None => Ok(rest),
            Some(length) => rest.get(..length).ok_or(BAD_CONTENT_LENGTH),
        });
        match body {
            Ok(body) => self.body = body,
            Err(error) => {
                self.body = rest;
                self.fault = self.fault.or(Some(error));
            }
        }
    }
}

/// End of the line that starts at `begin`, without its line break, and where the next one starts; none when it has no end.
fn line(bytes: &[u8], begin: usize, breaks: &mut impl Iterator<Item = usize>) -> Option<(usize, usize)> {
    let break_at = breaks.next()?;
    let has_return = break_at > begin && bytes.get(break_at - 1) == Some(&b'\r');
    Some((break_at - usize::from(has_return), break_at + 1))
}

fn start_line(line: &[u8]) -> Result<StartLine<'_>, ScanError> {
    if line.len() > LINE_LEN_MAX {
        return Err(ScanError::LineTooLong);
    }
    let line = std::str::from_utf8(line).map_err(|_| ScanError::NotSip)?;
    let (first, rest) = line.split_at(memchr::memchr(b' ', line.as_bytes()).unwrap_or(line.len()));
    let rest = rest.get(1..).unwrap_or_default();
    if is_version(first) == Some(true) {
        let code = rest.split(' ').next().unwrap_or_default();
        let status = code.parse().ok().filter(|status| (100..700).contains(status) && code.len() == 3);
        return Ok(StartLine::Response { status: status.ok_or(ScanError::NotSip)?, line: rest.trim() });
    }
    let method = Method::parse(first).ok_or(ScanError::NotSip)?;
    let rest = rest.trim_ascii_end();
    let (uri, version) = rest.split_at(memchr::memrchr(b' ', rest.as_bytes()).ok_or(ScanError::NotSip)?);
    let version = version.get(1..).unwrap_or_default();
    let version_2 = is_version(version).ok_or(ScanError::NotSip)?;
    Ok(StartLine::Request { method, uri, version_2 })
}

/// Whether `text` is `SIP/2.0` (true) or another version of SIP (false); none when it is neither.
fn is_version(text: &str) -> Option<bool> {
    if text == "SIP/2.0" {
        return Some(true);
    }
    let (protocol, version) = text.split_once('/')?;
    protocol.eq_ignore_ascii_case("SIP").then_some(version == "2.0")
}

/// Longest message taken, in bytes: what fits a UDP datagram.
pub const MESSAGE_LEN_MAX: usize = 65_535;
/// Longest line taken, with its continuations, in bytes.
pub const LINE_LEN_MAX: usize = 8_192;
/// Most header fields taken.
pub const HEADERS_MAX: usize = 128;

#[cfg(test)]
mod tests {
    use super::super::cseq::CSeq;
    use super::*;

    const REGISTER: &str = "\r\nREGISTER sip:pbx.example SIP/2.0\r\n\
        v: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK1, SIP/2.0/UDP h2\r\n\
        Via : SIP/2.0/TCP [2001:db8::1]\r\n\
        FROM:<sip:101@pbx.example>;tag=a\r\n\
        To:  \"Anna, \\\"A\\\"\"\r\n\t<sip:101@pbx.example>\r\n\
        i: x@y\r\n\
        CSeq: 7 REGISTER\r\n\
        m: <sip:101@192.0.2.1>;+sip.instance=\"<urn:uuid:1>\", \"B, C\" <sip:102@192.0.2.1>\r\n\
        Contact: sip:103@192.0.2.1;q=0.5\r\n\
        X-Queue: support\r\n\
        L: 2\r\n\r\nabcd";

    #[test]
    fn everything_in_a_register_is_found() {
        let message = scan(REGISTER.as_bytes()).unwrap();
        assert_eq!(message.method(), Some(Method::Register));
        assert_eq!(message.request_uri(), Some("sip:pbx.example"));
        assert_eq!((message.status(), message.fault()), (None, None));
        assert_eq!(message.via_count(), 3);
        assert_eq!(message.top_via().unwrap().branch, Some("z9hG4bK1"));
        assert_eq!(message.from().unwrap().tag(), Some("a"));
        assert_eq!(message.to().unwrap().display.as_deref(), Some("Anna, \"A\""));
        assert_eq!(message.call_id(), Some("x@y"));
        assert_eq!(message.cseq(), Ok(CSeq { number: 7, method: Method::Register }));
        let contacts: Vec<_> = message.contacts().map(|c| c.unwrap().uri().unwrap().text).collect();
        assert_eq!(contacts, ["sip:101@192.0.2.1", "sip:102@192.0.2.1", "sip:103@192.0.2.1"]);
        assert_eq!(message.extensions().collect::<Vec<_>>(), [("X-Queue", "support")]);
        assert_eq!(message.named("x-queue").collect::<Vec<_>>(), ["support"]);
        assert_eq!(message.named("Call-id").collect::<Vec<_>>(), ["x@y"]);
        assert_eq!(message.body(), b"ab");
    }

    #[test]
    fn a_response_has_a_status_and_a_reason() {
        let message = scan(b"sip/2.0 183 Session Progress\nCSeq: 1 INVITE\n\n").unwrap();
        assert_eq!((message.status(), message.reason_phrase()), (Some(183), Some("Session Progress")));
        assert_eq!((message.method(), message.request_uri()), (None, None));
        assert_eq!(scan(b"SIP/2.0 200\r\n\r\n").unwrap().reason_phrase(), Some(""));
    }

    #[test]
    fn what_is_no_message_is_told_apart() {
        let error = |bytes: &[u8]| scan(bytes).unwrap_err();
        assert_eq!(error(b""), ScanError::Keepalive);
        assert_eq!(error(b"\r\n\r\n"), ScanError::Keepalive);
        assert_eq!(error(&[0; 4]), ScanError::Keepalive);
        assert_eq!(error(b"jaK"), ScanError::NotSip);
        assert_eq!(error(b"GET / HTTP/1.1\r\n\r\n"), ScanError::NotSip);
        assert_eq!(error(b"SIP/2.0 99 x\r\n\r\n"), ScanError::NotSip);
        assert_eq!(error(b"\xff\xfe sip:a SIP/2.0\r\n\r\n"), ScanError::NotSip);
        assert_eq!(error(b"BYE sip:a@b SIP/2.0\r\nVia: SIP"), ScanError::Truncated);
        assert_eq!(error(&vec![b'a'; MESSAGE_LEN_MAX + 1]), ScanError::MessageTooLong);
        let request = |rest: &str| format!("BYE sip:a@b SIP/2.0\r\n{rest}\r\n").into_bytes();
        assert_eq!(error(&request(&format!("A: {}\r\n", "x".repeat(LINE_LEN_MAX)))), ScanError::LineTooLong);
        assert_eq!(error(&request(&"A: x\r\n".repeat(HEADERS_MAX + 1))), ScanError::TooManyHeaders);
        let long = format!("BYE sip:{} SIP/2.0\r\n\r\n", "a".repeat(LINE_LEN_MAX));
        assert_eq!(error(long.as_bytes()), ScanError::LineTooLong);
    }

    #[test]
    fn a_body_shorter_than_its_content_length_is_a_fault_that_names_the_header() {
        let fault = |length: &str| {
            let text = format!("BYE sip:a@b SIP/2.0\r\n{length}\r\n\r\nabc");
            scan(text.as_bytes()).unwrap().fault().map(|fault| fault.to_string())
        };
        assert_eq!(fault("Content-Length: 3"), None);
        assert_eq!(fault("X: y"), None);
        for bad in ["Content-Length: 4", "l: -1", "l: x", "l:", "l: 99999999999999999999999"] {
            assert_eq!(fault(bad).as_deref(), Some("Bad Content-Length Header"), "{bad}");
        }
        assert_eq!(fault("l: 1\r\nl: 1").as_deref(), Some("Multiple Content-Length Headers"));
        assert_eq!(fault("no colon").as_deref(), Some("Bad Header Line"));
    }

    #[test]
    fn one_bad_header_does_not_hide_the_others() {
        let message =
            scan(b"BYE sip:a@b SIP/2.0\r\nFrom: <sip:\xff@b>\r\nTo: <sip:\0@b>\r\nCall-ID: x\r\n\r\n").unwrap();
        assert_eq!(message.call_id(), Some("x"));
        assert_eq!(message.from().unwrap_err().fault, HeaderFault::NotUtf8);
        assert_eq!(message.to().unwrap_err().fault, HeaderFault::Nul);
        assert_eq!((message.header(Name::From), message.header(Name::To)), (None, None));
        assert_eq!(message.cseq().unwrap_err().to_string(), "Missing CSeq");
        assert_eq!(message.top_via().unwrap_err().to_string(), "Missing Via");
    }
}
