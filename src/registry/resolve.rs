//! Whose phone is it: from (PBX, user, host) to account and device.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use super::noun::{domain_key, email_key, token_key};
use super::{Registry, Target};
use crate::model::{Account, AccountId, Pbx, PbxId, Token, User, canonical_host, canonical_user};
use crate::store::Stored;

impl Registry {
    /// Whom `user@host` means on this PBX. None when the PBX is not there, the user part is empty (or has a
    /// NUL, which no database column takes) or the host is nobody's. An empty host means the PBX's own domain.
    #[must_use]
    pub fn resolve<'a>(&self, pbx: PbxId, user: &'a str, host: &str) -> Option<Target<'a>> {
        let pbx = self.pbxs.get(pbx)?;
        let account = self.account_for(&pbx.value, host)?;
        let user = canonical_user(user);
        (!user.is_empty() && !user.contains('\0')).then(|| Target::new(account, pbx.value.id, user))
    }

    /// The account with this SIP domain.
    #[must_use]
    pub fn account_by_domain(&self, domain: &str) -> Option<Arc<Stored<Account>>> {
        self.accounts.find(&domain_key(domain))
    }

    /// The user with this email address, compared without case.
    #[must_use]
    pub fn user_by_email(&self, account: AccountId, email: &str) -> Option<Arc<Stored<User>>> {
        self.users.find(&email_key(account, email))
    }

    /// The token whose secret has this hex SHA-256.
    #[must_use]
    pub fn token_by_hash(&self, hash: &str) -> Option<Arc<Stored<Token>>> {
        self.tokens.find(&token_key(hash))
    }

    /// Whether `inner` is `outer` or somewhere below it.
    #[must_use]
    pub fn account_within(&self, inner: AccountId, outer: AccountId) -> bool {
        let mut at = Some(inner);
        for _ in 0..=super::ACCOUNT_DEPTH_MAX {
            match at {
                Some(account) if account == outer => return true,
                Some(account) => at = self.accounts.get(account).and_then(|account| account.value.parent),
                None => return false,
            }
        }
        false
    }

    /// How many accounts are above this one.
    pub(super) fn account_depth(&self, account: AccountId) -> usize {
        let mut depth = 0;
        let mut at = self.accounts.get(account).and_then(|account| account.value.parent);
        while let Some(above) = at.filter(|_| depth <= super::ACCOUNT_DEPTH_MAX) {
            depth += 1;
            at = self.accounts.get(above).and_then(|account| account.value.parent);
        }
        depth
    }

    /// The account a host means on a PBX. The PBX's own domain is its own account's; a domain that an account at or
    /// below the PBX's claims is that one's, so that nobody can draw another tenant's phones to himself by claiming
    /// their domain.
    fn account_for(&self, pbx: &Pbx, host: &str) -> Option<AccountId> {
        let host = canonical_host(host);
        if host.is_empty() || *host == *pbx.domain {
            return Some(pbx.account);
        }
        if let Some(account) = self.account_by_domain(&host)
            && self.account_within(account.value.id, pbx.account)
        {
            return Some(account.value.id);
        }
        let ours = pbx.any_domain || is_address(&host) || pbx.aliases.iter().any(|alias| canonical_host(alias) == host);
        ours.then_some(pbx.account)
    }
}

/// An IP literal, with or without the brackets of an IPv6 reference.
fn is_address(host: &str) -> bool {
    let inner = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    inner.parse::<Ipv4Addr>().is_ok() || inner.parse::<Ipv6Addr>().is_ok()
}
