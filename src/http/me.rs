//! What a token may know and change about the one it speaks for.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::answer::{Tagged, edited};
use super::auth::{Agent, Anyone};
use super::body::MergePatch;
use super::device_answer::DeviceAnswer;
use super::etag::IfMatch;
use super::links;
use super::problem::{Kind, Problem, Result};
use super::query::{Cursor, Ids, Listed, Page, Paging};
use super::responses::{Editing, Listing, Placing, Reading, Removing};
use super::state::AppState;
use crate::model::{AccountId, DeviceId, DeviceState, Link, PbxId, Scope, TokenId, UnixMillis, User};
use crate::registry::{DeviceFilter, DeviceView};

/// The routes of this file.
pub fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(read_me, edit_me))
        .routes(routes!(list_my_devices))
        .routes(routes!(list_my_choices))
        .routes(routes!(link_my_device, unlink_my_device))
}

/// Who a token speaks for.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Me {
    /// The token.
    token: TokenId,
    /// What it may do.
    scope: Scope,
    /// The account it acts in.
    account: AccountId,
    /// The PBX it speaks for.
    pbx: Option<PbxId>,
    /// The user it speaks for.
    user: Option<User>,
}

/// What one may set of oneself.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
#[derive(Default)]
pub struct MeEdit {
    /// Do not disturb: no popups while set.
    dnd: bool,
}

/// A phone, as far as who may choose it as theirs needs to know.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct MyDevice {
    /// Its id.
    id: DeviceId,
    /// The number colleagues dial.
    #[schema(value_type = String)]
    extension: Box<str>,
    /// A name a person can recognise.
    #[schema(value_type = Option<String>)]
    label: Option<Box<str>>,
    /// What its bindings and its switch say.
    state: DeviceState,
    /// User agent of its freshest binding.
    #[schema(value_type = Option<String>)]
    user_agent: Option<Arc<str>>,
    /// The last external number it spoke with or was rung by.
    #[schema(value_type = Option<String>)]
    last_caller: Option<Box<str>>,
    /// When it last rang, placed a call or registered.
    last_seen_at: UnixMillis,
    /// Whether it is linked to anybody.
    linked: bool,
}

/// Which devices to choose from.
#[derive(Clone, Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ChoiceQuery {
    /// Those linked to somebody, or those linked to nobody.
    linked: Option<bool>,
    /// Those whose extension, label, user agent or last caller contains this, compared without case.
    q: Option<String>,
}

/// Read who I am
///
/// Any token may ask. `ETag` is the user's version, when the token speaks for one.
#[utoipa::path(get, path = "/v1/me", tag = "me",
    responses((status = 200, description = "Who this token speaks for", body = Me, headers(("ETag" = String))), Reading))]
async fn read_me(State(state): State<AppState>, Anyone(me): Anyone) -> Result<Response> {
    let user = me.user.and_then(|user| state.registry.users.get(user));
    let seq = user.as_ref().map(|user| user.seq);
    let user = user.map(|user| (*user.value).clone());
    let answer = Me { token: me.token, scope: me.scope, account: me.account, pbx: me.pbx, user };
    match seq {
        Some(seq) => Ok(Tagged::ok(&state, answer, seq).await?.into_response()),
        None => Ok(Json(answer).into_response()),
    }
}

/// Edit myself
///
/// A merge patch (RFC 7396). Setting do-not-disturb closes my open offers.
#[utoipa::path(patch, path = "/v1/me", tag = "me", params(("If-Match" = Option<String>, Header)),
    request_body(content = MeEdit, content_type = "application/merge-patch+json"),
    responses((status = 200, description = "Me as I am now", body = User, headers(("ETag" = String))), Editing))]
async fn edit_me(
    State(state): State<AppState>,
    me: Agent,
    versions: IfMatch,
    patch: MergePatch,
) -> Result<Tagged<User>> {
    let current = state.registry.users.get(me.user).ok_or_else(|| Problem::not_found("user"))?;
    let stored = edited(
        |edit| state.registry.update_user(me.user, versions.expected(current.seq), edit),
        |user: &mut User| {
            user.dnd = patch.applied_to(&MeEdit { dnd: user.dnd })?.dnd;
            Ok(())
        },
    )?;
    Tagged::ok(&state, stored.value.clone(), stored.seq).await
}

