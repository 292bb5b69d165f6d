//! `[listeners.NAME]`: where SIP comes in, from whom, and what it means there.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use subtle::ConstantTimeEq as _;

use crate::model::Network;

use super::certificate::Certificate;
use super::origins::Origins;
use super::read::{Origin, Section};

/// `[listeners.NAME]`: where SIP comes in. A file that names any replaces the three default ones (registrar, mirror and HEP on
/// loopback). NAME has letters, digits, `-` and `_` only; it is a metric label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// NAME of `[listeners.NAME]`; a metric label, so letters, digits, `-` and `_` only.
    pub name: String,
    /// `mode`: what SIP means here: `registrar` (phones register), `replica` (a PBX relays what it has accepted), `mirror` (copies
    /// of what others say, never answered) or `hep` (the same in HEP). May be left out when NAME is that of a mode.
    pub mode: Mode,
    /// `bind`: where it listens, over `udp:`, `tcp:`, `tls:`, `ws:` (WebSocket, RFC 7118; behind a proxy) or `wss:`. Default of
    /// a registrar: UDP and TCP on 127.0.0.1:5060; of a mirror: UDP on 127.0.0.1:5062; of HEP: UDP and TCP on
    /// 127.0.0.1:9060; a replica has none.
    pub bind: Vec<Bind>,
    /// `auth` (registrar only): who must prove a password (RFC 3261 §22): `none` = devices that have one; `digest` = everybody,
    /// so that devices without one can't register. Outside loopback `none` needs `networks`.
    pub auth: Auth,
    /// `networks`: who may send here (`["192.0.2.0/24"]`); empty (default) = everybody who can reach the address. Outside
    /// loopback it is needed, but for a registrar with `auth = "digest"` and for HEP with a `key`.
    pub networks: Vec<Network>,
    /// `pbx`: name of the PBX that peers in no PBX's networks belong to; default: the default PBX.
    pub pbx: Option<String>,
    /// `key` (HEP only): what packets must carry as their auth key (`capture_password`). With it, versions 1 and 2 and plain
    /// SIP, which have no place for one, are dropped. It travels in clear text.
    pub key: Option<HepKey>,
    /// `capture_ids` (HEP only): names of PBXs by capture id. One that is not listed belongs to the PBX whose networks hold the
    /// sender, else to `pbx`.
    pub capture_ids: BTreeMap<u32, String>,
    /// `tls_certificate`, `tls_key` and `tls_client_ca`.
    pub certificate: Option<Certificate>,
    /// `ws_origins`: pages whose phones in a browser may connect by WebSocket; `"*"` is any. Default: none, so only
    /// clients that are no browser: else any page a person opens could speak for them from inside the office.
    pub origins: Origins,
}

/// A HEP auth key. Never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct HepKey(Box<[u8]>);

/// Who must prove a password to register.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Auth {
    /// Devices that have one.
    #[default]
    None,
    /// Everybody.
    Digest,
}

/// What SIP means on a listener. A listener has one mode; it does not guess.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mode {
    /// Phones register here (RFC 3261 §10).
    Registrar,
    /// A trusted PBX relays what it has accepted.
    Replica,
    /// Copies of what others say to each other; never answered.
    Mirror,
    /// The same, wrapped in HEP.
    Hep,
}

/// One address a listener is bound to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Bind {
    /// UDP, TCP, TLS or WebSocket.
    pub protocol: Protocol,
    /// Where; port 0 takes a free one.
    pub address: SocketAddr,
}

/// Transports a listener speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// One message a datagram.
    Udp,
    /// Messages framed by Content-Length.
    Tcp,
    /// The same inside TLS.
    Tls,
    /// One message a WebSocket message (RFC 7118).
    Ws,
    /// The same inside TLS.
    Wss,
}

impl Mode {
    /// As it is written in the file and in metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Registrar => "registrar",
            Self::Replica => "replica",
            Self::Mirror => "mirror",
            Self::Hep => "hep",
        }
    }
}

impl HepKey {
    /// Whether a packet's key is this one; takes as long whatever it differs in.
    #[must_use]
    pub fn is(&self, key: &[u8]) -> bool {
        self.0.ct_eq(key).into()
    }
}

impl fmt::Debug for HepKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HepKey(…)")
    }
}

impl fmt::Display for Bind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.protocol.as_str(), self.address)
    }
}

impl Protocol {
    /// Whether it begins with a TLS handshake.
    #[must_use]
    pub fn is_encrypted(self) -> bool {
        matches!(self, Self::Tls | Self::Wss)
    }

