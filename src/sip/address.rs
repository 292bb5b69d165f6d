//! `name-addr` and `addr-spec` values: From, To, Contact, P-Asserted-Identity and the like (RFC 3261 §20.10).

use std::borrow::Cow;

use memchr::{memchr, memchr2};

use super::fault::{HeaderError, HeaderFault};
use super::syntax::{Params, closing_quote, trim, unfold, unquote};
use super::uri::{Uri, UriError};

/// A URI with an optional display name and header parameters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NameAddr<'a> {
    /// Display name without its quotes and escapes; none when absent or empty.
    pub display: Option<Cow<'a, str>>,
    /// The URI.
    pub uri: Uri<'a>,
    /// Parameters of the header, not of the URI.
    pub params: Params<'a>,
}

/// One value of a Contact header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Contact<'a> {
    /// `*`: all contacts (RFC 3261 §10.2.2).
    Star,
    /// One contact.
    Address(NameAddr<'a>),
}

impl<'a> NameAddr<'a> {
    /// Reads one value. Without angle brackets everything after the first semicolon is a header parameter (§20).
    ///
    /// # Errors
    /// A [`HeaderError`] about `header` when it is neither `name-addr` nor `addr-spec`, or its URI is no URI.
    pub fn parse(value: &'a str, header: &'static str) -> Result<Self, HeaderError> {
        let malformed = HeaderError::new(header, HeaderFault::Malformed);
        let (display, uri, rest) = split(trim(value)).ok_or(malformed)?;
        let uri = Uri::parse(uri).map_err(|error| match error {
            UriError::TooLong => HeaderError::new(header, HeaderFault::TooLong),
            _ => malformed,
        })?;
        let params = Params::parse(rest).ok_or(malformed)?;
        Ok(Self { display, uri, params })
    }

    /// The `tag` parameter.
    #[must_use]
    pub fn tag(&self) -> Option<&'a str> {
        self.params.value("tag").filter(|tag| !tag.is_empty())
    }

    /// The value of a header parameter as written (any case of name); `Some("")` when it is there without a value.
    #[must_use]
    pub fn param(&self, name: &str) -> Option<&'a str> {
        self.params.find(name).map(Option::unwrap_or_default)
    }
}

/// The `tag` of a From or To value. The rest is not judged: whoever follows a dialog asks for the tag of every message, and
/// for the address of the first one alone.
#[must_use]
pub fn tag(value: &str) -> Option<&str> {
    let value = trim(value);
    let named = if value.starts_with('"') { value.get(closing_quote(value)? + 1..)? } else { value };
    let rest = match memchr2(b'<', b';', named.as_bytes()) {
        Some(at) if named.as_bytes()[at] == b'<' => &named[at + memchr(b'>', &named.as_bytes()[at..])? + 1..],
        Some(at) => &named[at..],
        None => return None,
    };
    Params::parse(rest)?.value("tag").filter(|tag| !tag.is_empty())
}

impl<'a> Contact<'a> {
    /// Reads one value of a Contact header.
    ///
    /// # Errors
    /// As [`NameAddr::parse`].
    pub fn parse(value: &'a str) -> Result<Self, HeaderError> {
        match trim(value) {
            "*" => Ok(Self::Star),
            value => NameAddr::parse(value, "Contact").map(Self::Address),
        }
    }

    /// Its URI; none for `*`.
    #[must_use]
    pub fn uri(&self) -> Option<&Uri<'a>> {
        match self {
            Self::Star => None,
            Self::Address(address) => Some(&address.uri),
        }
    }
}

/// Display name, URI text and what follows.
fn split(value: &str) -> Option<(Option<Cow<'_, str>>, &str, &str)> {
    if value.starts_with('"') {
        let close = closing_quote(value)?;
        let (uri, rest) = bracketed(trim(&value[close + 1..]))?;
        return Some((named(unquote(&value[..=close])), uri, rest));
    }
    // A display name without quotes holds no semicolon, so one before the bracket means the bracket is in a parameter.
    match memchr2(b'<', b';', value.as_bytes()) {
        Some(at) if value.as_bytes()[at] == b'<' => {
            let (uri, rest) = bracketed(&value[at..])?;
            Some((named(unfold(trim(&value[..at]))), uri, rest))
        }
        Some(at) => Some((None, bare(trim(&value[..at]))?, &value[at..])),
        None => Some((None, bare(value)?, "")),
    }
}

