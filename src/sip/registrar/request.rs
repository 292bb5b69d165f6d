//! What a REGISTER asks for, read and judged once.

use std::borrow::Cow;
use std::net::SocketAddr;

use smallvec::SmallVec;

use super::Refusal;
use crate::model::{Transport, canonical_host, canonical_user};
use crate::sip::address::{Contact, NameAddr};
use crate::sip::fault::{HeaderError, HeaderFault};
use crate::sip::name::Name;
use crate::sip::scan::Message;
use crate::sip::syntax::{trim, unfold};
use crate::sip::uri::{Scheme, Uri};

/// A REGISTER whose every part has been judged; nothing of it needs checking again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegisterRequest<'a> {
    /// Canonical user part of the address-of-record (To).
    pub user: Cow<'a, str>,
    /// Canonical host of the address-of-record; of the Request-URI when To is a `tel` URI.
    pub host: Cow<'a, str>,
    /// Call-ID.
    pub call_id: &'a str,
    /// `CSeq` number.
    pub cseq: u32,
    /// Which contacts it is about.
    pub contacts: Contacts<'a>,
    /// The Expires header, in seconds.
    pub expires_s: Option<u32>,
    /// User-Agent, cut to [`USER_AGENT_LEN_MAX`] bytes.
    pub user_agent: Option<Cow<'a, str>>,
    /// All Path values (RFC 3327), comma-separated.
    pub path: Option<Cow<'a, str>>,
    /// Whether its sender wants to see the Path in the 200 (`Supported: path`).
    pub supports_path: bool,
    /// Extensions it requires and we do not have.
    pub unsupported: SmallVec<[&'a str; 1]>,
    /// Where it came from, when known.
    pub source: Option<SocketAddr>,
    /// Over what it came.
    pub transport: Transport,
}

/// The contacts of a REGISTER.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Contacts<'a> {
    /// None: it only asks which there are.
    Query,
    /// `*`, with `Expires: 0`: remove all.
    RemoveAll,
    /// These, in order; at least one and at most [`CONTACTS_MAX`].
    Listed(SmallVec<[ContactRequest<'a>; 1]>),
}

/// One contact of a REGISTER.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContactRequest<'a> {
    /// Its URI.
    pub uri: Uri<'a>,
    /// Its own `expires`, in seconds.
    pub expires_s: Option<u32>,
    /// `q` in thousandths; 1000 when absent.
    pub q: u16,
    /// `+sip.instance` without quotes and angle brackets.
    pub instance: Option<&'a str>,
    /// `reg-id`; only beside an instance (RFC 5626 §4.2).
    pub reg_id: Option<u32>,
}

impl<'a> RegisterRequest<'a> {
    /// Reads a REGISTER that passed [`check`](crate::sip::check()), which came from `source` over `transport`.
    ///
    /// # Errors
    /// A 400 that names the header which is malformed, too long or holds what can't be kept.
    pub fn parse(
        message: &Message<'a>,
        source: impl Into<Option<SocketAddr>>,
        transport: Transport,
    ) -> Result<Self, Refusal> {
        let (user, host) = address_of_record(message)?;
        let expires_s = expires(message)?;
        let supports = |extension: &str| message.values(Name::Supported).any(|tag| tag.eq_ignore_ascii_case(extension));
        Ok(Self {
            user,
            host,
            call_id: message.try_call_id()?,
            cseq: message.cseq()?.number,
            contacts: Contacts::read(message, expires_s)?,
            expires_s,
            user_agent: message.header(Name::UserAgent).map(unfold).map(cut).filter(|text| !text.is_empty()),
            path: path(message)?,
            supports_path: supports("path"),
            unsupported: unsupported(message),
            source: source.into(),
            transport,
        })
    }
}