    /// As it is written in the file.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Udp => "udp",
            Self::Tcp => "tcp",
            Self::Tls => "tls",
            Self::Ws => "ws",
            Self::Wss => "wss",
        }
    }
}

impl FromStr for Bind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong =
            || format!("{text:?} is no address; write udp:127.0.0.1:5060, tcp:192.0.2.1:5060 or tls:[::1]:5061");
        let (protocol, address) = text.split_once(':').ok_or_else(wrong)?;
        let protocol = match protocol {
            "udp" => Protocol::Udp,
            "tcp" => Protocol::Tcp,
            "tls" => Protocol::Tls,
            "ws" => Protocol::Ws,
            "wss" => Protocol::Wss,
            _ => return Err(wrong()),
        };
        let address = address.parse().map_err(|_| wrong())?;
        Ok(Self { protocol, address })
    }
}

impl Listener {
    /// Reads `[listeners.NAME]`; every mistake is recorded, and a listener that can't stand is left out.
    pub(super) fn read(name: &str, mut section: Section<'_>) -> Option<Self> {
        if !is_label(name) {
            section.problem(&Origin::Default, "", "a listener's name has letters, digits, - and _ only");
        }
        let given = section.origin("mode");
        let mode = match section.word("mode", "mode", &MODES, None) {
            Some(mode) => Some(mode),
            // A mistake in it has been recorded already.
            None if given != Origin::Default => None,
            None => {
                let named = MODES.iter().find(|(word, _)| *word == name).map(|(_, mode)| *mode);
                if named.is_none() {
                    needed(&mut section, "mode", "mode = \"registrar\"; there are replica, mirror and hep as well");
                }
                named
            }
        };
        let auth_origin = section.origin("auth");
        let auth = section.word("auth", "authentication", &AUTHS, Some("none"));
        if auth.is_some() && mode.is_some_and(|mode| mode != Mode::Registrar) {
            section.problem(&auth_origin, "auth", "only a registrar authenticates; take it out here");
        }
        let (key, capture_ids) = read_hep(&mut section, mode);
        let bind_origin = section.origin("bind");
        let bind = section.list("bind", str::parse).or_else(|| default_bind(mode?));
        let certificate = Certificate::read(&mut section, bind.as_deref().unwrap_or_default());
        let origins = read_origins(&mut section, mode, bind.as_deref().unwrap_or_default(), &bind_origin);
        let networks_origin = section.origin("networks");
        let networks = section
            .list("networks", |text| text.parse::<Network>().map_err(|error| error.to_string()))
            .unwrap_or_default();
        let pbx = section.text("pbx");
        if bind.is_none() && mode.is_some() {
            needed(&mut section, "bind", "bind = [\"udp:127.0.0.1:5064\"]");
        }
        let bind = bind.unwrap_or_default();
        let open = bind.iter().find(|bind| !bind.address.ip().to_canonical().is_loopback());
        let guarded = auth == Some(Auth::Digest) || key.is_some() || !networks.is_empty();
        if let (Some(mode), Some(open), false) = (mode, open, guarded) {
            section.problem(
                if networks_origin == Origin::Default { &bind_origin } else { &networks_origin },
                "networks",
                format!("{open} can be reached from outside this host{}", unguarded(mode)),
            );
        }
        section.finish();
        let auth = auth.unwrap_or_default();
        Some(Self {
            name: name.to_owned(),
            mode: mode?,
            bind,
            auth,
            networks,
            pbx,
            key,
            capture_ids,
            certificate,
            origins,
        })
    }

    /// Whether a peer at `address` may send here.
    #[must_use]
    pub fn admits(&self, address: IpAddr) -> bool {
        self.networks.is_empty() || self.networks.iter().any(|network| network.contains(address))
    }
}

/// The first two binds of different listeners that can't both be had: the same transport and port on the same or an
/// all-embracing address.
pub(super) fn clash(listeners: &[Listener]) -> Option<(&Listener, &Listener, Bind)> {
    listeners.iter().enumerate().find_map(|(index, one)| {
        listeners.iter().take(index).find_map(|other| {
            let bind = one.bind.iter().find(|bind| other.bind.iter().any(|taken| overlaps(bind, taken)))?;
            Some((one, other, *bind))
        })
    })
}

fn overlaps(one: &Bind, other: &Bind) -> bool {
    let (a, b) = (one.address, other.address);
    // All others are TCP to the system.
    (one.protocol == Protocol::Udp) == (other.protocol == Protocol::Udp)
        && a.port() != 0
        && a.port() == b.port()
        && a.is_ipv4() == b.is_ipv4()
        && (a.ip() == b.ip() || a.ip().is_unspecified() || b.ip().is_unspecified())
}

