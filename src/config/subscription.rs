//! Keys of `[feeds.NAME]` that only a feed by subscription has.

use super::feed::Tls;
use super::read::{Origin, Section};
use crate::model::Transport;

/// Part of `[feeds.NAME]`: what to subscribe to, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscriptions {
    /// `transport` (subscription only): `udp`, `tcp` or `tls`; the last also where the key `tls` is set and this is not.
    pub transport: Transport,
    /// `domain` (subscription only): the SIP domain of the extensions. Default: the host in `address`.
    pub domain: Option<String>,
    /// `dialogs` (subscription only): extensions whose calls to follow, or `"all"` known devices of the PBX, which is the default.
    pub dialogs: Extensions,
    /// `registrations` (subscription only): extensions whose contacts to follow, or `"all"`. Default: nobody's.
    pub registrations: Extensions,
    /// `expires_s` (subscription only): seconds a subscription is asked for.
    pub expires_s: u32,
}

/// Extensions of a PBX.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Extensions {
    /// Those of all its known devices.
    All,
    /// These.
    These(Vec<String>),
}

impl Default for Subscriptions {
    fn default() -> Self {
        Self {
            transport: Transport::Udp,
            domain: None,
            dialogs: Extensions::All,
            registrations: Extensions::These(Vec::new()),
            expires_s: EXPIRES_S,
        }
    }
}

impl Subscriptions {
    /// Reads them; `tls` is that key and where it stands. How certificates are checked over TLS comes back with them.
    pub(super) fn read(section: &mut Section<'_>, tls: (&Origin, Option<Tls>)) -> (Self, Tls) {
        let default = Self::default();
        let (transport, tls) = read_transport(section, tls);
        let domain = section.parsed("domain", |text| part_of_uri(text, "domain"));
        let dialogs = read_extensions(section, "dialogs", default.dialogs);
        let registrations = read_extensions(section, "registrations", default.registrations);
        let nobody = Extensions::These(Vec::new());
        if dialogs == nobody && registrations == nobody {
            section.problem(&Origin::Default, "dialogs", "nothing is left to subscribe to");
        }
        let expires_s = section.number("expires_s", EXPIRES_S.into(), 30..=86_400);
        let expires_s = u32::try_from(expires_s).unwrap_or(u32::MAX);
        (Self { transport, domain, dialogs, registrations, expires_s }, tls)
    }
}

/// `transport`, and `tls` where that is the transport. One says the other, so that either will do.
fn read_transport(section: &mut Section<'_>, (tls_origin, tls): (&Origin, Option<Tls>)) -> (Transport, Tls) {
    let transport = section.word("transport", "transport of a subscription", &TRANSPORTS, Some("udp"));
    let wanted = tls.filter(|tls| *tls != Tls::Off);
    match (transport, wanted) {
        (Some(Transport::Tls), None) if tls.is_some() => {
            section.problem(tls_origin, "tls", "transport = \"tls\" wants \"on\" or \"insecure\" here");
        }
        (Some(Transport::Udp | Transport::Tcp), Some(_)) => {
            section.problem(tls_origin, "tls", "goes with transport = \"tls\"");
        }
        (Some(Transport::Tls), None) => return (Transport::Tls, Tls::On),
        (None, Some(tls)) => return (Transport::Tls, tls),
        _ => {}
    }
    (transport.unwrap_or(Transport::Udp), tls.unwrap_or_default())
}

/// `"all"`, or a list of extensions.
fn read_extensions(section: &mut Section<'_>, key: &str, default: Extensions) -> Extensions {
    let origin = section.origin(key);
    match section.list(key, |text| part_of_uri(text, "extension")) {
        None => default,
        Some(list) if list == ["all"] => Extensions::All,
        Some(list) if list.len() > EXTENSIONS_MAX => {
            section.problem(&origin, key, format!("has more than {EXTENSIONS_MAX} extensions"));
            default
        }
        Some(list) => Extensions::These(list),
    }
}

fn part_of_uri(text: &str, what: &str) -> Result<String, String> {
    let fits = |c: char| c.is_alphanumeric() || "-_.!~*'()&=+$,%#[]:".contains(c);
    if !text.is_empty() && text.len() <= 255 && text.chars().all(fits) {
        Ok(text.to_owned())
    } else {
        Err(format!("{text:?} is no {what}"))
    }
}

const TRANSPORTS: [(&str, Transport); 3] = [("udp", Transport::Udp), ("tcp", Transport::Tcp), ("tls", Transport::Tls)];
/// Extensions one feed subscribes to, at most.
pub const EXTENSIONS_MAX: usize = 5_000;
const EXPIRES_S: u32 = 600;
