//! Bearer tokens for machines.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::answer::{Tagged, page_of, removed};
use super::auth::Admin;
use super::body::Body;
use super::etag::IfMatch;
use super::problem::{Kind, Problem, Result};
use super::query::{Ids, Listed, Page, Paging};
use super::responses::{Creating, Listing, Reading, Removing};
use super::secret::Secret;
use super::state::AppState;
use super::values;
use crate::model::{AccountId, PbxId, Scope, Token, TokenId, UnixMillis, UserId};

/// The routes of this file.
pub fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(list_tokens, create_token)).routes(routes!(read_token, delete_token))
}

/// A token to be made.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TokenNew {
    /// The account it acts in; by default the token's own that asks.
    #[serde(default)]
    account: Option<AccountId>,
    /// What it may do.
    scope: Scope,
    /// The user it speaks for. An agent token must name one; an admin token may, and can then ask for that user's popups.
    #[serde(default)]
    user: Option<UserId>,
    /// The PBX it speaks for. A PBX token must name one, no other token may.
    #[serde(default)]
    pbx: Option<PbxId>,
    /// What it is for.
    label: String,
    /// When it stops working; none = never.
    #[serde(default)]
    expires_at: Option<UnixMillis>,
}

/// A token without its secret.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = Token)]
pub struct TokenAnswer {
    /// Its public id.
    id: TokenId,
    /// The account it acts in.
    account: AccountId,
    /// What it may do.
    scope: Scope,
    /// The user it speaks for.
    user: Option<UserId>,
    /// The PBX it speaks for.
    pbx: Option<PbxId>,
    /// What it is for.
    label: String,
    /// When it was made.
    created_at: UnixMillis,
    /// When it stops working; none = never.
    expires_at: Option<UnixMillis>,
}

/// A token that was just made.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct TokenCreated {
    /// The token.
    #[serde(flatten)]
    token: TokenAnswer,
    /// Its secret, to be sent as `Authorization: Bearer`. It is shown this once and never again.
    secret: String,
}

/// Which tokens to list.
#[derive(Clone, Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct TokenFilter {
    /// Of this account; by default the token's own.
    account: Option<AccountId>,
    /// Of this scope only.
    scope: Option<Scope>,
    /// That speak for this user.
    user: Option<UserId>,
}

/// List tokens
///
/// An account's tokens in the order they were made, without their secrets.
#[utoipa::path(get, path = "/v1/tokens", tag = "tokens", params(TokenFilter, Paging),
    responses((status = 200, description = "A page of tokens", body = Page<TokenAnswer>), Listing))]
async fn list_tokens(
    State(state): State<AppState>,
    admin: Admin,
    Listed(filter, paging): Listed<TokenFilter>,
) -> Result<Json<Page<TokenAnswer>>> {
    let account = admin.account(&state, filter.account)?;
    let after = paging.after(LIST)?;
    let wanted = |token: &Token| {
        filter.scope.is_none_or(|scope| token.scope == scope) && filter.user.is_none_or(|user| token.user == Some(user))
    };
    let page = state.registry.tokens.page(account, after, paging.limit.0, wanted);
    page_of(&state, LIST, page, TokenAnswer::of).await
}

/// Create a token
///
/// The answer is the only one that ever shows its secret.
#[utoipa::path(post, path = "/v1/tokens", tag = "tokens", request_body = TokenNew,
    responses((status = 201, description = "The new token with its secret", body = TokenCreated,
        headers(("ETag" = String), ("Location" = String))), Creating))]