fn default_bind(mode: Mode) -> Option<Vec<Bind>> {
    let bind = |protocol, port| Bind { protocol, address: SocketAddr::from(([127, 0, 0, 1], port)) };
    match mode {
        Mode::Registrar => Some(vec![bind(Protocol::Udp, 5060), bind(Protocol::Tcp, 5060)]),
        Mode::Mirror => Some(vec![bind(Protocol::Udp, 5062)]),
        Mode::Hep => Some(vec![bind(Protocol::Udp, 9060), bind(Protocol::Tcp, 9060)]),
        Mode::Replica => None,
    }
}

/// What only HEP has.
fn read_hep(section: &mut Section<'_>, mode: Option<Mode>) -> (Option<HepKey>, BTreeMap<u32, String>) {
    for name in ["key", "capture_ids"] {
        let origin = section.origin(name);
        if section.has(name) && mode.is_some_and(|mode| mode != Mode::Hep) {
            section.problem(&origin, name, "only a listener of mode hep has it; take it out here");
        }
    }
    let key = section.parsed("key", |text| match text.len() {
        1..=KEY_LEN_MAX => Ok(HepKey(text.as_bytes().into())),
        // The text is a secret, so it is not shown again.
        length => Err(format!("must have 1 to {KEY_LEN_MAX} bytes, not {length}")),
    });
    let mut ids = section.section("capture_ids");
    let mut capture_ids = BTreeMap::new();
    for name in ids.names() {
        let origin = ids.origin(&name);
        let Some(pbx) = ids.text(&name) else { continue };
        match name.parse() {
            Ok(id) => {
                capture_ids.insert(id, pbx);
            }
            Err(_) => ids.problem(&origin, &name, "is no capture id; write a whole number, e.g. 2001 = \"default\""),
        }
    }
    (key, capture_ids)
}

/// Which pages may connect by WebSocket (RFC 6455 §10.2).
fn read_origins(section: &mut Section<'_>, mode: Option<Mode>, bind: &[Bind], bind_origin: &Origin) -> Origins {
    let socket = bind.iter().find(|bind| matches!(bind.protocol, Protocol::Ws | Protocol::Wss));
    // No PBX copies its messages that way, and a page must not be able to make them up.
    let copies = match mode {
        Some(Mode::Hep) => Some("HEP does not go over WebSocket"),
        Some(Mode::Mirror) => Some("copies do not come over WebSocket"),
        _ => None,
    };
    if let (Some(why), Some(socket)) = (copies, socket) {
        section.problem(bind_origin, "bind", format!("{socket}: {why}; bind udp, tcp or tls"));
    }
    let origin = section.origin("ws_origins");
    let Some(origins) = Origins::read(section, "ws_origins") else { return Origins::default() };
    if socket.is_none() {
        section.problem(&origin, "ws_origins", "no address of bind speaks WebSocket; write one as wss:192.0.2.1:8443");
    }
    origins
}

fn needed(section: &mut Section<'_>, key: &str, example: &str) {
    section.problem(&Origin::Default, key, format!("is needed, e.g. {example}"));
}

pub(super) fn is_label(name: &str) -> bool {
    !name.is_empty() && name.len() <= 64 && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
}

const MODES: [(&str, Mode); 4] =
    [("registrar", Mode::Registrar), ("replica", Mode::Replica), ("mirror", Mode::Mirror), ("hep", Mode::Hep)];
const AUTHS: [(&str, Auth); 2] = [("none", Auth::None), ("digest", Auth::Digest)];
/// Longer than any PBX lets one be.
const KEY_LEN_MAX: usize = 256;

/// What somebody could do at an address that anybody reaches, and what to write against it.
fn unguarded(mode: Mode) -> &'static str {
    match mode {
        Mode::Registrar => {
            " and auth is \"none\", so anybody could register any phone: set networks to those of your phones, e.g. \
             networks = [\"192.0.2.0/24\"], or auth = \"digest\""
        }
        Mode::Replica | Mode::Mirror => {
            ", and what comes here is believed like the PBX itself, so anybody could make up calls and registrations: set \
             networks to the addresses of your PBXs, e.g. networks = [\"192.0.2.10\"]"
        }
        Mode::Hep => {
            ", and what comes here is believed like the PBX itself, so anybody could make up calls and registrations: set \
             networks to the addresses of your PBXs, e.g. networks = [\"192.0.2.10\"], or a key"
        }
    }
}