impl<'a> Contacts<'a> {
    fn read(message: &Message<'a>, expires_s: Option<u32>) -> Result<Self, HeaderError> {
        let mut listed = SmallVec::new();
        let mut has_star = false;
        for contact in message.contacts() {
            match contact? {
                Contact::Address(_) | Contact::Star if listed.len() >= CONTACTS_MAX => {
                    return Err(contact_error(HeaderFault::TooMany));
                }
                Contact::Address(address) => listed.push(ContactRequest::read(&address)?),
                Contact::Star if has_star => return Err(contact_error(HeaderFault::Repeated)),
                Contact::Star => has_star = true,
            }
        }
        match (has_star, listed.is_empty()) {
            (false, true) => Ok(Self::Query),
            (false, false) => Ok(Self::Listed(listed)),
            (true, false) => Err(contact_error(HeaderFault::Malformed)),
            // RFC 3261 §10.3 step 6: a star without `Expires: 0` means something else, so it must not remove anything.
            (true, true) => match expires_s {
                Some(0) => Ok(Self::RemoveAll),
                Some(_) => Err(HeaderError::new(Name::Expires.text(), HeaderFault::Malformed)),
                None => Err(HeaderError::new(Name::Expires.text(), HeaderFault::Missing)),
            },
        }
    }
}

impl<'a> ContactRequest<'a> {
    /// Reads a contact's parameters. A malformed `expires` counts as one hour (RFC 3261 §10.2.1.1).
    pub(super) fn read(address: &NameAddr<'a>) -> Result<Self, HeaderError> {
        if address.uri.text.len() > CONTACT_LEN_MAX {
            return Err(contact_error(HeaderFault::TooLong));
        }
        let mut contact = Self { uri: address.uri, expires_s: None, q: 1_000, instance: None, reg_id: None };
        // One pass, for this runs for every REGISTER; a name that comes twice means its last value.
        for (name, value) in address.params.iter() {
            let text = value.unwrap_or_default();
            if name.eq_ignore_ascii_case("expires") {
                contact.expires_s = Some(seconds(text.trim_matches('"')).unwrap_or(3_600));
            } else if name.eq_ignore_ascii_case("q") {
                contact.q = thousandths(text).ok_or(contact_error(HeaderFault::Malformed))?;
            } else if name.eq_ignore_ascii_case("+sip.instance") {
                contact.instance = instance_id(text);
            } else if name.eq_ignore_ascii_case("reg-id") {
                contact.reg_id = text.parse().ok();
            }
        }
        if contact.instance.is_some_and(|id| id.len() > INSTANCE_LEN_MAX) {
            return Err(contact_error(HeaderFault::TooLong));
        }
        contact.reg_id = contact.reg_id.filter(|_| contact.instance.is_some());
        Ok(contact)
    }
}

/// The extensions a request requires and we do not have (RFC 3261 §8.2.2.3).
#[must_use]
pub fn unsupported<'a>(message: &Message<'a>) -> SmallVec<[&'a str; 1]> {
    let has = |tag: &&str| EXTENSIONS.iter().any(|known| known.eq_ignore_ascii_case(tag));
    message.values(Name::Require).filter(|tag| !has(tag)).collect()
}

const fn contact_error(fault: HeaderFault) -> HeaderError {
    HeaderError::new(Name::Contact.text(), fault)
}

/// Canonical user and host of To (RFC 3261 §10.3 step 5).
fn address_of_record<'a>(message: &Message<'a>) -> Result<(Cow<'a, str>, Cow<'a, str>), HeaderError> {
    let error = |fault| HeaderError::new(Name::To.text(), fault);
    let to = message.to()?.uri;
    let user = to.user.ok_or(error(HeaderFault::Malformed))?;
    let (user, host) = match to.scheme {
        Scheme::Sip | Scheme::Sips => (canonical_user(user), to.host),
        Scheme::Tel => {
            let domain = message.request_uri().and_then(|text| Uri::parse(text).ok());
            (Cow::Owned(to.key().user.into()), domain.ok_or(error(HeaderFault::Malformed))?.host)
        }
        Scheme::Other => return Err(error(HeaderFault::Malformed)),
    };
    if user.len() > AOR_PART_LEN_MAX || host.len() > AOR_PART_LEN_MAX {
        return Err(error(HeaderFault::TooLong));
    }
    Ok((user, canonical_host(host)))
}

fn expires(message: &Message<'_>) -> Result<Option<u32>, HeaderError> {
    match message.only(Name::Expires) {
        Err(HeaderError { fault: HeaderFault::Missing, .. }) => Ok(None),
        Err(error) => Err(error),
        Ok(text) => seconds(text).map(Some).ok_or(HeaderError::new(Name::Expires.text(), HeaderFault::Malformed)),
    }
}

/// `delta-seconds`; more than 32 bits hold is the most they do.
fn seconds(text: &str) -> Option<u32> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().unwrap_or(u32::MAX))
}