/// A URI without angle brackets, which must have neither comma nor question mark (RFC 3261 §20): nobody could say
/// what is its and what the header's.
fn bare(uri: &str) -> Option<&str> {
    memchr2(b',', b'?', uri.as_bytes()).is_none().then_some(uri)
}

/// `<uri>rest`
fn bracketed(text: &str) -> Option<(&str, &str)> {
    let text = text.strip_prefix('<')?;
    let close = memchr(b'>', text.as_bytes())?;
    Some((trim(&text[..close]), &text[close + 1..]))
}

fn named(display: Cow<'_, str>) -> Option<Cow<'_, str>> {
    (!display.is_empty()).then_some(display)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(value: &str) -> NameAddr<'_> {
        NameAddr::parse(value, "From").unwrap()
    }

    #[test]
    fn display_names_come_without_quotes_and_escapes() {
        let address = read(r#"  "A. \"G\" Bell, <x>;y" <sip:a@b;u=1>;tag=z"#);
        assert_eq!(address.display.as_deref(), Some(r#"A. "G" Bell, <x>;y"#));
        assert_eq!((address.uri.text, address.tag()), ("sip:a@b;u=1", Some("z")));
        assert_eq!(read("Anna Lee <sip:a@b>").display.as_deref(), Some("Anna Lee"));
        assert_eq!(read("\"Anna\r\n Lee\"<sip:a@b>").display.as_deref(), Some("Anna Lee"));
        assert_eq!(read(r#""" <sip:a@b>"#).display, None);
        assert_eq!(read("<sip:a@b>").display, None);
    }

    #[test]
    fn without_brackets_parameters_belong_to_the_header() {
        let address = read("sip:a@b;tag=1;transport=tcp");
        assert_eq!((address.uri.text, address.tag()), ("sip:a@b", Some("1")));
        let instance = read(r#"sip:a@b;+sip.instance="<urn:uuid:x>""#);
        assert_eq!(instance.param("+sip.instance"), Some(r#""<urn:uuid:x>""#));
    }

    #[test]
    fn a_broken_value_names_its_header() {
        for bad in [
            "",
            "<sip:a@b",
            r#""open <sip:a@b>"#,
            "<>",
            "<sip:a@b> x",
            "Anna",
            r#""Anna" sip:a@b"#,
            "<sip:a b>",
            "sip:a@b?Route=c",
            "sip:a,b@c;tag=1",
        ] {
            let error = NameAddr::parse(bad, "From").unwrap_err();
            assert_eq!(error.to_string(), "Bad From Header", "{bad}");
        }
        let long = format!("<sip:{}@b>", "a".repeat(3_000));
        assert_eq!(NameAddr::parse(&long, "To").unwrap_err().to_string(), "To Header Too Long");
    }

    #[test]
    fn a_tag_alone_is_what_the_whole_value_says() {
        for value in [
            "<sip:a@b>;tag=1",
            "sip:a@b;x;tag=1",
            "\"A;tag=9 <x>\" <sip:a@b;tag=8> ; Tag = 1;y=2",
            "Anna <sip:a@b>;x=\";tag=7\";tag=1",
            " <sip:a@b;tag=8>;tagged=1;tag=1",
        ] {
            assert_eq!((tag(value), read(value).tag()), (Some("1"), Some("1")), "{value}");
        }
        for value in ["<sip:a@b;tag=8>", "sip:a@b", "<sip:a@b>;tag=", "<sip:a@b>;tag"] {
            assert_eq!((tag(value), read(value).tag()), (None, None), "{value}");
        }
        assert_eq!((tag("<sip:a@b;tag=8"), tag("\"open <sip:a@b>;tag=8")), (None, None));
    }

    #[test]
    fn a_star_is_no_address() {
        assert_eq!(Contact::parse(" * "), Ok(Contact::Star));
        assert!(Contact::parse("*;q=1").is_err());
    }
}
