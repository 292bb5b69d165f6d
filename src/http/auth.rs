//! Who calls. Each handler takes one of these as an argument, so that its signature says who may call it: a wrong or
//! missing token is 401, a token of another scope 403.

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, header};
use subtle::ConstantTimeEq as _;

use super::problem::{Kind, Problem, Result};
use super::secret::Secret;
use super::state::AppState;
use crate::model::{AccountId, PbxId, Scope, Token, TokenId, UserId};

/// Who a valid token is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Principal {
    /// Its token.
    pub token: TokenId,
    /// The account it acts in.
    pub account: AccountId,
    /// What it may do.
    pub scope: Scope,
    /// The user it speaks for.
    pub user: Option<UserId>,
    /// The PBX it speaks for.
    pub pbx: Option<PbxId>,
}

/// Any valid token.
#[derive(Clone, Copy, Debug)]
pub struct Anyone(pub Principal);

/// An admin of an account and the accounts below it.
#[derive(Clone, Copy, Debug)]
pub struct Admin(pub Principal);

/// Somebody who speaks for a user: an agent token, or an admin token that names its user.
#[derive(Clone, Copy, Debug)]
pub struct Agent {
    /// Their token.
    pub principal: Principal,
    /// The user.
    pub user: UserId,
}

/// An admin, or a PBX that reports about itself.
#[derive(Clone, Copy, Debug)]
pub enum AdminOrPbx {
    /// An admin.
    Admin(Admin),
    /// A PBX.
    Pbx(PbxPeer),
}

/// An admin, or a user as far as it concerns them.
#[derive(Clone, Copy, Debug)]
pub enum AdminOrAgent {
    /// An admin.
    Admin(Admin),
    /// A user.
    Agent(Agent),
}

/// A PBX that reports about itself.
#[derive(Clone, Copy, Debug)]
pub struct PbxPeer {
    /// Its account.
    pub account: AccountId,
    /// The PBX.
    pub pbx: PbxId,
}

impl Principal {
    /// Whether the token still stands: neither deleted nor expired, its user still there.
    #[must_use]
    pub fn stands(&self, state: &AppState) -> bool {
        let token = state.registry.tokens.get(self.token);
        token.is_some_and(|token| valid(state, &token.value).is_some())
    }

    /// Whether `account` is this token's own or below it.
    #[must_use]
    pub fn reaches(&self, state: &AppState, account: AccountId) -> bool {
        state.registry.account_within(account, self.account)
    }
}

impl Admin {
    /// The account a request is about: the one it names, or the token's own.
    ///
    /// # Errors
    /// 404 when it names one that is neither the token's own nor below it.
    pub fn account(&self, state: &AppState, named: Option<AccountId>) -> Result<AccountId> {
        let account = named.unwrap_or(self.0.account);
        let known = self.0.reaches(state, account) && state.registry.accounts.get(account).is_some();
        known.then_some(account).ok_or_else(|| Problem::not_found("account"))
    }
}

impl AdminOrPbx {
    /// Whether what belongs to `pbx` of `account` concerns this caller.
    #[must_use]
    pub fn reaches(&self, state: &AppState, account: AccountId, pbx: PbxId) -> bool {
        match self {
            Self::Admin(admin) => admin.0.reaches(state, account),
            // A PBX may serve accounts below its own.
            Self::Pbx(peer) => peer.pbx == pbx && state.registry.account_within(account, peer.account),
        }
    }

    /// The account a request is about: the one it names, or the token's own.
    ///
    /// # Errors
    /// 404 when it names one that is neither the token's own nor below it.
    pub fn account(&self, state: &AppState, named: Option<AccountId>) -> Result<AccountId> {
        let own = match self {
            Self::Admin(admin) => return admin.account(state, named),
            Self::Pbx(peer) => peer.account,
        };
        let account = named.unwrap_or(own);
        let known = state.registry.account_within(account, own);
        known.then_some(account).ok_or_else(|| Problem::not_found("account"))
    }
}

impl FromRequestParts<AppState> for Anyone {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self> {
        authenticate(&parts.headers, state).map(Self)
    }
}