/// List my devices
///
/// Those linked to me now, by extension; all on one page.
#[utoipa::path(get, path = "/v1/me/devices", tag = "me",
    responses((status = 200, description = "My devices", body = Page<MyDevice>), Reading))]
async fn list_my_devices(State(state): State<AppState>, me: Agent) -> Result<Json<Page<MyDevice>>> {
    let (views, newest) = state.registry.devices_of_user(me.user);
    shown(&state, views, newest, None).await
}

/// List the devices I may choose
///
/// Assignable devices of my account: those that had a call with the outside world. Call out once from a new phone, and it
/// is here.
#[utoipa::path(get, path = "/v1/me/devices/choices", tag = "me", params(ChoiceQuery, Paging),
    responses((status = 200, description = "A page of devices", body = Page<MyDevice>), Listing))]
async fn list_my_choices(
    State(state): State<AppState>,
    me: Agent,
    Listed(query, paging): Listed<ChoiceQuery>,
) -> Result<Json<Page<MyDevice>>> {
    let after = paging.after(LIST)?;
    let filter = DeviceFilter {
        assignable: Some(true),
        linked: query.linked,
        text: query.q.map(|text| text.trim().to_owned()).filter(|text| !text.is_empty()),
        ..DeviceFilter::default()
    };
    let page = state.registry.devices_page(me.principal.account, &filter, after, paging.limit.0);
    shown(&state, page.items, crate::store::Seq::default(), page.next).await
}

/// Take a device
///
/// Links an assignable device to me. A device that never had a call with the outside world is refused with 409; an admin
/// may link it. Taking it again answers 200 with the link there is.
#[utoipa::path(put, path = "/v1/me/devices/{id}", tag = "me", params(("id" = DeviceId, Path)),
    responses((status = 201, description = "The new link", body = Link, headers(("ETag" = String))),
        (status = 200, description = "The link there was", body = Link, headers(("ETag" = String))), Placing))]
async fn link_my_device(State(state): State<AppState>, me: Agent, Ids(id): Ids<DeviceId>) -> Result<Tagged<Link>> {
    let view = seen(&state, me, id)?;
    let mine = state.registry.links_of_user(me.user).iter().any(|link| link.value.device == id);
    if !(view.device.assignable || mine || me.principal.scope == Scope::Admin) {
        let detail = "this device is not assignable yet: it has had no call with an external number";
        return Err(Problem::new(Kind::Conflict, detail));
    }
    links::link(&state, me.user, id).await
}

/// Leave a device
///
/// Ends my link to it. One that is not mine is no error.
#[utoipa::path(delete, path = "/v1/me/devices/{id}", tag = "me", params(("id" = DeviceId, Path)),
    responses((status = 204, description = "It is not linked to me"), Removing))]
async fn unlink_my_device(State(state): State<AppState>, me: Agent, Ids(id): Ids<DeviceId>) -> Result<StatusCode> {
    seen(&state, me, id)?;
    links::unlink(&state, me.user, id).await
}

fn seen(state: &AppState, me: Agent, id: DeviceId) -> Result<DeviceView> {
    let view = state.registry.device(id).filter(|view| view.device.account == me.principal.account);
    view.ok_or_else(|| Problem::not_found("device"))
}

async fn shown(
    state: &AppState,
    views: Vec<DeviceView>,
    newest: crate::store::Seq,
    next: Option<String>,
) -> Result<Json<Page<MyDevice>>> {
    let answers: Vec<_> = views.iter().map(|view| DeviceAnswer::of(state, view)).collect();
    let newest = answers.iter().map(|(_, awaits)| *awaits).fold(newest, crate::store::Seq::max);
    state.stored(newest.max(state.registry.gone())).await?;
    let items = answers.into_iter().map(|(device, _)| MyDevice {
        id: device.id,
        extension: device.extension,
        label: device.label,
        state: device.state,
        user_agent: device.user_agent,
        last_caller: device.last_caller,
        last_seen_at: device.last_seen_at,
        linked: !device.users.is_empty(),
    });
    Ok(Json(Page { items: items.collect(), next: next.map(|next| Cursor::write(LIST, &next)) }))
}