async fn create_token(
    State(state): State<AppState>,
    admin: Admin,
    Body(new): Body<TokenNew>,
) -> Result<Tagged<TokenCreated>> {
    let account = admin.account(&state, new.account)?;
    new.check(&state, account)?;
    let secret = Secret::generate().map_err(|error| {
        tracing::error!(%error, "no random bytes for a new token");
        Problem::new(Kind::Internal, "the operating system gives no random bytes")
    })?;
    let token = Token {
        id: TokenId(state.clock.uuid()),
        account,
        scope: new.scope,
        user: new.user,
        pbx: new.pbx,
        label: values::name("/label", &new.label)?,
        hash: secret.hash(),
        created_at: state.clock.now().unix,
        expires_at: new.expires_at,
    };
    let stored = state.registry.create_token(token)?;
    let location = format!("/v1/tokens/{}", stored.value.id);
    let created = TokenCreated { token: TokenAnswer::of(&stored.value), secret: secret.reveal().to_owned() };
    Tagged::created(&state, created, stored.seq, location).await
}

/// Read a token
#[utoipa::path(get, path = "/v1/tokens/{id}", tag = "tokens", params(("id" = TokenId, Path)),
    responses((status = 200, description = "The token without its secret", body = TokenAnswer,
        headers(("ETag" = String))), Reading))]
async fn read_token(State(state): State<AppState>, admin: Admin, Ids(id): Ids<TokenId>) -> Result<Tagged<TokenAnswer>> {
    let stored = state.registry.tokens.get(id).filter(|token| admin.0.reaches(&state, token.value.account));
    let stored = stored.ok_or_else(|| Problem::not_found("token"))?;
    Tagged::ok(&state, TokenAnswer::of(&stored.value), stored.seq).await
}

/// Delete a token
///
/// It stops working at once; event streams it has open end at their next heartbeat.
#[utoipa::path(delete, path = "/v1/tokens/{id}", tag = "tokens",
    params(("id" = TokenId, Path), ("If-Match" = Option<String>, Header)),
    responses((status = 204, description = "It is gone"), Removing))]
async fn delete_token(
    State(state): State<AppState>,
    admin: Admin,
    Ids(id): Ids<TokenId>,
    versions: IfMatch,
) -> Result<StatusCode> {
    let stored = state.registry.tokens.get(id).filter(|token| admin.0.reaches(&state, token.value.account));
    let stored = stored.ok_or_else(|| Problem::not_found("token"))?;
    removed(&state, state.registry.delete_token(id, versions.expected(stored.seq))).await
}

impl TokenAnswer {
    fn of(token: &Token) -> Self {
        let Token { id, account, scope, user, pbx, label, created_at, expires_at, hash: _ } = token.clone();
        Self { id, account, scope, user, pbx, label, created_at, expires_at }
    }
}

impl TokenNew {
    fn check(&self, state: &AppState, account: AccountId) -> Result<()> {
        let registry = &state.registry;
        if self.expires_at.is_some_and(|at| at <= state.clock.now().unix) {
            return Err(Problem::invalid("/expires_at", "that is in the past"));
        }
        match (self.scope, self.user) {
            (Scope::Agent, None) => return Err(Problem::invalid("/user", "an agent token names its user")),
            (Scope::Pbx, Some(_)) => return Err(Problem::invalid("/user", "a PBX token speaks for no user")),
            (_, Some(user)) if registry.users.get(user).is_none_or(|user| user.value.account != account) => {
                return Err(Problem::invalid("/user", "the account has no such user"));
            }
            _ => {}
        }
        match (self.scope, self.pbx) {
            (Scope::Pbx, None) => Err(Problem::invalid("/pbx", "a PBX token names its PBX")),
            (Scope::Admin | Scope::Agent, Some(_)) => Err(Problem::invalid("/pbx", "only a PBX token names a PBX")),
            (_, Some(pbx)) if registry.pbxs.get(pbx).is_none_or(|pbx| pbx.value.account != account) => {
                Err(Problem::invalid("/pbx", "the account has no such PBX"))
            }
            _ => Ok(()),
        }
    }
}

