//! The Via header (RFC 3261 §20.42, RFC 3581).

use super::fault::{HeaderError, HeaderFault};
use super::name::Name;
use super::syntax::{Params, trim};
use super::uri::host_port;

/// One Via value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Via<'a> {
    /// `UDP`, `TCP`, `TLS`, `WS`, …, as written.
    pub transport: &'a str,
    /// Sent-by host; IPv6 references keep their brackets.
    pub host: &'a str,
    /// Sent-by port, when written.
    pub port: Option<u16>,
    /// `branch`.
    pub branch: Option<&'a str>,
    /// `received`.
    pub received: Option<&'a str>,
    /// `rport`: `Some(None)` when it is there without a value, as a request for it is.
    pub rport: Option<Option<u16>>,
    /// All parameters.
    pub params: Params<'a>,
    /// Everything before the parameters, as written.
    pub sent: &'a str,
    /// Whether it says `SIP/2.0`; a request of another version still has to find its way back with a 505.
    pub is_version_2: bool,
}

impl<'a> Via<'a> {
    /// Reads one value (not a comma list). Blanks around the slashes and the colon are allowed, any case of `SIP`.
    ///
    /// # Errors
    /// When it is not `SIP/version/transport sent-by` with parameters.
    pub fn parse(value: &'a str) -> Result<Self, HeaderError> {
        Self::read(trim(value)).ok_or(HeaderError::new(Name::Via.text(), HeaderFault::Malformed))
    }

    fn read(value: &'a str) -> Option<Self> {
        let (sent, params) = value.split_at(memchr::memchr(b';', value.as_bytes()).unwrap_or(value.len()));
        let sent = trim(sent);
        let params = Params::parse(params)?;
        let mut parts = sent.splitn(3, '/');
        let (protocol, version) = (trim(parts.next()?), trim(parts.next()?));
        let is_version_2 = version == "2.0";
        let is_version = is_version_2 || version.split('.').all(is_number) && version.contains('.');
        if !protocol.eq_ignore_ascii_case("SIP") || !is_version {
            return None;
        }
        let (transport, sent_by) = trim(parts.next()?).split_once([' ', '\t', '\r', '\n'])?;
        if !super::syntax::is_token(transport.as_bytes()) {
            return None;
        }
        let (host, port) = sent_by_parts(trim(sent_by))?;
        let (branch, received, rport) = (None, None, None);
        let mut via = Self { transport, host, port, branch, received, rport, params, sent, is_version_2 };
        // The first of each name counts; one pass, for this runs for every message.
        for (name, value) in params.iter() {
            if via.branch.is_none() && name.eq_ignore_ascii_case("branch") {
                via.branch = value;
            } else if via.rport.is_none() && name.eq_ignore_ascii_case("rport") {
                via.rport = Some(match value {
                    None | Some("") => None,
                    Some(digits) => Some(digits.parse().ok()?),
                });
            } else if via.received.is_none() && name.eq_ignore_ascii_case("received") {
                via.received = value;
            }
        }
        Some(via)
    }
}

/// The `branch` of one Via value. The rest is not judged: whoever follows transactions asks every message for it.
#[must_use]
pub fn branch(value: &str) -> Option<&str> {
    let params = memchr::memchr(b';', value.as_bytes())?;
    Params::parse(&value[params..])?.value("branch")
}

/// `host [: port]` with blanks allowed around the colon.
fn sent_by_parts(text: &str) -> Option<(&str, Option<u16>)> {
    if let Ok(parts) = host_port(text) {
        return Some(parts);
    }
    let (host, port) = text.rsplit_once(':')?;
    let (host, none) = host_port(trim(host)).ok()?;
    let port = trim(port);
    (none.is_none() && is_number(port)).then_some((host, Some(port.parse().ok()?)))
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blanks_and_case_do_not_matter() {
        let via = Via::parse(" sip / 2.0 / udp  pbx.example : 5070 ; ttl=1;Branch=z9hG4bKx ;rport").unwrap();
        assert_eq!((via.transport, via.host, via.port), ("udp", "pbx.example", Some(5070)));
        assert_eq!((via.branch, via.rport), (Some("z9hG4bKx"), Some(None)));
        let via = Via::parse("SIP/2.0/TCP [2001:db8::1]:5060;received=2001:db8::2;rport=9").unwrap();
        assert_eq!((via.host, via.port, via.rport), ("[2001:db8::1]", Some(5060), Some(Some(9))));
        assert_eq!(via.received, Some("2001:db8::2"));
        assert_eq!(Via::parse("SIP/2.0/UDP [::1]").unwrap().port, None);
        assert!(via.is_version_2 && !Via::parse("SIP/7.0/UDP h").unwrap().is_version_2);
    }

    #[test]
    fn a_branch_alone_is_what_the_whole_value_says() {
        for value in ["SIP/2.0/UDP h;branch=z9hG4bK1", "SIP/2.0/UDP h ;rport; Branch = z9hG4bK1 ;x=\";branch=2\""] {
            assert_eq!((branch(value), Via::parse(value).unwrap().branch), (Some("z9hG4bK1"), Some("z9hG4bK1")));
        }
        assert_eq!((branch("SIP/2.0/UDP h"), branch("SIP/2.0/UDP h;rport=1")), (None, None));
    }

    #[test]
    fn what_is_no_via_names_the_header() {
        for bad in [
            "",
            "SIP/2.0/UDP",
            "SIP/2.0 h",
            "SIP/x/UDP h",
            "SIP/3/UDP h",
            "HTTP/2.0/UDP h",
            "SIP/2.0/UDP h:x",
            "SIP/2.0/UDP h;rport=x",
        ] {
            assert_eq!(Via::parse(bad).unwrap_err().to_string(), "Bad Via Header", "{bad}");
        }
    }
}
