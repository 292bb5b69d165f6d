//! Bearer tokens for machines.

use serde::{Deserialize, Serialize};

use super::{AccountId, PbxId, TokenId, UnixMillis, UserId};

/// What is kept of an API token: never its secret, only the SHA-256 of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Token {
    /// Its public id.
    pub id: TokenId,
    /// The account it acts in.
    pub account: AccountId,
    /// What it may do.
    pub scope: Scope,
    /// The user it speaks for; always set for [`Scope::Agent`].
    pub user: Option<UserId>,
    /// The PBX it speaks for; always set for [`Scope::Pbx`].
    pub pbx: Option<PbxId>,
    /// What it is for, in the words of who made it.
    pub label: String,
    /// Hex SHA-256 of the secret.
    pub hash: String,
    /// When it was made.
    pub created_at: UnixMillis,
    /// When it stops working; none = never.
    pub expires_at: Option<UnixMillis>,
}

/// What a token may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// Everything in its account and the accounts below.
    Admin,
    /// What concerns its own user.
    Agent,
    /// What a phone system reports about itself.
    Pbx,
}
