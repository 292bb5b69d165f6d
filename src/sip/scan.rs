//! From bytes to headers, in place: no copies, no allocation per header, a limit on everything.
//!
//! [`scan`] only finds where things are. It takes whatever can be told apart, so that a message with one bad header can
//! still be answered with a 400 that names it; the typed accessors judge the values.

use smallvec::SmallVec;

use super::address::{Contact, NameAddr};
use super::cseq::{CSeq, Method};
use super::fault::{HeaderError, HeaderFault, ScanError};
use super::name::Name;
use super::syntax::{is_token, list, split_first};
use super::via::Via;

/// A scanned message. Values come trimmed; a folded one still holds its line breaks (see [`super::syntax::unfold`]).
///
/// Accessors that give `&str` leave out values that are not UTF-8 or hold a zero byte; the typed ones say so.
#[derive(Clone, Debug)]
pub struct Message<'a> {
    /// The bytes it was scanned from.
    raw: &'a [u8],
    /// The header section as text, when all of it is UTF-8 without zero bytes (nearly always).
    head: Option<&'a str>,
    start: StartLine<'a>,
    fields: SmallVec<[Field; FIELDS_INLINE]>,
    /// Names that are there, and those that are there more than once.
    present: u64,
    repeated: u64,
    /// The first thing wrong with the frame as such: a line that is no header, a Content-Length that can't be.
    fault: Option<HeaderError>,
    body: &'a [u8],
}

#[derive(Clone, Copy, Debug)]
enum StartLine<'a> {
    Request { method: Method<'a>, uri: &'a str, version_2: bool },
    Response { status: u16, reason: &'a str },
}

/// Where a header field is. Messages are at most [`MESSAGE_LEN_MAX`] long, so 16 bits hold any offset.
#[derive(Clone, Copy, Debug)]
struct Field {
    name: Name,
    name_at: u16,
    name_end: u16,
    value_at: u16,
    value_end: u16,
}

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
    let (line_end, mut at) = line(bytes, blank).map_err(|_| ScanError::NotSip)?;
    let start = start_line(bytes.get(blank..line_end).unwrap_or_default())?;
    let mut message = Message {
        raw: bytes,
        head: None,
        start,
        fields: SmallVec::new(),
        present: 0,
        repeated: 0,
        fault: None,
        body: &[],
    };
    // The empty line after the headers may be missing, but not half a header.
    while at < bytes.len() {
        let begin = at;
        let (mut end, mut next) = line(bytes, at)?;
        if end == begin {
            at = next;
            break;
        }
        while matches!(bytes.get(next), Some(b' ' | b'\t')) {
            (end, next) = line(bytes, next)?;
        }
        if end - begin > LINE_LEN_MAX {
            return Err(ScanError::LineTooLong);
        }
        message.field(begin, end)?;
        at = next;
    }
    let (head, rest) = bytes.split_at(at);
    message.head = if memchr::memchr(0, head).is_none() { std::str::from_utf8(head).ok() } else { None };
    message.take_body(rest);
    Ok(message)
}