const LIST: &str = "tokens";

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::http::testing::Office;

    #[tokio::test]
    async fn a_secret_is_shown_once_and_works_until_it_expires() {
        let office = Office::open().await;
        let expires_at = office.clock.now().unix.0 + 60_000;
        let body = json!({"scope": "admin", "label": "CRM", "expires_at": expires_at});
        let created = office.post("/v1/tokens", &body).await;
        assert_eq!(created.status, 201, "{created:?}");
        let secret = created.json["secret"].as_str().unwrap();
        assert!(secret.starts_with("hs_"));
        let read = office.get(created.headers["location"].to_str().unwrap()).await;
        assert!(!read.json.to_string().contains(secret) && read.json.get("hash").is_none());
        assert!(office.get("/v1/tokens").await.json.to_string().find("hash").is_none());
        assert_eq!(office.call("GET", "/v1/me", secret, &[], None).await.status, 200);
        office.clock.advance(std::time::Duration::from_mins(1));
        assert_eq!(office.call("GET", "/v1/me", secret, &[], None).await.problem(), (401, "unauthorized"));
    }

    #[tokio::test]
    async fn a_deleted_token_stops_working_at_once() {
        let office = Office::open().await;
        let created = office.post("/v1/tokens", &json!({"scope": "admin", "label": "CRM"})).await;
        let secret = created.json["secret"].as_str().unwrap();
        assert_eq!(office.delete(&format!("/v1/tokens/{}", created.id())).await.status, 204);
        assert_eq!(office.call("GET", "/v1/me", secret, &[], None).await.problem(), (401, "unauthorized"));
    }

    #[tokio::test]
    async fn a_token_names_whom_its_scope_needs_and_nobody_else() {
        let office = Office::open().await;
        let (user, _) = office.user("ann").await;
        for (body, pointer) in [
            (json!({"scope": "agent", "label": "x"}), "/user"),
            (json!({"scope": "agent", "label": "x", "user": office.pbx}), "/user"),
            (json!({"scope": "agent", "label": "x", "user": user, "pbx": office.pbx}), "/pbx"),
            (json!({"scope": "pbx", "label": "x"}), "/pbx"),
            (json!({"scope": "pbx", "label": "x", "pbx": office.pbx, "user": user}), "/user"),
            (json!({"scope": "pbx", "label": "x", "pbx": user}), "/pbx"),
            (json!({"scope": "admin", "label": ""}), "/label"),
            (json!({"scope": "admin", "label": "x", "expires_at": 1}), "/expires_at"),
        ] {
            let refused = office.post("/v1/tokens", &body).await;
            assert_eq!((refused.problem().0, refused.json["pointer"].as_str()), (422, Some(pointer)), "{body}");
        }
        for good in [
            json!({"scope": "agent", "label": "x", "user": user}),
            json!({"scope": "admin", "label": "x", "user": user}),
            json!({"scope": "pbx", "label": "x", "pbx": office.pbx}),
        ] {
            assert_eq!(office.post("/v1/tokens", &good).await.status, 201, "{good}");
        }
        assert_eq!(office.get("/v1/tokens?scope=pbx").await.items("pbx"), [json!(office.pbx)]);
    }

    #[tokio::test]
    async fn tokens_are_made_for_accounts_below_and_reach_no_further() {
        let office = Office::open().await;
        let branch = office.post("/v1/accounts", &json!({"name": "Branch"})).await.json["id"].clone();
        let body = json!({"scope": "admin", "label": "Branch", "account": branch});
        let created = office.post("/v1/tokens", &body).await;
        let secret = created.json["secret"].as_str().unwrap();
        let me = office.call("GET", "/v1/me", secret, &[], None).await;
        assert_eq!(me.json["account"], branch);
        let up = json!({"scope": "admin", "label": "Up", "account": office.account});
        assert_eq!(office.call("POST", "/v1/tokens", secret, &[], Some(&up)).await.problem(), (404, "not-found"));
        let (_, agent) = office.user("ann").await;
        assert_eq!(office.call("POST", "/v1/tokens", &agent, &[], Some(&up)).await.problem(), (403, "forbidden"));
    }
}