/// A `qvalue` in thousandths; digits beyond the third are dropped.
fn thousandths(text: &str) -> Option<u16> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    if !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let fraction = fraction.bytes().chain(*b"000").take(3).fold(0, |sum, digit| sum * 10 + u16::from(digit - b'0'));
    match whole {
        "0" | "" => Some(fraction),
        "1" if fraction == 0 => Some(1_000),
        _ => None,
    }
}

/// The id inside `"<…>"`; none when it is empty or could not be written back.
fn instance_id(text: &str) -> Option<&str> {
    let text = trim(text.trim_matches('"'));
    let text = text.strip_prefix('<').and_then(|rest| rest.strip_suffix('>')).unwrap_or(text);
    let writable = |byte: u8| byte > b' ' && !matches!(byte, b'"' | b'<' | b'>' | b'\\' | 0x7f);
    (!text.is_empty() && text.bytes().all(writable)).then_some(text)
}

fn path<'a>(message: &Message<'a>) -> Result<Option<Cow<'a, str>>, HeaderError> {
    let error = |fault| HeaderError::new(Name::Path.text(), fault);
    let mut joined: Option<Cow<'a, str>> = None;
    // The typed read also refuses what is not text.
    if message.raw_headers(Name::Path).count() != message.headers(Name::Path).count() {
        return Err(error(HeaderFault::NotUtf8));
    }
    for value in message.values(Name::Path) {
        NameAddr::parse(value, Name::Path.text())?;
        let value = unfold(value);
        joined = Some(match joined {
            None => value,
            Some(before) => Cow::Owned(format!("{before}, {value}")),
        });
        if joined.as_ref().is_some_and(|text| text.len() > PATH_LEN_MAX) {
            return Err(error(HeaderFault::TooLong));
        }
    }
    Ok(joined)
}

