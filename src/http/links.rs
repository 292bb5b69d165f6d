//! Which devices a user has.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::answer::{Tagged, removed};
use super::auth::Admin;
use super::device_answer::DeviceAnswer;
use super::devices;
use super::problem::{Problem, Result};
use super::query::{Ids, Page};
use super::responses::{Placing, Reading, Removing};
use super::state::AppState;
use super::users;
use crate::model::{DeviceId, Link, UserId};
use crate::registry::ChangeError;

/// The routes of this file.
pub fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(list_user_devices)).routes(routes!(link_device, unlink_device))
}

/// List a user's devices
///
/// Those linked to them now, by extension; all on one page.
#[utoipa::path(get, path = "/v1/users/{id}/devices", tag = "links", params(("id" = UserId, Path)),
    responses((status = 200, description = "The devices", body = Page<DeviceAnswer>), Reading))]
async fn list_user_devices(
    State(state): State<AppState>,
    admin: Admin,
    Ids(id): Ids<UserId>,
) -> Result<Json<Page<DeviceAnswer>>> {
    users::seen(&state, admin, id)?;
    let (views, newest) = state.registry.devices_of_user(id);
    let shown: Vec<_> = views.iter().map(|view| DeviceAnswer::of(&state, view)).collect();
    let newest = shown.iter().map(|(_, awaits)| *awaits).fold(newest, crate::store::Seq::max);
    state.stored(newest.max(state.registry.gone())).await?;
    let items = shown.into_iter().map(|(answer, _)| answer).collect();
    Ok(Json(Page { items, next: None }))
}

/// Link a device to a user
///
/// From now on its calls concern them. Linking again answers 200 with the link there is. An admin may link any device; a
/// device may have several users and a user several devices.
#[utoipa::path(put, path = "/v1/users/{id}/devices/{device}", tag = "links",
    params(("id" = UserId, Path), ("device" = DeviceId, Path)),
    responses((status = 201, description = "The new link", body = Link, headers(("ETag" = String))),
        (status = 200, description = "The link there was", body = Link, headers(("ETag" = String))), Placing))]
async fn link_device(
    State(state): State<AppState>,
    admin: Admin,
    Ids((id, device)): Ids<(UserId, DeviceId)>,
) -> Result<Tagged<Link>> {
    let user = users::seen(&state, admin, id)?;
    let view = devices::seen(&state, admin, device)?;
    if view.device.account != user.value.account {
        return Err(Problem::not_found("device in the user's account"));
    }
    link(&state, id, device).await
}

/// Unlink a device from a user
///
/// The link ends now and stays in the history; offers the device rings for are closed. A device that is not linked is no
/// error.
#[utoipa::path(delete, path = "/v1/users/{id}/devices/{device}", tag = "links",
    params(("id" = UserId, Path), ("device" = DeviceId, Path)),
    responses((status = 204, description = "They are not linked"), Removing))]
async fn unlink_device(
    State(state): State<AppState>,
    admin: Admin,
    Ids((id, device)): Ids<(UserId, DeviceId)>,
) -> Result<StatusCode> {
    users::seen(&state, admin, id)?;
    devices::seen(&state, admin, device)?;
    unlink(&state, id, device).await
}

/// Links the two and answers with the link.
///
/// # Errors
/// 404 unless both are of one account, 409 when either has too many, 503 when the link is not known to be stored.
pub async fn link(state: &AppState, user: UserId, device: DeviceId) -> Result<Tagged<Link>> {
    let (link, created) = state.registry.link(user, device, state.clock.now().unix)?;
    let value = link.value.clone();
    if created {
        Tagged::created(state, value, link.seq, format!("/v1/users/{user}/devices")).await
    } else {
        Tagged::ok(state, value, link.seq).await
    }
}

