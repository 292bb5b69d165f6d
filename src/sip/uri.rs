//! SIP, SIPS and tel URIs, read in place (RFC 3261 §19.1, RFC 3966).

use std::net::{Ipv4Addr, Ipv6Addr};

use memchr::{memchr, memchr2};

use super::syntax::{Params, has_any};
use crate::model::{ContactKey, canonical_host, canonical_user};

/// A URI's parts, borrowed from the text it was read from. Nothing is decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Uri<'a> {
    /// The whole URI as written.
    pub text: &'a str,
    /// Its scheme.
    pub scheme: Scheme,
    /// User part; for `tel` the number as written, for other schemes everything after the colon.
    pub user: Option<&'a str>,
    /// Password (never of use, RFC 3261 §19.1.1 warns against it).
    pub password: Option<&'a str>,
    /// Host; IPv6 references keep their brackets. Empty for `tel` and other schemes.
    pub host: &'a str,
    /// Explicit port.
    pub port: Option<u16>,
    /// URI parameters, with the leading semicolon.
    pub params: Params<'a>,
    /// What follows the question mark; empty when there is none.
    pub headers: &'a str,
}

/// URI schemes that mean something here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// `sip:`
    Sip,
    /// `sips:`
    Sips,
    /// `tel:`
    Tel,
    /// Any other.
    Other,
}

/// Why text is not a URI.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum UriError {
    /// Longer than [`URI_LEN_MAX`].
    #[error("URI too long")]
    TooLong,
    /// No scheme before a colon.
    #[error("URI without a scheme")]
    Scheme,
    /// A blank, control character, quote or angle bracket inside.
    #[error("character not allowed in a URI")]
    Character,
    /// The user part is empty or malformed.
    #[error("bad user part")]
    User,
    /// The host is empty or malformed.
    #[error("bad host")]
    Host,
    /// The port is not a number below 65536.
    #[error("bad port")]
    Port,
}

impl<'a> Uri<'a> {
    /// Reads a URI without angle brackets around it.
    ///
    /// # Errors
    /// When it has no scheme, a `sip`/`sips` URI has no valid host or port, or it is longer than [`URI_LEN_MAX`].
    pub fn parse(text: &'a str) -> Result<Self, UriError> {
        if text.len() > URI_LEN_MAX {
            return Err(UriError::TooLong);
        }
        if has_any(text, |byte| matches!(byte, 0..=b' ' | b'<' | b'>' | b'"' | 0x7f)) {
            return Err(UriError::Character);
        }
        let colon = memchr(b':', text.as_bytes()).ok_or(UriError::Scheme)?;
        let scheme = Scheme::parse(&text[..colon])?;
        let rest = &text[colon + 1..];
        match scheme {
            Scheme::Sip | Scheme::Sips => Self::parse_sip(text, scheme, rest),
            Scheme::Tel | Scheme::Other => {
                let (number, params) = split_params(rest);
                if number.is_empty() {
                    return Err(UriError::User);
                }
                Ok(Self {
                    text,
                    scheme,
                    user: Some(number),
                    password: None,
                    host: "",
                    port: None,
                    params: Params::parse(params).unwrap_or_default(),
                    headers: "",
                })
            }
        }
    }

    /// The value of a URI parameter (any case); `Some("")` when it is there without a value.
    #[must_use]
    pub fn param(&self, name: &str) -> Option<&'a str> {
        self.params.find(name).map(Option::unwrap_or_default)
    }

    /// The URI as far as it identifies a contact. For `tel` the number without visual separators and no host.
    #[must_use]
    pub fn key(&self) -> ContactKey {
        ContactKey { user: self.user_key(), host: canonical_host(self.host).into(), port: self.port }
    }

    /// The user part as far as it identifies a contact; for `tel` the number without visual separators.
    #[must_use]
    pub fn user_key(&self) -> Box<str> {
        let user = self.user.unwrap_or_default();
        match self.scheme {
            Scheme::Tel => user.chars().filter(|c| !matches!(c, '-' | '.' | '(' | ')')).collect(),
            _ => canonical_user(user).into(),
        }
    }

    /// Whether both name the same resource by RFC 3261 §19.1.4: user and password with case, host without, port and
    /// the parameters `transport`, `user`, `ttl`, `method`, `maddr` as written, others only when both have them.
    #[must_use]
    pub fn equivalent(&self, other: &Uri<'_>) -> bool {
        self.text == other.text
            || self.scheme == other.scheme
                && self.port == other.port
                && canonical_host(self.host) == canonical_host(other.host)
                && self.user.map(canonical_user) == other.user.map(canonical_user)
                && self.password == other.password
                && self.params_agree(other)
                && other.params_agree(self)
                && same_headers(self.headers, other.headers)
    }

    fn parse_sip(text: &'a str, scheme: Scheme, rest: &'a str) -> Result<Self, UriError> {
        let (userinfo, rest) = match memchr(b'@', rest.as_bytes()) {
            Some(at) => (Some(&rest[..at]), &rest[at + 1..]),
            None => (None, rest),
        };
        let (user, password) = match userinfo.and_then(|info| Some(info.split_at(memchr(b':', info.as_bytes())?))) {
            Some((user, password)) => (Some(user), password.get(1..)),
            None => (userinfo, None),
        };
        if user.is_some_and(str::is_empty) {
            return Err(UriError::User);
        }
        let (hostport, rest) = rest.split_at(memchr2(b';', b'?', rest.as_bytes()).unwrap_or(rest.len()));
        let (host, port) = host_port(hostport)?;
        let (params, headers) = match memchr(b'?', rest.as_bytes()) {
            Some(at) => (&rest[..at], &rest[at + 1..]),
            None => (rest, ""),
        };
        let params = Params::parse(params).unwrap_or_default();
        Ok(Self { text, scheme, user, password, host, port, params, headers })
    }

    /// Whether each of our parameters allows `other` to be the same resource.
    fn params_agree(&self, other: &Uri<'_>) -> bool {
        self.params.iter().all(|(name, value)| match other.params.find(name) {
            Some(theirs) => theirs.unwrap_or_default().eq_ignore_ascii_case(value.unwrap_or_default()),
            None => !MUST_MATCH.iter().any(|must| must.eq_ignore_ascii_case(name)),
        })
    }
}

