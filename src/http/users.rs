//! Users: who may get popups.

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
use super::query::{Cursor, Ids, Limit, Page, Params};
use super::responses::{Creating, Editing, Listing, Reading, Removing};
use super::state::AppState;
use super::values;
use crate::model::{AccountId, PopOn, QueueId, User, UserId};
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
    /// `next` of the page before.
    #[param(value_type = Option<String>)]
    after: Option<Cursor>,
    /// Items a page, 1 to 500.
    #[serde(default)]
    #[param(value_type = Option<u16>, minimum = 1, maximum = 500, default = 50)]
    limit: Limit,
}

/// List users
///
/// An account's users, by name.
#[utoipa::path(get, path = "/v1/users", tag = "users", params(UserFilter),
    responses((status = 200, description = "A page of users", body = Page<User>), Listing))]
async fn list_users(
    State(state): State<AppState>,
    admin: Admin,
    Params(filter): Params<UserFilter>,
) -> Result<Json<Page<User>>> {
    let account = admin.account(&state, filter.account)?;
    let after = Cursor::read(filter.after.as_ref(), LIST)?;
    let text = filter.q.as_deref().unwrap_or_default().trim().to_lowercase();
    let wanted = |user: &User| {
        filter.enabled.is_none_or(|enabled| user.enabled == enabled)
            && filter.queue.is_none_or(|queue| user.queues.contains(&queue))
            && (user.name.to_lowercase().contains(&text)
                || user.email.as_ref().is_some_and(|email| email.to_lowercase().contains(&text)))
    };
    let page = state.registry.users.page(account, after, filter.limit.0, wanted);
    page_of(&state, LIST, page, User::clone).await
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
        created_at: state.clock.now().unix,
    };
    let stored = state.registry.create_user(user)?;
    let location = format!("/v1/users/{}", stored.value.id);
    let created = UserCreated { user: stored.value.clone(), notice: notice.to_owned() };
    Tagged::created(&state, created, stored.seq, location).await
}

/// Read a user
#[utoipa::path(get, path = "/v1/users/{id}", tag = "users", params(("id" = UserId, Path)),
    responses((status = 200, description = "The user", body = User, headers(("ETag" = String))), Reading))]
async fn read_user(State(state): State<AppState>, admin: Admin, Ids(id): Ids<UserId>) -> Result<Tagged<User>> {
    let stored = seen(&state, admin, id)?;
    Tagged::ok(&state, stored.value.clone(), stored.seq).await
}

/// Edit a user
///
/// A merge patch (RFC 7396). Disabling someone, or setting do-not-disturb, closes their open offers.
#[utoipa::path(patch, path = "/v1/users/{id}", tag = "users",
    params(("id" = UserId, Path), ("If-Match" = Option<String>, Header)),
    request_body(content = UserEdit, content_type = "application/merge-patch+json"),
    responses((status = 200, description = "The user as they are now", body = User, headers(("ETag" = String))), Editing))]
async fn edit_user(
    State(state): State<AppState>,
    admin: Admin,
    Ids(id): Ids<UserId>,
    versions: IfMatch,
    patch: MergePatch,
) -> Result<Tagged<User>> {
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
            Ok(())
        },
    )?;
    Tagged::ok(&state, stored.value.clone(), stored.seq).await
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

impl UserEdit {
    fn of(user: &User) -> Self {
        let User { account, email, name, enabled, dnd, pop_on, queues, .. } = user.clone();
        Self { account: Some(account), email, name, enabled: Some(enabled), dnd, pop_on, queues }
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