/// Ends the link between the two, if there is one.
///
/// # Errors
/// 503 when its end is not known to be stored.
pub async fn unlink(state: &AppState, user: UserId, device: DeviceId) -> Result<StatusCode> {
    match state.registry.unlink(user, device, state.clock.now().unix) {
        Ok(link) => removed(state, Ok(link.seq)).await,
        // Perhaps an earlier try ended it and could not say that it was stored: this answer waits for that end too.
        Err(ChangeError::NotFound) => removed(state, Ok(state.registry.latest())).await,
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::http::testing::Office;

    #[tokio::test]
    async fn t5_an_admin_assigns_from_the_user_and_from_the_device() {
        let office = Office::open().await;
        let (quiet, called) = (office.phone("204").await, office.phone("205").await);
        office.registry.device_in_call(called, office.clock.now().unix, true, Some("+14155550123"));
        let (user, _) = office.user("ann").await;
        // From the user: choose among the assignable devices nobody has.
        let choices = office.get("/v1/devices?assignable=true&linked=false").await.items("id");
        assert_eq!(choices, [json!(called)]);
        assert_eq!(office.put(&format!("/v1/users/{user}/devices/{called}")).await.status, 201);
        assert!(office.get("/v1/devices?assignable=true&linked=false").await.items("id").is_empty());
        // From the device: choose a user. An admin may link any device.
        let choice = office.get("/v1/users?q=ann").await.items("id");
        let link = office.put(&format!("/v1/users/{}/devices/{quiet}", choice[0].as_str().unwrap())).await;
        assert_eq!(link.status, 201);
        let devices = office.get(&format!("/v1/users/{user}/devices")).await;
        assert_eq!(devices.items("id").len(), 2);
        let device = office.get(&format!("/v1/devices/{quiet}")).await.json;
        assert_eq!((&device["users"][0]["id"], &device["users"][0]["name"]), (&json!(user), &json!("ann")));
    }

    #[tokio::test]
    async fn t6_a_user_has_several_devices_and_a_device_several_users() {
        let office = Office::open().await;
        let (a, b) = (office.phone("204").await, office.phone("205").await);
        let ((ann, _), (bob, _)) = (office.user("ann").await, office.user("bob").await);
        for (user, device) in [(ann, a), (ann, b), (bob, a)] {
            assert_eq!(office.put(&format!("/v1/users/{user}/devices/{device}")).await.status, 201);
        }
        assert_eq!(office.get(&format!("/v1/users/{ann}/devices")).await.items("extension").len(), 2);
        let users = office.get(&format!("/v1/devices/{a}")).await.json["users"].as_array().unwrap().len();
        assert_eq!(users, 2);
    }

    #[tokio::test]
    async fn linking_twice_is_200_with_the_same_link_and_unlinking_twice_is_fine() {
        let office = Office::open().await;
        let device = office.phone("204").await;
        let (user, _) = office.user("ann").await;
        let path = format!("/v1/users/{user}/devices/{device}");
        let first = office.put(&path).await;
        let second = office.put(&path).await;
        assert_eq!((first.status, second.status), (201, 200));
        assert_eq!((&first.json, first.etag()), (&second.json, second.etag()));
        assert_eq!([office.delete(&path).await.status, office.delete(&path).await.status], [204, 204]);
        let third = office.put(&path).await;
        assert_eq!(third.status, 201);
        assert_ne!(third.json["id"], first.json["id"], "a new period is a new link");
    }

    #[tokio::test]
    async fn nothing_links_across_accounts() {
        let office = Office::open().await;
        let device = office.phone("204").await;
        let (_, stranger) = office.stranger();
        let theirs = office.call("POST", "/v1/users", &stranger, &[], Some(&json!({"name": "Eve"}))).await;
        let path = format!("/v1/users/{}/devices/{device}", theirs.id());
        assert_eq!(office.call("PUT", &path, &stranger, &[], None).await.problem(), (404, "not-found"));
        assert_eq!(office.put(&path).await.problem(), (404, "not-found"));
        let branch = office.post("/v1/accounts", &json!({"name": "Branch"})).await.json["id"].clone();
        let below = office.post("/v1/users", &json!({"name": "Bob", "account": branch})).await;
        let path = format!("/v1/users/{}/devices/{device}", below.id());
        assert_eq!(office.put(&path).await.problem(), (404, "not-found"), "not even for who sees both");
    }
}
