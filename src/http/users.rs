//! Users: who may get popups.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::answer::{Tagged, edited, page_of, removed};
use super::auth::Admin;
use super::body::{Body, MergePatch};
use super::etag::IfMatch;
use super::problem::{Problem, Result};
use super::query::{Ids, Listed, Page, Paging};
use super::responses::{Creating, Editing, Listing, Reading, Removing};
use super::state::AppState;
use super::values;
use crate::model::{AccountId, PopOn, QueueId, QueueLogin, User, UserId};
use crate::store::Stored;

/// The routes of this file.
pub fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(list_users, create_user)).routes(routes!(read_user, edit_user, delete_user))
}

/// What can be set of a user.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct UserEdit {
    /// The account they belong to; by default the token's own. It can't be changed later.
    #[serde(default)]
    account: Option<AccountId>,
    /// Unique within the account, compared without case.
    #[serde(default)]
    email: Option<String>,
    /// What colleagues call them.
    name: String,
    /// Call logging and popups on. A new user is disabled, except the first of an account.
    #[serde(default)]
    enabled: Option<bool>,
    /// Do not disturb: no popups while set.
    #[serde(default)]
    dnd: bool,
    /// When direct calls pop.
    #[serde(default)]
    pop_on: PopOn,
    /// The queues whose calls notify before answer.
    #[serde(default)]
    queues: Vec<QueueId>,
    /// Whether `POST /v1/me/login` and `/v1/me/logout` also log their phones in to and out of the queues.
    #[serde(default)]
    queue_login: QueueLogin,
}

/// A user, and the queues they are in on the PBX beside those an admin set.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct UserAnswer {
    /// The user.
    #[serde(flatten)]
    user: User,
    /// The queues one of their devices is a member of. When the account's `user_queues` is `follow_pbx`, these notify
    /// before answer, and `queues` are only kept.
    pbx_queues: Vec<QueueId>,
}

/// A user who was just created.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct UserCreated {
    /// The user.
    #[serde(flatten)]
    user: User,
    /// What to know about them now: whether their screen will pop, and why (not).
    notice: String,
}

/// Which users to list.
#[derive(Clone, Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct UserFilter {
    /// Of this account; by default the token's own.
    account: Option<AccountId>,
    /// Enabled or disabled ones only.
    enabled: Option<bool>,
    /// Those whose queues, as an admin set them, hold this one.
    queue: Option<QueueId>,
    /// Those whose name or email contains this, compared without case.
    q: Option<String>,
}

/// List users
///
/// An account's users, by name.
#[utoipa::path(get, path = "/v1/users", tag = "users", params(UserFilter, Paging),
    responses((status = 200, description = "A page of users", body = Page<UserAnswer>), Listing))]
async fn list_users(
    State(state): State<AppState>,
    admin: Admin,
    Listed(filter, paging): Listed<UserFilter>,
) -> Result<Json<Page<UserAnswer>>> {
    let account = admin.account(&state, filter.account)?;
    let after = paging.after(LIST)?;
    let text = filter.q.as_deref().unwrap_or_default().trim().to_lowercase();
    let wanted = |user: &User| {
        filter.enabled.is_none_or(|enabled| user.enabled == enabled)
            && filter.queue.is_none_or(|queue| user.queues.contains(&queue))
            && (user.name.to_lowercase().contains(&text)
                || user.email.as_ref().is_some_and(|email| email.to_lowercase().contains(&text)))
    };
    let page = state.registry.users.page(account, after, paging.limit.0, wanted);
    page_of(&state, LIST, page, |user| UserAnswer::of(&state, user)).await
}

/// Create a user
///
/// They are disabled unless `enabled` says otherwise: they can log in, and no screen of theirs pops. The first user of an
/// account is its first admin and enabled. `notice` says which it was.
#[utoipa::path(post, path = "/v1/users", tag = "users", request_body = UserEdit,
    responses((status = 201, description = "The new user", body = UserCreated,
        headers(("ETag" = String), ("Location" = String))), Creating))]