impl Scheme {
    fn parse(text: &str) -> Result<Self, UriError> {
        if text.eq_ignore_ascii_case("sip") {
            return Ok(Self::Sip);
        }
        if text.eq_ignore_ascii_case("sips") {
            return Ok(Self::Sips);
        }
        if text.eq_ignore_ascii_case("tel") {
            return Ok(Self::Tel);
        }
        let valid = text.starts_with(|c: char| c.is_ascii_alphabetic())
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b));
        if valid { Ok(Self::Other) } else { Err(UriError::Scheme) }
    }
}

/// Reads `host`, `host:port`, `[v6]` or `[v6]:port`. Blanks are not allowed.
///
/// # Errors
/// When the host is empty or malformed, or the port is not a number below 65536.
pub fn host_port(text: &str) -> Result<(&str, Option<u16>), UriError> {
    let (host, rest) = if text.starts_with('[') {
        let close = memchr(b']', text.as_bytes()).ok_or(UriError::Host)?;
        if !is_ipv6(&text[1..close]) {
            return Err(UriError::Host);
        }
        text.split_at(close + 1)
    } else {
        text.split_at(memchr(b':', text.as_bytes()).unwrap_or(text.len()))
    };
    // The underscore is no host name character, but container names have it and phones are told to use them.
    let invalid = |byte: u8| !matches!(byte, b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' | b'-' | b'.' | b'_');
    if host.is_empty() || !host.starts_with('[') && has_any(host, invalid) {
        return Err(UriError::Host);
    }
    let port = match rest.strip_prefix(':') {
        Some(digits) if digits.bytes().all(|b| b.is_ascii_digit()) => {
            Some(digits.parse::<u16>().map_err(|_| UriError::Port)?)
        }
        Some(_) => return Err(UriError::Port),
        None if rest.is_empty() => None,
        None => return Err(UriError::Host),
    };
    Ok((host, port))
}

/// An IPv6 address. The third colon that RFC 3261's grammar puts before an IPv4 part is let pass (RFC 5118 §4.10).
fn is_ipv6(text: &str) -> bool {
    let without_third_colon = || {
        let (head, v4) = text.split_once(":::")?;
        v4.parse::<Ipv4Addr>().ok()?;
        format!("{head}::{v4}").parse::<Ipv6Addr>().ok()
    };
    text.parse::<Ipv6Addr>().is_ok() || without_third_colon().is_some()
}

fn split_params(text: &str) -> (&str, &str) {
    text.split_at(memchr(b';', text.as_bytes()).unwrap_or(text.len()))
}

/// Whether two `a=1&b=2` sections hold the same pairs in any order.
fn same_headers(ours: &str, theirs: &str) -> bool {
    let covers = |a: &str, b: &str| a.split('&').all(|pair| b.split('&').any(|other| other == pair));
    ours == theirs || covers(ours, theirs) && covers(theirs, ours)
}

/// Longest URI taken, in bytes.
pub const URI_LEN_MAX: usize = 2_048;
/// Parameters that make a difference even when only one of two URIs has them (RFC 3261 §19.1.4).
const MUST_MATCH: [&str; 5] = ["transport", "user", "ttl", "method", "maddr"];

#[cfg(test)]
mod tests {
    use super::*;

    fn same(a: &str, b: &str) -> bool {
        Uri::parse(a).unwrap().equivalent(&Uri::parse(b).unwrap())
    }

    #[test]
    fn all_parts_of_a_sip_uri_are_found() {
        let uri = Uri::parse("SIPS:al%20ice:pw@[2001:DB8::1]:5061;transport=TLS;lr?Subject=x&a=b").unwrap();
        assert_eq!(uri.scheme, Scheme::Sips);
        assert_eq!((uri.user, uri.password), (Some("al%20ice"), Some("pw")));
        assert_eq!((uri.host, uri.port), ("[2001:DB8::1]", Some(5061)));
        assert_eq!((uri.param("TRANSPORT"), uri.param("lr"), uri.param("x")), (Some("TLS"), Some(""), None));
        assert_eq!(uri.headers, "Subject=x&a=b");
    }

    #[test]
    fn a_user_part_may_hold_semicolons_and_question_marks() {
        let uri = Uri::parse("sip:+1;ext=2?x@pbx.example;user=phone").unwrap();
        assert_eq!((uri.user, uri.host, uri.param("user")), (Some("+1;ext=2?x"), "pbx.example", Some("phone")));
    }

    #[test]
    fn keys_are_canonical() {
        let key = |text| Uri::parse(text).unwrap().key();
        assert_eq!(key("sip:%61lice@PBX.Example."), key("sip:alice@pbx.example"));
        assert_ne!(key("sip:alice@pbx.example:5060"), key("sip:alice@pbx.example"));
        assert_eq!(&*key("tel:+1-(415).555.0100;phone-context=x").user, "+14155550100");
    }

    #[test]
    fn what_is_no_uri_is_refused_with_its_reason() {
        let error = |text: &str| Uri::parse(text).unwrap_err();
        assert_eq!(error("alice"), UriError::Scheme);
        assert_eq!(error("1x:alice"), UriError::Scheme);
        assert_eq!(error("sip:"), UriError::Host);
        assert_eq!(error("sip:alice@"), UriError::Host);
        assert_eq!(error("sip:@pbx.example"), UriError::User);
        assert_eq!(error("sip:a@b@c"), UriError::Host);
        assert_eq!(error("sip:a@[::1"), UriError::Host);
        assert_eq!(error("sip:a@[x]"), UriError::Host);
        assert_eq!(error("sip:a@[2001:db8:::1]"), UriError::Host);
        assert!(Uri::parse("sip:a@[2001:db8:::192.0.2.1]").is_ok());
        assert_eq!(error("sip:a@[::1]x"), UriError::Host);
        assert_eq!(error("sip:a@b:"), UriError::Port);
        assert_eq!(error("sip:a@b:70000"), UriError::Port);
        assert_eq!(error("sip:a@b:+5"), UriError::Port);
        assert_eq!(error("sip:a b@c"), UriError::Character);
        assert_eq!(error("sip:a\0@c"), UriError::Character);
        assert_eq!(error(&format!("sip:{}@b", "a".repeat(URI_LEN_MAX))), UriError::TooLong);
        assert_eq!(error("tel:"), UriError::User);
    }

    #[test]
    fn rfc_3261_19_1_4_examples_compare_as_it_says() {
        assert!(same("sip:%61lice@atlanta.com;transport=TCP", "sip:alice@AtLanTa.CoM;Transport=tcp"));
        assert!(same("sip:carol@chicago.com", "sip:carol@chicago.com;newparam=5"));
        assert!(same("sip:carol@chicago.com;security=on", "sip:carol@chicago.com;newparam=5"));
        assert!(same(
            "sip:biloxi.com;transport=tcp;method=REGISTER?to=sip:bob%40biloxi.com",
            "sip:biloxi.com;method=REGISTER;transport=tcp?to=sip:bob%40biloxi.com"
        ));
        assert!(same(
            "sip:alice@atlanta.com?subject=project%20x&priority=urgent",
            "sip:alice@atlanta.com?priority=urgent&subject=project%20x"
        ));
        assert!(!same("SIP:ALICE@AtLanTa.CoM;Transport=udp", "sip:alice@AtLanTa.CoM;Transport=UDP"));
        assert!(!same("sip:bob@biloxi.com", "sip:bob@biloxi.com:5060"));
        assert!(!same("sip:bob@biloxi.com", "sip:bob@biloxi.com;transport=udp"));
        assert!(!same("sip:bob@biloxi.com", "sip:bob@biloxi.com:6000;transport=tcp"));
        assert!(!same("sip:carol@chicago.com", "sip:carol@chicago.com?Subject=next%20meeting"));
        assert!(!same("sip:carol@chicago.com;security=on", "sip:carol@chicago.com;security=off"));
    }
}
