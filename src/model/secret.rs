//! What proves that a phone is the one it says it is.

use std::fmt;
use std::sync::Arc;

use super::{AccountId, DeviceId, UnixMillis};

/// A device's SIP password, as what is kept of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceSecret {
    /// Whose it is.
    pub device: DeviceId,
    /// The device's account.
    pub account: AccountId,
    /// The realm it was set under; it proves nothing under another one.
    pub realm: Arc<str>,
    /// What the password is checked by.
    pub ha1: Ha1,
    /// When it was set.
    pub set_at: UnixMillis,
}

/// H(user:realm:password) by each algorithm (RFC 7616 §3.4.2). As good as the password within its realm, so never shown.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Ha1 {
    /// By MD5.
    pub md5: [u8; 16],
    /// By SHA-256.
    pub sha256: [u8; 32],
    /// By SHA-512-256.
    pub sha512_256: [u8; 32],
}

impl fmt::Debug for Ha1 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Ha1(…)")
    }
}

/// Hashes of digest authentication (RFC 8760 §2.1), weaker ones first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DigestAlgorithm {
    /// MD5, which is what nearly every phone knows.
    Md5,
    /// SHA-256.
    Sha256,
    /// SHA-512 cut to 256 bits.
    Sha512_256,
}

impl DigestAlgorithm {
    /// As it is written on the wire.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Md5 => "MD5",
            Self::Sha256 => "SHA-256",
            Self::Sha512_256 => "SHA-512-256",
        }
    }

    /// The one of this name, in any case; none when we don't have it.
    #[must_use]
    pub fn of(name: &str) -> Option<Self> {
        [Self::Md5, Self::Sha256, Self::Sha512_256].into_iter().find(|known| name.eq_ignore_ascii_case(known.name()))
    }
}