async fn create_user(
    State(state): State<AppState>,
    admin: Admin,
    Body(edit): Body<UserEdit>,
) -> Result<Tagged<UserCreated>> {
    let account = admin.account(&state, edit.account)?;
    let first = state.registry.users.page(account, None, 1, |_| true).items.is_empty();
    let (enabled, notice) = match edit.enabled {
        Some(true) => (true, ENABLED),
        None if first => (true, FIRST),
        Some(false) | None => (false, DISABLED),
    };
    let user = User {
        id: UserId(state.clock.uuid()),
        account,
        email: values::email("/email", edit.email.as_deref())?,
        name: values::name("/name", &edit.name)?,
        enabled,
        dnd: edit.dnd,
        pop_on: edit.pop_on,
        queues: checked_queues(&state, account, edit.queues)?,
        queue_login: edit.queue_login,
        parked: Vec::new(),
        created_at: state.clock.now().unix,
    };
    let stored = state.registry.create_user(user)?;
    let location = format!("/v1/users/{}", stored.value.id);
    let created = UserCreated { user: (*stored.value).clone(), notice: notice.to_owned() };
    Tagged::created(&state, created, stored.seq, location).await
}

/// Read a user
#[utoipa::path(get, path = "/v1/users/{id}", tag = "users", params(("id" = UserId, Path)),
    responses((status = 200, description = "The user", body = UserAnswer, headers(("ETag" = String))), Reading))]
async fn read_user(State(state): State<AppState>, admin: Admin, Ids(id): Ids<UserId>) -> Result<Tagged<UserAnswer>> {
    let stored = seen(&state, admin, id)?;
    Tagged::ok(&state, UserAnswer::of(&state, &stored.value), stored.seq).await
}

/// Edit a user
///
/// A merge patch (RFC 7396). Disabling someone, or setting do-not-disturb, closes their open offers.
#[utoipa::path(patch, path = "/v1/users/{id}", tag = "users",
    params(("id" = UserId, Path), ("If-Match" = Option<String>, Header)),
    request_body(content = UserEdit, content_type = "application/merge-patch+json"),
    responses((status = 200, description = "The user as they are now", body = UserAnswer, headers(("ETag" = String))), Editing))]
async fn edit_user(
    State(state): State<AppState>,
    admin: Admin,
    Ids(id): Ids<UserId>,
    versions: IfMatch,
    patch: MergePatch,
) -> Result<Tagged<UserAnswer>> {
    let current = seen(&state, admin, id)?;
    let stored = edited(
        |edit| state.registry.update_user(id, versions.expected(current.seq), edit),
        |user: &mut User| {
            let before = UserEdit::of(user);
            let edit = patch.applied_to(&before)?;
            if edit.account != before.account {
                return Err(Problem::invalid("/account", "a user can't move to another account"));
            }
            user.email = values::email("/email", edit.email.as_deref())?;
            user.name = values::name("/name", &edit.name)?;
            user.enabled = edit.enabled.unwrap_or(false);
            user.dnd = edit.dnd;
            user.pop_on = edit.pop_on;
            user.queues = checked_queues(&state, user.account, edit.queues)?;
            user.queue_login = edit.queue_login;
            Ok(())
        },
    )?;
    Tagged::ok(&state, UserAnswer::of(&state, &stored.value), stored.seq).await
}

/// Delete a user
///
/// Their links end now and stay in the history; their tokens go with them.
#[utoipa::path(delete, path = "/v1/users/{id}", tag = "users",
    params(("id" = UserId, Path), ("If-Match" = Option<String>, Header)),
    responses((status = 204, description = "They are gone"), Removing))]
async fn delete_user(
    State(state): State<AppState>,
    admin: Admin,
    Ids(id): Ids<UserId>,
    versions: IfMatch,
) -> Result<StatusCode> {
    let current = seen(&state, admin, id)?;
    removed(&state, state.registry.delete_user(id, versions.expected(current.seq))).await
}

/// The user, when the admin may see them.
///
/// # Errors
/// 404 when there is none, or none of the admin's accounts.
pub fn seen(state: &AppState, admin: Admin, id: UserId) -> Result<Arc<Stored<User>>> {
    let stored = state.registry.users.get(id).filter(|user| admin.0.reaches(state, user.value.account));
    stored.ok_or_else(|| Problem::not_found("user"))
}

impl UserAnswer {
    fn of(state: &AppState, user: &User) -> Self {
        let links = state.registry.links_of_user(user.id);
        let queues = links.iter().flat_map(|link| state.registry.queues.referring_to(link.value.device.0));
        let pbx_queues: BTreeSet<QueueId> = queues.map(|queue| queue.value.id).collect();
        Self { user: user.clone(), pbx_queues: pbx_queues.into_iter().collect() }
    }
}