impl<'a> Message<'a> {
    /// The bytes it was scanned from.
    #[must_use]
    pub fn raw(&self) -> &'a [u8] {
        self.raw
    }

    /// The method of a request; none for a response.
    #[must_use]
    pub fn method(&self) -> Option<Method<'a>> {
        match self.start {
            StartLine::Request { method, .. } => Some(method),
            StartLine::Response { .. } => None,
        }
    }

    /// The Request-URI as written, not yet judged; none for a response.
    #[must_use]
    pub fn request_uri(&self) -> Option<&'a str> {
        match self.start {
            StartLine::Request { uri, .. } => Some(uri),
            StartLine::Response { .. } => None,
        }
    }

    /// The status code of a response, 100–699; none for a request.
    #[must_use]
    pub fn status(&self) -> Option<u16> {
        match self.start {
            StartLine::Request { .. } => None,
            StartLine::Response { status, .. } => Some(status),
        }
    }

    /// The reason phrase of a response; none for a request.
    #[must_use]
    pub fn reason_phrase(&self) -> Option<&'a str> {
        match self.start {
            StartLine::Request { .. } => None,
            StartLine::Response { reason, .. } => Some(reason),
        }
    }

    /// Whether the start line says `SIP/2.0` (any case) and not another version of SIP.
    #[must_use]
    pub fn is_version_2(&self) -> bool {
        matches!(self.start, StartLine::Response { .. } | StartLine::Request { version_2: true, .. })
    }

    /// The first value of a header.
    #[must_use]
    pub fn header(&self, name: Name) -> Option<&'a str> {
        self.headers(name).next()
    }

    /// All header fields of a name, in order; comma lists not split (see [`Message::values`]).
    pub fn headers(&self, name: Name) -> impl Iterator<Item = &'a str> {
        self.of(name).filter_map(|field| self.text(field).ok())
    }

    /// All values of a header that is a comma list, over all its fields, in order.
    pub fn values(&self, name: Name) -> impl Iterator<Item = &'a str> {
        self.headers(name).flat_map(list)
    }

    /// All header fields of a name given as text, in any case; a compact or full form finds both.
    pub fn named<'n>(&self, name: &'n str) -> impl Iterator<Item = &'a str> + use<'a, 'n, '_> {
        let known = Name::of(name.as_bytes());
        self.fields
            .iter()
            .filter(move |field| {
                field.name == known
                    && (known != Name::Other || self.name_of(field).eq_ignore_ascii_case(name.as_bytes()))
            })
            .filter_map(|field| self.text(field).ok())
    }

    /// Extension headers (`X-…`): name as written and value.
    pub fn extensions(&self) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.fields.iter().filter(|field| field.name == Name::Other).filter_map(|field| {
            let name = self.name_of(field);
            let is_extension = name.get(..2).is_some_and(|start| start.eq_ignore_ascii_case(b"x-"));
            let name = std::str::from_utf8(name).ok().filter(|_| is_extension)?;
            Some((name, self.text(field).ok()?))
        })
    }

    /// All fields of a name as bytes, in order, whatever they hold.
    pub fn raw_headers(&self, name: Name) -> impl Iterator<Item = &'a [u8]> {
        self.of(name).map(|field| self.bytes(field))
    }

    /// The one field of a header that must be there exactly once.
    ///
    /// # Errors
    /// When it is missing, repeated, empty, not UTF-8 or holds a zero byte.
    pub fn only(&self, name: Name) -> Result<&'a str, HeaderError> {
        let error = |fault| HeaderError::new(name.text(), fault);
        if self.repeated & name.bit() != 0 {
            return Err(error(HeaderFault::Repeated));
        }
        let field = self.of(name).next().ok_or(error(HeaderFault::Missing))?;
        let value = self.text(field).map_err(error)?;
        if value.is_empty() { Err(error(HeaderFault::Malformed)) } else { Ok(value) }
    }

    /// Call-ID; none when it is missing or malformed (see [`Message::try_call_id`]).
    #[must_use]
    pub fn call_id(&self) -> Option<&'a str> {
        self.try_call_id().ok()
    }

    /// Call-ID.
    ///
    /// # Errors
    /// When it is missing, repeated, holds blanks or is longer than [`CALL_ID_LEN_MAX`].
    pub fn try_call_id(&self) -> Result<&'a str, HeaderError> {
        let value = self.only(Name::CallId)?;
        let fault = match value {
            _ if value.len() > CALL_ID_LEN_MAX => HeaderFault::TooLong,
            _ if value.bytes().any(|byte| byte <= b' ' || byte == 0x7f) => HeaderFault::Malformed,
            _ => return Ok(value),
        };
        Err(HeaderError::new(Name::CallId.text(), fault))
    }

    /// `CSeq`.
    ///
    /// # Errors
    /// When it is missing, repeated or malformed.
    pub fn cseq(&self) -> Result<CSeq<'a>, HeaderError> {
        CSeq::parse(self.only(Name::CSeq)?)
    }

    /// From.
    ///
    /// # Errors
    /// When it is missing, repeated or malformed.
    pub fn from(&self) -> Result<NameAddr<'a>, HeaderError> {
        NameAddr::parse(self.only(Name::From)?, Name::From.text())
    }

    /// To.
    ///
    /// # Errors
    /// When it is missing, repeated or malformed.
    pub fn to(&self) -> Result<NameAddr<'a>, HeaderError> {
        NameAddr::parse(self.only(Name::To)?, Name::To.text())
    }

    /// The topmost Via value.
    ///
    /// # Errors
    /// When there is none or it is malformed.
    pub fn top_via(&self) -> Result<Via<'a>, HeaderError> {
        let error = |fault| HeaderError::new(Name::Via.text(), fault);
        let field = self.of(Name::Via).next().ok_or(error(HeaderFault::Missing))?;
        let value = self.text(field).map_err(error)?;
        Via::parse(split_first(value).0)
    }

    /// How many Via values there are, comma lists counted.
    #[must_use]
    pub fn via_count(&self) -> usize {
        self.values(Name::Via).count()
    }

    /// All Contact values, comma lists split.
    pub fn contacts(&self) -> impl Iterator<Item = Result<Contact<'a>, HeaderError>> {
        self.of(Name::Contact).flat_map(|field| {
            let (value, fault) = match self.text(field) {
                Ok(value) => (value, value.is_empty().then_some(HeaderFault::Malformed)),
                Err(fault) => ("", Some(fault)),
            };
            let error = fault.map(|fault| Err(HeaderError::new(Name::Contact.text(), fault)));
            list(value).map(Contact::parse).chain(error)
        })
    }

    /// The body, cut at Content-Length.
    #[must_use]
    pub fn body(&self) -> &'a [u8] {
        self.body
    }

    /// What Content-Length says, in bytes; none when there is none.
    ///
    /// # Errors
    /// When it is repeated or no number.
    pub fn content_length(&self) -> Result<Option<usize>, HeaderError> {
        match self.only(Name::ContentLength) {
            Err(HeaderError { fault: HeaderFault::Missing, .. }) => Ok(None),
            Err(error) => Err(error),
            Ok(digits) if digits.bytes().all(|b| b.is_ascii_digit()) => {
                digits.parse().map(Some).map_err(|_| BAD_CONTENT_LENGTH)
            }
            Ok(_) => Err(BAD_CONTENT_LENGTH),
        }
    }

    /// What Content-Length says, where it must be there, as on a stream (RFC 3261 §20.14).
    ///
    /// # Errors
    /// When it is missing, repeated or no number.
    pub fn required_content_length(&self) -> Result<usize, HeaderError> {
        self.content_length()?.ok_or(HeaderError::new(Name::ContentLength.text(), HeaderFault::Missing))
    }

    /// What is wrong with the message's frame: a line that is no header, or a Content-Length that is
    /// malformed, repeated or larger than what came (RFC 3261 §18.3).
    #[must_use]
    pub fn fault(&self) -> Option<HeaderError> {
        self.fault
    }

    fn of(&self, name: Name) -> impl Iterator<Item = &Field> {
        // A header that is not there costs one test of a bit.
        let fields = if self.present & name.bit() == 0 { &[] } else { self.fields.as_slice() };
        fields.iter().filter(move |field| field.name == name)
    }

    fn bytes(&self, field: &Field) -> &'a [u8] {
        self.raw.get(usize::from(field.value_at)..usize::from(field.value_end)).unwrap_or_default()
    }

    fn name_of(&self, field: &Field) -> &'a [u8] {
        self.raw.get(usize::from(field.name_at)..usize::from(field.name_end)).unwrap_or_default()
    }

    fn text(&self, field: &Field) -> Result<&'a str, HeaderFault> {
        if let Some(head) = self.head {
            return head.get(usize::from(field.value_at)..usize::from(field.value_end)).ok_or(HeaderFault::NotUtf8);
        }
        let bytes = self.bytes(field);
        if memchr::memchr(0, bytes).is_some() {
            return Err(HeaderFault::Nul);
        }
        std::str::from_utf8(bytes).map_err(|_| HeaderFault::NotUtf8)
    }

    /// Notes the header field in `raw[begin..end]`, which may span several lines.
    fn field(&mut self, begin: usize, end: usize) -> Result<(), ScanError> {
        if self.fields.len() >= HEADERS_MAX {
            return Err(ScanError::TooManyHeaders);
        }
        let bytes = self.raw.get(begin..end).unwrap_or_default();
        let colon = memchr::memchr(b':', bytes).unwrap_or(0);
        let name = bytes.get(..colon).unwrap_or_default().trim_ascii_end();
        let known = Name::of(name);
        if known == Name::Other && !is_token(name) {
            self.fault = self.fault.or(Some(HeaderError::new("Header Line", HeaderFault::Line)));
            return Ok(());
        }
        let value = bytes.get(colon + 1..).unwrap_or_default();
        let value_at = begin + colon + 1 + (value.len() - value.trim_ascii_start().len());
        let value_end = value_at + value.trim_ascii().len();
        let offset = |at: usize| u16::try_from(at).map_err(|_| ScanError::MessageTooLong);
        self.fields.push(Field {
            name: known,
            name_at: offset(begin)?,
            name_end: offset(begin + name.len())?,
            value_at: offset(value_at)?,
            value_end: offset(value_end)?,
        });
        self.repeated |= self.present & known.bit();
        self.present |= known.bit();
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

/// Longest message taken, in bytes: what fits a UDP datagram.
pub const MESSAGE_LEN_MAX: usize = 65_535;
/// Longest line taken, with its continuations, in bytes.
pub const LINE_LEN_MAX: usize = 8_192;
/// Most header fields taken.
pub const HEADERS_MAX: usize = 128;
/// Longest Call-ID taken, in bytes.
pub const CALL_ID_LEN_MAX: usize = 256;

const BAD_CONTENT_LENGTH: HeaderError = HeaderError::new(Name::ContentLength.text(), HeaderFault::Malformed);

/// Header fields held without allocating; a REGISTER has about 12, an INVITE through two proxies about 25.
const FIELDS_INLINE: usize = 32;

/// End of the line that starts at `begin`, without its line break, and where the next one starts.
fn line(bytes: &[u8], begin: usize) -> Result<(usize, usize), ScanError> {
    let rest = bytes.get(begin..).unwrap_or_default();
    let break_at = begin + memchr::memchr(b'\n', rest).ok_or(ScanError::Truncated)?;
    let has_return = break_at > begin && bytes.get(break_at - 1) == Some(&b'\r');
    Ok((break_at - usize::from(has_return), break_at + 1))
}

fn start_line(line: &[u8]) -> Result<StartLine<'_>, ScanError> {
    if line.len() > LINE_LEN_MAX {
        return Err(ScanError::LineTooLong);
    }
    let line = std::str::from_utf8(line).map_err(|_| ScanError::NotSip)?;
    let (first, rest) = line.split_once(' ').unwrap_or((line, ""));
    if is_version(first) == Some(true) {
        let (code, reason) = rest.split_once(' ').unwrap_or((rest, ""));
        let status = code.parse().ok().filter(|status| (100..700).contains(status) && code.len() == 3);
        return Ok(StartLine::Response { status: status.ok_or(ScanError::NotSip)?, reason: reason.trim() });
    }
    let method = Method::parse(first).ok_or(ScanError::NotSip)?;
    let (uri, version) = rest.trim_end().rsplit_once(' ').ok_or(ScanError::NotSip)?;
    let version_2 = is_version(version).ok_or(ScanError::NotSip)?;
    if uri.len() > super::uri::URI_LEN_MAX {
        return Err(ScanError::RequestUriTooLong);
    }
    Ok(StartLine::Request { method, uri, version_2 })
}

/// Whether `text` is `SIP/2.0` (true) or another version of SIP (false); none when it is neither.
fn is_version(text: &str) -> Option<bool> {
    let (protocol, version) = text.split_once('/')?;
    protocol.eq_ignore_ascii_case("SIP").then_some(version == "2.0")
}

#[cfg(test)]
mod tests {
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
        let long = format!("BYE sip:{} SIP/2.0\r\n\r\n", "a".repeat(2_100));
        assert_eq!(error(long.as_bytes()), ScanError::RequestUriTooLong);
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
