//! Methods and the `CSeq` header.

use std::fmt;

use super::fault::{HeaderError, HeaderFault};
use super::name::Name;
use super::syntax::{is_token, trim};

/// A request method. Methods are case-sensitive (RFC 3261 §7.1): `invite` is [`Method::Other`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Method<'a> {
    /// ACK
    Ack,
    /// BYE
    Bye,
    /// CANCEL
    Cancel,
    /// INFO
    Info,
    /// INVITE
    Invite,
    /// MESSAGE
    Message,
    /// NOTIFY
    Notify,
    /// OPTIONS
    Options,
    /// PRACK
    Prack,
    /// PUBLISH
    Publish,
    /// REFER
    Refer,
    /// REGISTER
    Register,
    /// SUBSCRIBE
    Subscribe,
    /// UPDATE
    Update,
    /// A method this program has no name for.
    Other(&'a str),
}

impl<'a> Method<'a> {
    /// The method of this name; none when it is not a token.
    #[must_use]
    pub fn parse(text: &'a str) -> Option<Self> {
        Some(match text {
            "ACK" => Self::Ack,
            "BYE" => Self::Bye,
            "CANCEL" => Self::Cancel,
            "INFO" => Self::Info,
            "INVITE" => Self::Invite,
            "MESSAGE" => Self::Message,
            "NOTIFY" => Self::Notify,
            "OPTIONS" => Self::Options,
            "PRACK" => Self::Prack,
            "PUBLISH" => Self::Publish,
            "REFER" => Self::Refer,
            "REGISTER" => Self::Register,
            "SUBSCRIBE" => Self::Subscribe,
            "UPDATE" => Self::Update,
            other if is_token(other.as_bytes()) => Self::Other(other),
            _ => return None,
        })
    }

    /// Its name on the wire.
    #[must_use]
    pub fn as_str(self) -> &'a str {
        match self {
            Self::Other(text) => text,
            known => known.known(),
        }
    }

    /// Its name for a metric label: `OTHER` for whatever a peer made up.
    #[must_use]
    pub fn known(self) -> &'static str {
        match self {
            Self::Ack => "ACK",
            Self::Bye => "BYE",
            Self::Cancel => "CANCEL",
            Self::Info => "INFO",
            Self::Invite => "INVITE",
            Self::Message => "MESSAGE",
            Self::Notify => "NOTIFY",
            Self::Options => "OPTIONS",
            Self::Prack => "PRACK",
            Self::Publish => "PUBLISH",
            Self::Refer => "REFER",
            Self::Register => "REGISTER",
            Self::Subscribe => "SUBSCRIBE",
            Self::Update => "UPDATE",
            Self::Other(_) => "OTHER",
        }
    }
}

impl fmt::Display for Method<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A `CSeq` value (RFC 3261 §20.16).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CSeq<'a> {
    /// Below 2³¹.
    pub number: u32,
    /// The request's method.
    pub method: Method<'a>,
}

impl<'a> CSeq<'a> {
    /// Reads a header value.
    ///
    /// # Errors
    /// When it is not a number below 2³¹, blanks and a method.
    pub fn parse(value: &'a str) -> Result<Self, HeaderError> {
        let value = trim(value);
        // One pass, for this runs for every message.
        let (mut number, mut digits) = (0_u32, 0);
        for digit in value.bytes().take_while(u8::is_ascii_digit) {
            number = number.saturating_mul(10).saturating_add(u32::from(digit - b'0'));
            digits += 1;
        }
        let rest = value.get(digits..).unwrap_or_default();
        let is_number = digits > 0 && number < 1 << 31 && matches!(rest.as_bytes(), [b' ' | b'\t' | b'\r' | b'\n', ..]);
        let method = Method::parse(trim(rest)).filter(|_| is_number);
        let method = method.ok_or(HeaderError::new(Name::CSeq.text(), HeaderFault::Malformed))?;
        Ok(Self { number, method })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cseq_is_a_number_below_two_to_the_31_and_a_method() {
        assert_eq!(CSeq::parse("0009 INVITE"), Ok(CSeq { number: 9, method: Method::Invite }));
        assert_eq!(CSeq::parse("1\r\n  FOO"), Ok(CSeq { number: 1, method: Method::Other("FOO") }));
        for bad in ["", "1", "INVITE", "1INVITE", "-1 INVITE", "2147483648 INVITE", "99999999999 BYE", "1 IN VITE"] {
            assert_eq!(CSeq::parse(bad).unwrap_err().to_string(), "Bad CSeq Header", "{bad}");
        }
    }

    #[test]
    fn methods_are_case_sensitive() {
        assert_eq!(Method::parse("invite"), Some(Method::Other("invite")));
        assert_eq!(Method::parse("IN<VITE"), None);
    }
}
