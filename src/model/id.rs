//! Identifiers: one newtype each, so that a user can never be passed where a device is meant.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, utoipa::ToSchema)]
        #[serde(transparent)]
        #[schema(value_type = uuid::Uuid)]
        pub struct $name(pub Uuid);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0)
            }
        }

        impl FromStr for $name {
            type Err = uuid::Error;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                Uuid::parse_str(text).map(Self)
            }
        }
    )*};
}

ids! {
    /// A tenant. Random (`UUIDv7`).
    AccountId,
    /// The PBXs a call may cross. Random (`UUIDv7`).
    SiteId,
    /// One phone system. Random (`UUIDv7`).
    PbxId,
    /// A phone; derived from (account, PBX, user part), see [`DeviceId::derive`].
    DeviceId,
    /// A person. Random (`UUIDv7`).
    UserId,
    /// One period in which a device was linked to a user. Random (`UUIDv7`).
    LinkId,
    /// A PBX call queue. Random (`UUIDv7`).
    QueueId,
    /// A call as a person sees it; derived from (site, first leg), see [`CallId::derive`].
    CallId,
    /// The popup of one call for one user; derived, see [`OfferId::derive`].
    OfferId,
    /// An API token's public name; its secret is never stored. Random (`UUIDv7`).
    TokenId,
}

impl DeviceId {
    /// The id of the device that `user` (canonical user part, case kept) is on `pbx` for `account`.
    ///
    /// Derived rather than drawn: two feeds, two nodes or a replay that see the same phone agree on its id without
    /// asking one another, and the registry needs no second index from address-of-record to id.
    #[must_use]
    pub fn derive(account: AccountId, pbx: PbxId, user: &str) -> Self {
        Self(derive(b"device", [account.0, pbx.0], user.as_bytes()))
    }
}

impl CallId {
    /// The id of the call whose first seen leg is `leg`, within `site`.
    #[must_use]
    pub fn derive(site: SiteId, leg: &str) -> Self {
        Self(derive(b"call", [site.0, Uuid::nil()], leg.as_bytes()))
    }
}

impl OfferId {
    /// The id of the one offer that `user` can ever get for `call` in `site`, so that a restart can't pop twice.
    #[must_use]
    pub fn derive(site: SiteId, call: CallId, user: UserId) -> Self {
        Self(derive(b"offer", [site.0, call.0], user.0.as_bytes()))
    }
}

/// 122 bits of SHA-256 over a domain tag and the parts, as a version 8 UUID (RFC 9562 §5.8).
fn derive(tag: &[u8], scope: [Uuid; 2], rest: &[u8]) -> Uuid {
    use sha2::{Digest, Sha256};

    let mut hash = Sha256::new();
    hash.update(tag);
    hash.update(scope[0].as_bytes());
    hash.update(scope[1].as_bytes());
    hash.update(rest);
    let digest = hash.finalize();
    let mut bytes = [0_u8; 16];
    bytes.copy_from_slice(&digest[..16]);
    Uuid::new_v8(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_id_depends_on_account_pbx_and_user_and_on_nothing_else() {
        let (a, b) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let id = DeviceId::derive(AccountId(a), PbxId(b), "101");
        assert_eq!(id, DeviceId::derive(AccountId(a), PbxId(b), "101"));
        assert_ne!(id, DeviceId::derive(AccountId(b), PbxId(a), "101"));
        assert_ne!(id, DeviceId::derive(AccountId(a), PbxId(b), "102"));
        assert_eq!(id.0.get_version_num(), 8);
    }
}