/// At most [`USER_AGENT_LEN_MAX`] bytes, whole characters.
fn cut(text: Cow<'_, str>) -> Cow<'_, str> {
    let end = text.floor_char_boundary(USER_AGENT_LEN_MAX);
    match text {
        Cow::Borrowed(text) => Cow::Borrowed(text.get(..end).unwrap_or(text)),
        Cow::Owned(mut text) => {
            text.truncate(end);
            Cow::Owned(text)
        }
    }
}

/// Most contacts one REGISTER may list.
pub const CONTACTS_MAX: usize = 32;
/// Longest contact URI kept, in bytes.
pub const CONTACT_LEN_MAX: usize = 512;
/// Longest `+sip.instance` kept, in bytes.
pub const INSTANCE_LEN_MAX: usize = 256;
/// Longest canonical user part or host of an address-of-record, in bytes.
pub const AOR_PART_LEN_MAX: usize = 255;
/// User-Agent is cut to this many bytes.
pub const USER_AGENT_LEN_MAX: usize = 256;
/// Longest Path kept, all values together, in bytes.
pub const PATH_LEN_MAX: usize = 2_048;
/// Option tags a REGISTER may require.
const EXTENSIONS: [&str; 1] = ["path"];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sip::scan;

    fn outcome(headers: &str) -> Result<String, String> {
        let text = format!(
            "REGISTER sip:PBX.example SIP/2.0\r\nVia: SIP/2.0/UDP h\r\nFrom: <sip:101@pbx.example>\r\n\
             Call-ID: x\r\nCSeq: 7 REGISTER\r\n{headers}\r\n\r\n"
        );
        let message = scan(text.as_bytes()).unwrap();
        RegisterRequest::parse(&message, None, Transport::Udp)
            .map(|request| format!("{request:?}"))
            .map_err(|refusal| format!("{} {}", refusal.status, refusal.reason))
    }

    fn refused(headers: &str) -> String {
        let to = if headers.contains("To:") { "" } else { "To: <sip:101@pbx.example>\r\n" };
        outcome(&format!("{to}{headers}")).unwrap_err()
    }

    #[test]
    fn a_register_is_read_whole() {
        let text = "REGISTER sip:pbx.example SIP/2.0\r\nTo: <sips:%31%30%31@PBX.Example:5061;x=y>\r\ni: x\r\n\
            CSeq: 7 REGISTER\r\nm: <sip:101@192.0.2.1>;expires=\"60\";q=0.25;+sip.instance=\"<urn:uuid:1>\";reg-id=2, \
            <sip:101@192.0.2.2>;expires=abc;reg-id=1\r\nExpires: 99999999999\r\nUser-Agent: Phone\r\n 1.0\r\n\
            Path: <sip:p1;lr>\r\nPath: <sip:p2;lr>\r\nSupported: gruu, path\r\nRequire: path, outbound\r\n\r\n";
        let message = scan(text.as_bytes()).unwrap();
        let source = "192.0.2.1:5060".parse::<SocketAddr>().unwrap();
        let request = RegisterRequest::parse(&message, source, Transport::Tcp).unwrap();
        assert_eq!((&*request.user, &*request.host), ("101", "pbx.example"));
        assert_eq!((request.call_id, request.cseq, request.expires_s), ("x", 7, Some(u32::MAX)));
        assert_eq!(request.user_agent.as_deref(), Some("Phone 1.0"));
        assert_eq!((request.path.as_deref(), request.supports_path), (Some("<sip:p1;lr>, <sip:p2;lr>"), true));
        assert_eq!(request.unsupported.as_slice(), ["outbound"]);
        let Contacts::Listed(contacts) = request.contacts else { panic!("contacts were listed") };
        assert_eq!((contacts[0].expires_s, contacts[0].q), (Some(60), 250));
        assert_eq!((contacts[0].instance, contacts[0].reg_id), (Some("urn:uuid:1"), Some(2)));
        assert_eq!((contacts[1].expires_s, contacts[1].q, contacts[1].reg_id), (Some(3_600), 1_000, None));
    }

    #[test]
    fn a_tel_address_takes_the_domain_of_the_request() {
        let read = outcome("To: <tel:+1-415-555-0100>").unwrap();
        assert!(read.contains(r#"user: "+14155550100", host: "pbx.example""#), "{read}");
    }

    #[test]
    fn a_star_counts_only_alone_and_with_expires_0() {
        assert!(outcome("To: <sip:1@b>\r\nContact: *\r\nExpires: 0").unwrap().contains("RemoveAll"));
        assert_eq!(refused("Contact: *"), "400 Missing Expires");
        assert_eq!(refused("Contact: *\r\nExpires: 60"), "400 Bad Expires Header");
        assert_eq!(refused("Contact: *, <sip:101@192.0.2.1>\r\nExpires: 0"), "400 Bad Contact Header");
        assert_eq!(refused("Contact: *\r\nContact: *\r\nExpires: 0"), "400 Multiple Contact Headers");
    }

    #[test]
    fn what_can_not_be_kept_is_refused_by_name() {
        let many = vec!["<sip:a@b>"; CONTACTS_MAX + 1].join(",");
        let long = "a".repeat(600);
        for (headers, expected) in [
            ("Contact: <sip:a@b".into(), "400 Bad Contact Header"),
            ("Contact: <sip:a@b>;q=2".into(), "400 Bad Contact Header"),
            ("Contact: <sip:a@b>;q=0.x".into(), "400 Bad Contact Header"),
            ("Contact:".into(), "400 Bad Contact Header"),
            ("Contact: <sip:a\0@b>".into(), "400 Bad Contact Header"),
            (format!("Contact: {many}"), "400 Too Many Contact Values"),
            (format!("Contact: <sip:{long}@b>"), "400 Contact Header Too Long"),
            (format!("Contact: <sip:a@b>;+sip.instance=\"<{long}>\""), "400 Contact Header Too Long"),
            ("Expires: soon".into(), "400 Bad Expires Header"),
            ("Path: nonsense".into(), "400 Bad Path Header"),
            (format!("Path: <sip:{long}>, <sip:{long}>, <sip:{long}>, <sip:{long}>"), "400 Path Header Too Long"),
            ("To: <sip:pbx.example>".into(), "400 Bad To Header"),
            ("To: <mailto:a@b>".into(), "400 Bad To Header"),
            (format!("To: <sip:{long}@b>"), "400 To Header Too Long"),
        ] {
            assert_eq!(refused(&headers), expected, "{headers}");
        }
    }

    #[test]
    fn a_long_user_agent_is_cut_between_characters() {
        let read = outcome(&format!("To: <sip:1@b>\r\nUser-Agent: a{}", "ü".repeat(200))).unwrap();
        assert!(read.contains(&format!("\"a{}\"", "ü".repeat(127))), "{read}");
    }
}
