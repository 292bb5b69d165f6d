//! What an account's phones are granted when they register here.

use serde::{Deserialize, Serialize};

/// How a registrar treats the phones of an account. What is not set is as the daemon's configuration says
/// (`[registrar]`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RegistrationSettings {
    /// Shortest time granted, 1–3600 s; less is refused with 423.
    pub expires_min_s: Option<u32>,
    /// Granted when a phone asks for nothing, 1–2592000 s.
    pub expires_default_s: Option<u32>,
    /// Longest time granted, 1–2592000 s.
    pub expires_max_s: Option<u32>,
    /// How much shorter a granted time may be, by chance, 0–50 percent, so that phones don't all come back at once;
    /// never under the minimum.
    pub expires_deviation_percent: Option<u8>,
    /// Most contacts of one address-of-record, 1–100.
    pub contacts_max: Option<u32>,
    /// What becomes of a contact too many.
    pub overflow: Overflow,
    /// How often its phones are asked (OPTIONS) whether they live, 1–3600 s; 0 = never.
    pub keepalive_s: Option<u32>,
    /// Questions in a row without an answer that end a binding, 1–100; 0 = none does.
    pub keepalive_misses: Option<u32>,
    /// Users who may register others (RFC 3261 §10.2): user parts of the account, as in From.
    pub third_parties: Vec<String>,
    /// The way requests of its phones have to take (RFC 3608): SIP URIs in order, given as Service-Route.
    pub service_route: Vec<String>,
}

/// What becomes of a contact too many.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Overflow {
    /// The contact that was refreshed longest ago is dropped: rebooted phones can't lock themselves out.
    #[default]
    DropOldest,
    /// The new one is refused with 503: clients read a 403 as a bad password and loop.
    Refuse,
}
