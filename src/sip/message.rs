//! A scanned message: where its headers are, and their typed values on demand.

use smallvec::SmallVec;

use super::address::{self, Contact, NameAddr};
use super::cseq::{CSeq, Method};
use super::fault::{HeaderError, HeaderFault};
use super::name::Name;
use super::syntax::{are_nuls_quoted, has_any, list, split_first};
use super::via::{self, Via};

/// A scanned message. Values come trimmed; a folded one still holds its line breaks (see [`super::syntax::unfold`]).
///
/// Accessors that give `&str` leave out values that are not UTF-8 or hold a zero byte; the typed ones say so.
#[derive(Clone, Debug)]
pub struct Message<'a> {
    /// The bytes it was scanned from.
    pub(super) raw: &'a [u8],
    /// The header section as text, when all of it is UTF-8 without zero bytes (nearly always).
    pub(super) head: Option<&'a str>,
    pub(super) start: StartLine<'a>,
    pub(super) fields: SmallVec<[Field; FIELDS_INLINE]>,
    /// Names that are there, and those that are there more than once.
    pub(super) present: u64,
    pub(super) repeated: u64,
    /// Where the first field of each name is, if there is one.
    pub(super) first: [u8; Name::COUNT],
    /// The first thing wrong with the frame as such: a line that is no header, a Content-Length that can't be.
    pub(super) fault: Option<HeaderError>,
    pub(super) body: &'a [u8],
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

    /// Status code and reason phrase of a response as written, `486 Busy Here`; none for a request.
    #[must_use]
    pub fn status_line(&self) -> Option<&'a str> {
        match self.start {
            StartLine::Request { .. } => None,
            StartLine::Response { line, .. } => Some(line),
        }
    }

    /// The reason phrase of a response; none for a request.
    #[must_use]
    pub fn reason_phrase(&self) -> Option<&'a str> {
        match self.start {
            StartLine::Request { .. } => None,
            StartLine::Response { line, .. } => line.get(3..).map(str::trim),
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
        let field = self.first(name).ok_or(error(HeaderFault::Missing))?;
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
            _ if has_any(value, |byte| matches!(byte, 0..=b' ' | 0x7f)) => HeaderFault::Malformed,
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
        NameAddr::parse(self.only_address(Name::From)?, Name::From.text())
    }

    /// To.
    ///
    /// # Errors
    /// When it is missing, repeated or malformed.
    pub fn to(&self) -> Result<NameAddr<'a>, HeaderError> {
        NameAddr::parse(self.only_address(Name::To)?, Name::To.text())
    }

    /// The tag of From or To, without a look at the address before it; none when it has none.
    ///
    /// # Errors
    /// When the header is missing or repeated.
    pub fn tag(&self, name: Name) -> Result<Option<&'a str>, HeaderError> {
        self.only_address(name).map(address::tag)
    }

    /// The branch of the topmost Via value, without a look at the rest of it; none when it has none.
    #[must_use]
    pub fn top_branch(&self) -> Option<&'a str> {
        via::branch(split_first(self.header(Name::Via)?).0)
    }

    /// The topmost Via value.
    ///
    /// # Errors
    /// When there is none or it is malformed.
    pub fn top_via(&self) -> Result<Via<'a>, HeaderError> {
        let error = |fault| HeaderError::new(Name::Via.text(), fault);
        let field = self.first(Name::Via).ok_or(error(HeaderFault::Missing))?;
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

    /// As [`Message::only`], but display names may hold zero bytes in quoted pairs, as the grammar allows.
    fn only_address(&self, name: Name) -> Result<&'a str, HeaderError> {
        let error = match self.only(name) {
            Err(error) if error.fault == HeaderFault::Nul => error,
            result => return result,
        };
        let value = self.raw_headers(name).next().and_then(|value| std::str::from_utf8(value).ok());
        value.filter(|value| are_nuls_quoted(value)).ok_or(error)
    }

    fn first(&self, name: Name) -> Option<&Field> {
        // A header that is not there costs one test of a bit.
        if self.present & name.bit() == 0 { None } else { self.fields.get(usize::from(self.first[name as usize])) }
    }

    fn of(&self, name: Name) -> impl Iterator<Item = &Field> {
        // So does the search for more of it where there is only one, as of nearly every header.
        let more =
            if self.repeated & name.bit() == 0 { usize::MAX } else { usize::from(self.first[name as usize]) + 1 };
        let more = self.fields.get(more..).unwrap_or_default().iter().filter(move |field| field.name == name);
        self.first(name).into_iter().chain(more)
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
}

#[derive(Clone, Copy, Debug)]
pub(super) enum StartLine<'a> {
    Request {
        method: Method<'a>,
        uri: &'a str,
        version_2: bool,
    },
    /// `line` is what follows the version: status code and reason phrase.
    Response {
        status: u16,
        line: &'a str,
    },
}

/// Where a header field is. Messages are at most [`MESSAGE_LEN_MAX`](super::scan::MESSAGE_LEN_MAX) long, so 16 bits hold any offset.
#[derive(Clone, Copy, Debug)]
pub(super) struct Field {
    pub(super) name: Name,
    pub(super) name_at: u16,
    pub(super) name_end: u16,
    pub(super) value_at: u16,
    pub(super) value_end: u16,
}

/// Longest Call-ID taken, in bytes.
pub const CALL_ID_LEN_MAX: usize = 256;

pub(super) const BAD_CONTENT_LENGTH: HeaderError = HeaderError::new(Name::ContentLength.text(), HeaderFault::Malformed);

/// Header fields held without allocating; a REGISTER has about 12, an INVITE through two proxies about 25.
const FIELDS_INLINE: usize = 32;