const LIST: &str = "choices";

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::http::testing::Office;
    use crate::model::Scope;

    #[tokio::test]
    async fn any_token_learns_whom_it_speaks_for() {
        let office = Office::open().await;
        let (user, agent) = office.user("ann").await;
        let me = office.call("GET", "/v1/me", &agent, &[], None).await;
        assert_eq!((&me.json["scope"], &me.json["user"]["id"]), (&json!("agent"), &json!(user)));
        assert!(me.headers.contains_key("etag"));
        let pbx = office.token(office.account, Scope::Pbx, None, Some(office.pbx));
        let me = office.call("GET", "/v1/me", &pbx, &[], None).await;
        assert_eq!(
            (&me.json["scope"], &me.json["pbx"], &me.json["user"]),
            (&json!("pbx"), &json!(office.pbx), &json!(null))
        );
    }

    #[tokio::test]
    async fn an_agent_sets_do_not_disturb_and_nothing_else() {
        let office = Office::open().await;
        let (user, agent) = office.user("ann").await;
        let edited = office.call("PATCH", "/v1/me", &agent, &[], Some(&json!({"dnd": true}))).await;
        assert_eq!((edited.status, &edited.json["dnd"]), (200, &json!(true)));
        assert_eq!(office.get(&format!("/v1/users/{user}")).await.etag(), edited.etag());
        let stale =
            office.call("PATCH", "/v1/me", &agent, &[("if-match", "\"1\"")], Some(&json!({"dnd": false}))).await;
        assert_eq!(stale.problem(), (412, "stale"));
        let more = office.call("PATCH", "/v1/me", &agent, &[], Some(&json!({"enabled": true}))).await;
        assert_eq!((more.problem(), &more.json["pointer"]), ((400, "bad-body"), &json!("/enabled")));
        let nobody = office.call("PATCH", "/v1/me", &office.admin, &[], Some(&json!({"dnd": true}))).await;
        assert_eq!(nobody.problem(), (403, "forbidden"), "this admin token names no user");
    }

    #[tokio::test]
    async fn an_agent_takes_and_leaves_assignable_devices_only() {
        let office = Office::open().await;
        let (quiet, called) = (office.phone("204").await, office.phone("205").await);
        office.registry.device_in_call(called, office.clock.now().unix, true, Some("+14155550123"));
        let (user, agent) = office.user("ann").await;
        let call = async |method: &str, path: &str| office.call(method, path, &agent, &[], None).await;
        let choices = call("GET", "/v1/me/devices/choices?linked=false").await;
        assert_eq!(
            (choices.items("id"), choices.items("last_caller")),
            (vec![json!(called)], vec![json!("+14155550123")])
        );
        assert_eq!(call("PUT", &format!("/v1/me/devices/{quiet}")).await.problem(), (409, "conflict"));
        let path = format!("/v1/me/devices/{called}");
        assert_eq!([call("PUT", &path).await.status, call("PUT", &path).await.status], [201, 200]);
        assert_eq!(call("GET", "/v1/me/devices").await.items("extension"), ["205"]);
        assert_eq!(call("GET", "/v1/me/devices/choices?linked=true&q=205").await.items("linked"), [json!(true)]);
        assert_eq!([call("DELETE", &path).await.status, call("DELETE", &path).await.status], [204, 204]);
        assert!(call("GET", "/v1/me/devices").await.items("id").is_empty());
        // An admin may link any device, to whomever the token speaks for.
        let admin = office.token(office.account, Scope::Admin, Some(user), None);
        let any = office.call("PUT", &format!("/v1/me/devices/{quiet}"), &admin, &[], None).await;
        assert_eq!(any.status, 201);
    }

    #[tokio::test]
    async fn devices_of_another_account_are_not_there() {
        let office = Office::open().await;
        let device = office.phone("205").await;
        office.registry.device_in_call(device, office.clock.now().unix, true, None);
        let (other, stranger) = office.stranger();
        let eve = office.call("POST", "/v1/users", &stranger, &[], Some(&json!({"name": "Eve"}))).await;
        let eve = office.token(other, Scope::Agent, eve.id().parse().ok(), None);
        let path = format!("/v1/me/devices/{device}");
        assert_eq!(office.call("PUT", &path, &eve, &[], None).await.problem(), (404, "not-found"));
        assert!(office.call("GET", "/v1/me/devices/choices", &eve, &[], None).await.items("id").is_empty());
    }
}