impl UserEdit {
    fn of(user: &User) -> Self {
        let User { account, email, name, enabled, dnd, pop_on, queues, queue_login, .. } = user.clone();
        Self { account: Some(account), email, name, enabled: Some(enabled), dnd, pop_on, queues, queue_login }
    }
}

fn checked_queues(state: &AppState, account: AccountId, queues: Vec<QueueId>) -> Result<Vec<QueueId>> {
    values::list("/queues", &queues)?;
    for (index, id) in queues.iter().enumerate() {
        if state.registry.queues.get(*id).is_none_or(|queue| queue.value.account != account) {
            return Err(Problem::invalid(format!("/queues/{index}"), "the account has no such queue"));
        }
    }
    Ok(queues)
}

const LIST: &str = "users";
const FIRST: &str = "The first user of an account is its first admin and enabled: linked devices pop on their screen.";
const ENABLED: &str = "This user is enabled: linked devices pop on their screen.";
const DISABLED: &str = "This user is disabled: they can log in, but nothing pops on their screen and their calls are not \
                        attributed until `enabled` is set.";

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::http::testing::Office;

    #[tokio::test]
    async fn t11_only_the_first_user_of_an_account_is_enabled_by_default_and_the_answer_says_so() {
        let office = Office::open().await;
        let later = office.post("/v1/users", &json!({"name": "Ann"})).await;
        assert_eq!((later.status, &later.json["enabled"]), (201, &json!(false)), "the office has its admin already");
        assert!(later.json["notice"].as_str().unwrap().contains("disabled"));
        let branch = office.post("/v1/accounts", &json!({"name": "Branch"})).await.json["id"].clone();
        let first = office.post("/v1/users", &json!({"name": "Boss", "account": branch})).await;
        assert_eq!(first.json["enabled"], true);
        assert!(first.json["notice"].as_str().unwrap().contains("first admin"));
        let second = office.post("/v1/users", &json!({"name": "Clerk", "account": branch})).await;
        assert_eq!(second.json["enabled"], false);
        let asked = office.post("/v1/users", &json!({"name": "Temp", "account": branch, "enabled": true})).await;
        assert_eq!(asked.json["enabled"], true);
    }

    #[tokio::test]
    async fn t10_a_user_is_enabled_and_disabled_at_any_time() {
        let office = Office::open().await;
        let created = office.post("/v1/users", &json!({"name": "Ann", "email": "ann@office.example"})).await;
        let path = format!("/v1/users/{}", created.id());
        for enabled in [true, false, true] {
            let edited = office.patch(&path, &json!({ "enabled": enabled })).await;
            assert_eq!((edited.status, &edited.json["enabled"]), (200, &json!(enabled)));
            assert_eq!(edited.json["email"], "ann@office.example");
            assert_eq!(office.get(&path).await.json["enabled"], json!(enabled));
        }
        assert_eq!(office.get("/v1/users?enabled=true&q=ANN@").await.items("name"), ["Ann"]);
        assert!(office.get("/v1/users?enabled=false&q=ann").await.items("name").is_empty());
    }

    #[tokio::test]
    async fn queues_do_not_disturb_and_pop_on_are_edited_and_cleared() {
        let office = Office::open().await;
        let queue = office.post("/v1/queues", &json!({"pbx": office.pbx, "name": "sales"})).await.json["id"].clone();
        let created = office.post("/v1/users", &json!({"name": "Ann", "email": "a@office.example"})).await;
        let path = format!("/v1/users/{}", created.id());
        let patch = json!({"queues": [queue, queue], "dnd": true, "pop_on": "never", "email": null});
        let edited = office.patch(&path, &patch).await.json;
        assert_eq!((&edited["queues"], &edited["dnd"]), (&json!([queue]), &json!(true)));
        assert_eq!((&edited["pop_on"], &edited["email"]), (&json!("never"), &json!(null)));
        let of_queue = office.get(&format!("/v1/users?queue={}", queue.as_str().unwrap())).await;
        assert_eq!(of_queue.items("name"), ["Ann"]);
        assert_eq!(office.delete(&format!("/v1/queues/{}", queue.as_str().unwrap())).await.status, 204);
        assert_eq!(office.get(&path).await.json["queues"], json!([]), "a deleted queue is nobody's");
        let unknown = office.patch(&path, &json!({"queues": [queue]})).await;
        assert_eq!((unknown.problem(), &unknown.json["pointer"]), ((422, "invalid-value"), &json!("/queues/0")));
    }

    #[tokio::test]
    async fn queues_as_set_and_as_the_pbx_has_them_are_side_by_side() {
        let office = Office::open().await;
        let (user, _) = office.user("ann").await;
        let device = office.phone("204").await;
        let queue = async |name: &str| office.post("/v1/queues", &json!({"pbx": office.pbx, "name": name})).await.json;
        let (set, of_pbx) = (queue("set").await["id"].clone(), queue("pbx").await["id"].clone());
        assert_eq!(office.put(&format!("/v1/users/{user}/devices/{device}")).await.status, 201);
        let member = format!("/v1/queues/{}/members/{device}", of_pbx.as_str().unwrap());
        assert_eq!(office.call("PUT", &member, &office.admin, &[], Some(&json!({}))).await.status, 200);
        let edited = office.patch(&format!("/v1/users/{user}"), &json!({ "queues": [set] })).await.json;
        assert_eq!((&edited["queues"], &edited["pbx_queues"]), (&json!([set]), &json!([of_pbx])));
        assert_eq!(office.get("/v1/users?q=ann").await.items("pbx_queues"), [json!([of_pbx])]);
    }

    #[tokio::test]
    async fn bad_bodies_are_named_by_pointer() {
        let office = Office::open().await;
        for (body, status, pointer) in [
            (json!({"name": 5}), 400, "/name"),
            (json!({"name": "Ann", "enabled": "yes"}), 400, "/enabled"),
            (json!({"name": "Ann", "role": "boss"}), 400, "/role"),
            (json!({"name": "Ann", "pop_on": "later"}), 400, "/pop_on"),
            (json!({"name": "Ann", "queues": ["x"]}), 400, "/queues/0"),
            (json!({}), 400, ""),
            (json!([]), 400, ""),
            (json!({"name": " "}), 422, "/name"),
            (json!({"name": "Ann", "email": "ann"}), 422, "/email"),
        ] {
            let refused = office.post("/v1/users", &body).await;
            assert_eq!((refused.problem().0, refused.json["pointer"].as_str()), (status, Some(pointer)), "{body}");
        }
    }

    #[tokio::test]
    async fn an_email_is_unique_within_the_account_only() {
        let office = Office::open().await;
        let body = json!({"name": "Ann", "email": "ann@office.example"});
        assert_eq!(office.post("/v1/users", &body).await.status, 201);
        let again = json!({"name": "Other Ann", "email": "ANN@office.example"});
        assert_eq!(office.post("/v1/users", &again).await.problem(), (409, "conflict"));
        let (_, stranger) = office.stranger();
        assert_eq!(office.call("POST", "/v1/users", &stranger, &[], Some(&body)).await.status, 201);
    }

    #[tokio::test]
    async fn deleting_a_user_ends_their_links_and_tokens() {
        let office = Office::open().await;
        let (user, agent) = office.user("ann").await;
        let device = office.phone("101").await;
        assert_eq!(office.put(&format!("/v1/users/{user}/devices/{device}")).await.status, 201);
        assert_eq!(office.delete(&format!("/v1/users/{user}")).await.status, 204);
        assert_eq!(office.get(&format!("/v1/devices/{device}")).await.json["users"], json!([]));
        assert_eq!(office.call("GET", "/v1/me", &agent, &[], None).await.problem(), (401, "unauthorized"));
    }

    #[tokio::test]
    async fn users_of_another_account_are_not_there() {
        let office = Office::open().await;
        let (user, _) = office.user("ann").await;
        let (_, stranger) = office.stranger();
        let edit = json!({"enabled": false});
        let path = format!("/v1/users/{user}");
        for (method, body) in [("GET", None), ("PATCH", Some(&edit)), ("DELETE", None)] {
            assert_eq!(office.call(method, &path, &stranger, &[], body).await.problem(), (404, "not-found"));
        }
        let list = format!("/v1/users?account={}", office.account);
        assert_eq!(office.call("GET", &list, &stranger, &[], None).await.problem(), (404, "not-found"));
        assert!(office.call("GET", "/v1/users", &stranger, &[], None).await.items("id").is_empty());
    }
}