impl FromRequestParts<AppState> for Admin {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self> {
        let principal = authenticate(&parts.headers, state)?;
        as_admin(principal).ok_or_else(|| wrong_scope("admin"))
    }
}

impl FromRequestParts<AppState> for Agent {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self> {
        let principal = authenticate(&parts.headers, state)?;
        as_agent(principal).ok_or_else(|| wrong_scope("agent"))
    }
}

impl FromRequestParts<AppState> for AdminOrPbx {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self> {
        let principal = authenticate(&parts.headers, state)?;
        let pbx = principal.pbx.filter(|_| principal.scope == Scope::Pbx);
        as_admin(principal)
            .map(Self::Admin)
            .or_else(|| pbx.map(|pbx| Self::Pbx(PbxPeer { account: principal.account, pbx })))
            .ok_or_else(|| wrong_scope("admin pbx"))
    }
}

impl FromRequestParts<AppState> for AdminOrAgent {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self> {
        let principal = authenticate(&parts.headers, state)?;
        as_admin(principal)
            .map(Self::Admin)
            .or_else(|| as_agent(principal).map(Self::Agent))
            .ok_or_else(|| wrong_scope("admin agent"))
    }
}

fn as_admin(principal: Principal) -> Option<Admin> {
    (principal.scope == Scope::Admin).then_some(Admin(principal))
}

fn as_agent(principal: Principal) -> Option<Agent> {
    let user = principal.user.filter(|_| principal.scope != Scope::Pbx)?;
    Some(Agent { principal, user })
}

/// Finds the token of a request (RFC 6750 §2.1).
fn authenticate(headers: &HeaderMap, state: &AppState) -> Result<Principal> {
    let header = headers.get(header::AUTHORIZATION).ok_or_else(|| unauthorized("this route needs a token", false))?;
    let text = header.to_str().unwrap_or_default().trim();
    let secret = text.split_once(' ').filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
    let secret = secret.and_then(|(_, secret)| Secret::parse(secret.trim()));
    let hash = secret.ok_or_else(|| unauthorized("that is not one of our tokens", true))?.hash();
    let token = state.registry.token_by_hash(&hash).ok_or_else(|| unauthorized("there is no such token", true))?;
    // The look-up is by a hash nobody can steer; comparing again in constant time costs nothing.
    if !bool::from(token.value.hash.as_bytes().ct_eq(hash.as_bytes())) {
        return Err(unauthorized("there is no such token", true));
    }
    valid(state, &token.value).ok_or_else(|| unauthorized("the token has expired, or what it spoke for is gone", true))
}

/// Who a token is, if it still stands.
fn valid(state: &AppState, token: &Token) -> Option<Principal> {
    let registry = &state.registry;
    let expired = token.expires_at.is_some_and(|at| at <= state.clock.now().unix);
    let known = registry.accounts.get(token.account).is_some()
        && token
            .user
            .is_none_or(|user| registry.users.get(user).is_some_and(|user| user.value.account == token.account))
        && token.pbx.is_none_or(|pbx| registry.pbxs.get(pbx).is_some());
    let Token { id, account, scope, user, pbx, .. } = *token;
    (known && !expired).then_some(Principal { token: id, account, scope, user, pbx })
}

fn unauthorized(detail: &str, sent: bool) -> Problem {
    let challenge =
        if sent { r#"Bearer realm="hookswitch", error="invalid_token""# } else { r#"Bearer realm="hookswitch""# };
    Problem::new(Kind::Unauthorized, detail).with_header(header::WWW_AUTHENTICATE, HeaderValue::from_static(challenge))
}

fn wrong_scope(needed: &str) -> Problem {
    let problem =
        Problem::new(Kind::Forbidden, format!("this route needs a token of scope {}", needed.replace(' ', " or ")));
    let challenge = format!(r#"Bearer realm="hookswitch", error="insufficient_scope", scope="{needed}""#);
    match HeaderValue::try_from(challenge) {
        Ok(challenge) => problem.with_header(header::WWW_AUTHENTICATE, challenge),
        Err(_) => problem,
    }
}
