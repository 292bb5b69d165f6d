//! Phones: the device as admins see it, and the bindings its state follows from.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{AccountId, DeviceId, PbxId, Tick, UnixMillis};

/// A phone as admins see it. Its address-of-record is `user` at its PBX's canonical domain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// Its id, derived from account, PBX and user.
    pub id: DeviceId,
    /// The account it belongs to.
    pub account: AccountId,
    /// The PBX it registers to.
    pub pbx: PbxId,
    /// Canonical user part of its address-of-record; also its extension unless `extension` says otherwise.
    pub user: Arc<str>,
    /// The number colleagues dial, when it is not the user part.
    pub extension: Option<Box<str>>,
    /// A name a person can recognise.
    pub label: Option<Box<str>>,
    /// The number its calls show, served to the PBX as part of the profile.
    pub caller_id: Option<Box<str>>,
    /// A disabled device takes no part in popups.
    pub enabled: bool,
    /// It had a call to or from an external number.
    pub assignable: bool,
    /// The last external number it spoke with or was rung by; never a withheld one.
    pub last_caller: Option<Box<str>>,
    /// When it last rang, placed a call or registered for the first time; refreshes show in the bindings.
    pub last_seen_at: UnixMillis,
    /// When it first appeared.
    pub created_at: UnixMillis,
}

/// What a device's bindings and its switch say about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum DeviceState {
    /// A live binding.
    Connected,
    /// Only passive bindings past their time, still in grace.
    Stale,
    /// No binding.
    Disconnected,
    /// Switched off by an admin, whatever its bindings say.
    Disabled,
}

/// One contact of an address-of-record (RFC 3261 §10). Kept small: a large site has a million.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Binding {
    /// The contact URI as the phone sent it, without angle brackets and header parameters.
    pub contact: Box<str>,
    /// When it ends.
    pub expires_at: Tick,
    /// Preference in thousandths, 0–1000 (RFC 3261 §20.10).
    pub q: u16,
    /// Where it was heard from.
    pub transport: Transport,
    /// Who vouches for it.
    pub source: BindingSource,
    /// `CSeq` number of the REGISTER that set it.
    pub cseq: u32,
    /// Call-ID of the REGISTER that set it.
    pub call_id: Box<str>,
    /// The address the REGISTER came from (`received`/`rport`, RFC 3581); none when a feed does not know it.
    pub received: Option<SocketAddr>,
    /// User-Agent, shared between the many phones of one firmware.
    pub user_agent: Option<Arc<str>>,
    /// Path header values (RFC 3327), as received.
    pub path: Option<Box<str>>,
    /// `+sip.instance` (RFC 5626 §4.1), without quotes and angle brackets.
    pub instance: Option<Box<str>>,
    /// `reg-id` (RFC 5626 §4.2).
    pub reg_id: Option<u32>,
    /// When it was last refreshed.
    pub refreshed_at: UnixMillis,
}

/// Who vouches for a binding, and so how far it may be trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum BindingSource {
    /// We granted it ourselves: it ends when we said.
    Registrar,
    /// A PBX relayed or mirrored it: the granted time may differ, so it gets a grace before it is gone.
    Passive,
}

/// SIP transports.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Transport {
    /// UDP.
    #[default]
    Udp,
    /// TCP.
    Tcp,
    /// TLS over TCP.
    Tls,
    /// WebSocket (RFC 7118).
    Ws,
    /// Secure WebSocket (RFC 7118).
    Wss,
}

/// One entry of a device's history. Refreshes are not transitions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Transition {
    /// The device.
    pub device: DeviceId,
    /// When it happened.
    pub at: UnixMillis,
    /// What happened.
    pub kind: TransitionKind,
    /// The contact it is about.
    pub contact: Option<String>,
    /// Source address of the phone then.
    #[schema(value_type = Option<String>)]
    pub address: Option<IpAddr>,
    /// User agent then.
    pub user_agent: Option<String>,
    /// Why, in one word: `registered`, `unregistered`, `expired`, `connection_closed`, `keepalive` (it did not answer
    /// OPTIONS), `replaced`, `stale`, `admin`.
    pub cause: String,
}

/// Kinds of [`Transition`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum TransitionKind {
    /// The first live binding appeared.
    Up,
    /// The last binding ended.
    Down,
    /// A binding's source address changed.
    AddressChanged,
    /// A binding's user agent changed.
    UserAgentChanged,
}
