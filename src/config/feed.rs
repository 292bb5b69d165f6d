//! `[feeds.NAME]`: connections of our own to PBXs.

use std::fmt;

use super::read::{Origin, Section};
use super::subscription::Subscriptions;

/// `[feeds.NAME]`: connections of our own to PBXs, as many as wanted. NAME has letters, digits, `-` and `_` only; it is a metric
/// label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Feed {
    /// NAME of `[feeds.NAME]`; a metric label, so letters, digits, `-` and `_` only.
    pub name: String,
    /// `kind`: what answers there: `asterisk` (its manager interface), `freeswitch` (its event socket) or `subscription` (any PBX
    /// that has nothing but lamps for its extensions). May be left out when NAME is that of a kind.
    pub kind: Kind,
    /// `pbx`: name of the PBX it tells of; default: the default PBX.
    pub pbx: Option<String>,
    /// `address`: `HOST:PORT`. Default: the kind's port on 127.0.0.1 (asterisk 5038, freeswitch 8021, subscription 5060, over
    /// TLS 5061).
    pub address: String,
    /// `user`: whom to log in as. FreeSWITCH needs none, nor does a PBX that lets anybody subscribe.
    pub user: Option<String>,
    /// `secret`: the password.
    /// `secret_file`: a file whose first line is the password, in place of `secret`.
    pub secret: Secret,
    /// `tls`: `on` to speak TLS, `insecure` to do so without checking the certificate, `off` for neither.
    pub tls: Tls,
    /// `snapshot_s`: seconds after which everything is looked at again, whatever was heard.
    pub snapshot_s: u32,
    /// What a feed by subscription needs besides; defaults for others.
    pub subscriptions: Subscriptions,
    /// `poll_s` (FreeSWITCH only): seconds after which queues, agents and tiers are looked at, whose changes make no events.
    pub poll_s: u32,
    /// `answer_s`: seconds a question may go unanswered before the connection is given up.
    pub answer_s: u32,
}

/// Kinds of feed that connect out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Asterisk's manager interface.
    Asterisk,
    /// `FreeSWITCH`'s event socket.
    Freeswitch,
    /// Any PBX's SIP, by subscription.
    Subscription,
}

/// Whether a connection is encrypted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Tls {
    /// It is not.
    #[default]
    Off,
    /// It is, and the certificate must be one the system trusts, for the host in `address`.
    On,
    /// It is, whatever the certificate.
    Insecure,
}

/// A password, and where it comes from. Never shown.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// The text itself, to be sent and nowhere else.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

impl From<&str> for Secret {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl Feed {
    /// Reads `[feeds.NAME]`; every mistake is recorded, and a feed that can't stand is left out.
    pub(super) fn read(name: &str, mut section: Section<'_>) -> Option<Self> {
        if !super::listener::is_label(name) {
            section.problem(&Origin::Default, "", "a feed's name has letters, digits, - and _ only");
        }
        let given = section.origin("kind");
        let kind = match section.word("kind", "kind of feed", &KINDS, None) {
            None if given == Origin::Default => {
                let named = KINDS.iter().find(|(word, _)| *word == name).map(|(_, kind)| *kind);
                if named.is_none() {
                    section.problem(&Origin::Default, "kind", KIND_NEEDED);
                }
                named
            }
            kind => kind,
        };
        let pbx = section.text("pbx");
        let address = section.parsed("address", parse_address);
        let user = section.text("user");
        if user.is_none() && kind == Some(Kind::Asterisk) {
            section.problem(&Origin::Default, "user", "is needed: the name of the section in manager.conf");
        }
        let subscribes = kind == Some(Kind::Subscription);
        let asks_nobody = subscribes && user.is_none() && !section.has("secret") && !section.has("secret_file");
        let secret = read_secret(&mut section, !asks_nobody);
        let tls_origin = section.origin("tls");
        let tls = section.word("tls", "kind of TLS", &TLS, Some("off"));
        let snapshot_s = section.number("snapshot_s", 300, 5..=86_400);
        let answer_s = section.number("answer_s", 15, 1..=120);
        let polls = kind == Some(Kind::Freeswitch);
        let poll_s = if polls { section.number("poll_s", POLL_S, 2..=3_600) } else { POLL_S };
        let (subscriptions, tls) = if subscribes {
            Subscriptions::read(&mut section, (&tls_origin, tls))
        } else {
            (Subscriptions::default(), tls.unwrap_or_default())
        };
        section.finish();
        let kind = kind?;
        Some(Self {
            name: name.to_owned(),
            kind,
            pbx,
            address: address.unwrap_or_else(|| kind.default_address(tls).to_owned()),
            user,
            secret: secret?,
            tls,
            snapshot_s: u32::try_from(snapshot_s).unwrap_or(u32::MAX),
            subscriptions,
            poll_s: u32::try_from(poll_s).unwrap_or(u32::MAX),
            answer_s: u32::try_from(answer_s).unwrap_or(u32::MAX),
        })
    }
}

impl Kind {
    fn default_address(self, tls: Tls) -> &'static str {
        match self {
            Self::Asterisk => "127.0.0.1:5038",
            Self::Freeswitch => "127.0.0.1:8021",
            Self::Subscription if tls == Tls::Off => "127.0.0.1:5060",
            Self::Subscription => "127.0.0.1:5061",
        }
    }
}

fn read_secret(section: &mut Section<'_>, needed: bool) -> Option<Secret> {
    let (file_origin, both) = (section.origin("secret_file"), section.has("secret") && section.has("secret_file"));
    let secret = section.text("secret");
    let file = section.text("secret_file");
    if both {
        section.problem(&file_origin, "secret_file", "secret is set as well; take one of them out");
    }
    match (secret, file) {
        (Some(secret), _) => Some(Secret(secret)),
        (None, Some(file)) => match std::fs::read_to_string(&file) {
            Ok(text) => Some(Secret(text.lines().next().unwrap_or_default().to_owned())),
            Err(error) => {
                section.problem(&file_origin, "secret_file", format!("can't read {file}: {error}"));
                None
            }
        },
        (None, None) if !needed => Some(Secret::default()),
        (None, None) => {
            section.problem(&Origin::Default, "secret", "is needed, or secret_file = \"FILE\"");
            None
        }
    }
}

/// `HOST:PORT`, where HOST may be a name, an IPv4 address or an IPv6 address in brackets.
fn parse_address(text: &str) -> Result<String, String> {
    let valid = text.rsplit_once(':').is_some_and(|(host, port)| {
        let plain = !host.is_empty() && (host.starts_with('[') == host.ends_with(']'));
        plain && (host.starts_with('[') || !host.contains(':')) && port.parse::<u16>().is_ok_and(|port| port != 0)
    });
    if valid {
        Ok(text.to_owned())
    } else {
        Err(format!("{text:?} is no address; write 192.0.2.10:5038 or pbx.example:5038"))
    }
}

const KINDS: [(&str, Kind); 3] =
    [("asterisk", Kind::Asterisk), ("freeswitch", Kind::Freeswitch), ("subscription", Kind::Subscription)];
const TLS: [(&str, Tls); 3] = [("off", Tls::Off), ("on", Tls::On), ("insecure", Tls::Insecure)];
const POLL_S: u64 = 20;
const KIND_NEEDED: &str = "is needed: kind = \"asterisk\", \"freeswitch\" or \"subscription\"";
