//! What can be wrong with a message: too wrong to be one ([`ScanError`]), or wrong in one header ([`HeaderError`]).

use std::fmt;

/// Why bytes are not a SIP message. Nothing can be answered to them; the shell counts them by [`ScanError::label`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum ScanError {
    /// Only line breaks, blanks or zero bytes: a keepalive (RFC 5626 §3.5.1, and what phones make of it).
    #[error("keepalive")]
    Keepalive,
    /// The first line is neither a request line nor a status line.
    #[error("not SIP")]
    NotSip,
    /// The header section breaks off in the middle of a line.
    #[error("breaks off inside the header section")]
    Truncated,
    /// More than [`MESSAGE_LEN_MAX`](super::scan::MESSAGE_LEN_MAX) bytes.
    #[error("message too long")]
    MessageTooLong,
    /// A line, with its continuations, of more than [`LINE_LEN_MAX`](super::scan::LINE_LEN_MAX) bytes.
    #[error("line too long")]
    LineTooLong,
    /// More than [`HEADERS_MAX`](super::scan::HEADERS_MAX) header fields.
    #[error("too many headers")]
    TooManyHeaders,
}

impl ScanError {
    /// A metric label: a few stable words.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Keepalive => "keepalive",
            Self::NotSip => "not_sip",
            Self::Truncated => "truncated",
            Self::MessageTooLong => "message_too_long",
            Self::LineTooLong => "line_too_long",
            Self::TooManyHeaders => "too_many_headers",
        }
    }
}

/// What is wrong with one header. Its `Display` is the reason phrase of the 400 that answers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct HeaderError {
    /// The header's full name, as RFC 3261 writes it.
    pub header: &'static str,
    /// What is wrong.
    pub fault: HeaderFault,
}

/// Kinds of [`HeaderError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum HeaderFault {
    /// It must be there and is not.
    Missing,
    /// It may be there once and is there more often.
    Repeated,
    /// It does not follow its grammar.
    Malformed,
    /// A line that is no header at all; the error's name is `Header Line`.
    Line,
    /// It is not UTF-8 (RFC 3261 §7.3.1).
    NotUtf8,
    /// It holds a zero byte, which no store of ours can keep.
    Nul,
    /// It, or the part of it that would be kept, is longer than we take.
    TooLong,
    /// It lists more values than we take.
    TooMany,
}

impl HeaderError {
    /// An error about `header`.
    #[must_use]
    pub const fn new(header: &'static str, fault: HeaderFault) -> Self {
        Self { header, fault }
    }

    /// A metric label: a few stable words, never what the peer wrote.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self.fault {
            HeaderFault::Missing => "header_missing",
            HeaderFault::Repeated => "header_repeated",
            HeaderFault::Malformed => "header_malformed",
            HeaderFault::Line => "header_line",
            HeaderFault::NotUtf8 => "header_not_utf8",
            HeaderFault::Nul => "header_nul",
            HeaderFault::TooLong => "header_too_long",
            HeaderFault::TooMany => "header_too_many",
        }
    }
}

impl fmt::Display for HeaderError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.fault {
            HeaderFault::Missing => write!(f, "Missing {}", self.header),
            HeaderFault::Repeated => write!(f, "Multiple {} Headers", self.header),
            HeaderFault::Line => write!(f, "Bad {}", self.header),
            HeaderFault::TooLong => write!(f, "{} Header Too Long", self.header),
            HeaderFault::TooMany => write!(f, "Too Many {} Values", self.header),
            HeaderFault::Malformed | HeaderFault::NotUtf8 | HeaderFault::Nul => {
                write!(f, "Bad {} Header", self.header)
            }
        }
    }
}

impl std::error::Error for HeaderError {}
