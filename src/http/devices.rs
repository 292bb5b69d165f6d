//! Devices: phones as admins see them.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::answer::{Tagged, edited, removed};
use super::auth::Admin;
use super::body::{Body, MergePatch};
use super::device_answer::DeviceAnswer;
use super::etag::IfMatch;
use super::problem::{Problem, Result};
use super::query::{Cursor, Ids, Listed, Page, Paging};
use super::responses::{Creating, Editing, Listing, Reading, Removing};
use super::state::AppState;
use super::values;
use crate::model::{AccountId, Device, DeviceId, DeviceState, PbxId};
use crate::registry::{self, DeviceView};
use crate::store::Seq;

/// The routes of this file.
pub fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(list_devices, create_device)).routes(routes!(
        read_device,
        edit_device,
        delete_device
    ))
}

/// A device to be made.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DeviceNew {
    /// The PBX it will register to.
    pbx: PbxId,
    /// User part of its address-of-record.
    user: String,
    /// The account it belongs to; by default the PBX's.
    #[serde(default)]
    account: Option<AccountId>,
}

/// What can be set of a device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct DeviceEdit {
    /// A name a person can recognise.
    label: Option<String>,
    /// A disabled device takes no part in popups.
    enabled: bool,
    /// The number colleagues dial, when it is not the user part of its address-of-record.
    extension: Option<String>,
    /// The number its calls show.
    caller_id: Option<String>,
}

/// Which devices to list.
#[derive(Clone, Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct DeviceQuery {
    /// Of this account; by default the token's own.
    account: Option<AccountId>,
    /// On this PBX only.
    pbx: Option<PbxId>,
    /// In this state only.
    state: Option<DeviceState>,
    /// Those that had a call with the outside world, or those that had none.
    assignable: Option<bool>,
    /// Those linked to somebody, or those linked to nobody.
    linked: Option<bool>,
    /// Those their PBX reached when it last asked, or those it did not reach.
    reachable: Option<bool>,
    /// Those whose address-of-record two phones use, or the others.
    duplicate: Option<bool>,
    /// Those whose extension, label, user agent or last caller contains this, compared without case.
    q: Option<String>,
}

/// List devices
///
/// An account's phones, by extension (99 before 100). `?assignable=true&linked=false` are the choices when a device is to
/// be assigned to a user.
#[utoipa::path(get, path = "/v1/devices", tag = "devices", params(DeviceQuery, Paging),
    responses((status = 200, description = "A page of devices", body = Page<DeviceAnswer>), Listing))]
async fn list_devices(
    State(state): State<AppState>,
    admin: Admin,
    Listed(query, paging): Listed<DeviceQuery>,
) -> Result<Json<Page<DeviceAnswer>>> {
    let account = admin.account(&state, query.account)?;
    let after = paging.after(LIST)?;
    let filter = registry::DeviceFilter {
        state: query.state,
        assignable: query.assignable,
        linked: query.linked,
        text: query.q.map(|text| text.trim().to_owned()).filter(|text| !text.is_empty()),
        pbx: query.pbx,
        reachable: query.reachable,
        duplicate: query.duplicate,
    };
    page(&state, state.registry.devices_page(account, &filter, after, paging.limit.0), LIST).await
}

/// Create a device
///
/// Devices appear by themselves when they register or ring, and when a PBX lists them in a queue. One that does not yet can
/// be made here, to be linked. Making one again answers 409.
#[utoipa::path(post, path = "/v1/devices", tag = "devices", request_body = DeviceNew,
    responses((status = 201, description = "The new device", body = DeviceAnswer,
        headers(("ETag" = String), ("Location" = String))), Creating))]
async fn create_device(
    State(state): State<AppState>,
    admin: Admin,
    Body(new): Body<DeviceNew>,
) -> Result<Tagged<DeviceAnswer>> {
    let pbx = state.registry.pbxs.get(new.pbx).filter(|pbx| admin.0.reaches(&state, pbx.value.account));
    let pbx = pbx.ok_or_else(|| Problem::invalid("/pbx", "there is no such PBX"))?;
    let account = admin.account(&state, new.account.or(Some(pbx.value.account)))?;
    if !state.registry.account_within(account, pbx.value.account) {
        return Err(Problem::invalid("/account", "the PBX does not serve this account"));
    }
    let user = values::dialled("/user", Some(&new.user))?;
    let user = user.ok_or_else(|| Problem::invalid("/user", "it must not be empty"))?;
    let view = state.registry.create_device(account, new.pbx, &user, state.clock.now())?;
    let (answer, awaits) = DeviceAnswer::of(&state, &view);
    let location = format!("/v1/devices/{}", view.device.id);
    state.stored_at(awaits, &location).await?;
    Tagged::created(&state, answer, view.seq, location).await
}

/// Read a device
#[utoipa::path(get, path = "/v1/devices/{id}", tag = "devices", params(("id" = DeviceId, Path)),
    responses((status = 200, description = "The device", body = DeviceAnswer, headers(("ETag" = String))), Reading))]
async fn read_device(
    State(state): State<AppState>,
    admin: Admin,
    Ids(id): Ids<DeviceId>,
) -> Result<Tagged<DeviceAnswer>> {
    answer(&state, &seen(&state, admin, id)?).await
}

/// Edit a device
///
/// A merge patch (RFC 7396). Disabling a device closes the offers it rings for.
#[utoipa::path(patch, path = "/v1/devices/{id}", tag = "devices",
    params(("id" = DeviceId, Path), ("If-Match" = Option<String>, Header)),
    request_body(content = DeviceEdit, content_type = "application/merge-patch+json"),
    responses((status = 200, description = "The device as it is now", body = DeviceAnswer, headers(("ETag" = String))),
        Editing))]
async fn edit_device(
    State(state): State<AppState>,
    admin: Admin,
    Ids(id): Ids<DeviceId>,
    versions: IfMatch,
    patch: MergePatch,
) -> Result<Tagged<DeviceAnswer>> {
    let current = seen(&state, admin, id)?;
    let view = edited(
        |edit| state.registry.update_device(id, versions.expected(current.seq), edit),
        |device: &mut Device| {
            let edit = patch.applied_to(&DeviceEdit::of(device))?;
            device.label = values::remark("/label", edit.label.as_deref())?.map(Into::into);
            device.extension = values::dialled("/extension", edit.extension.as_deref())?.map(Into::into);
            device.caller_id = values::remark("/caller_id", edit.caller_id.as_deref())?.map(Into::into);
            device.enabled = edit.enabled;
            Ok(())
        },
    )?;
    answer(&state, &view).await
}

/// Delete a device
///
/// With its bindings, its links (they end now and stay in the history) and its queue memberships. A phone that is still
/// there makes the device appear again, under the same id and unlinked, when it next registers; disable the device to keep
/// it quiet.
#[utoipa::path(delete, path = "/v1/devices/{id}", tag = "devices",
    params(("id" = DeviceId, Path), ("If-Match" = Option<String>, Header)),
    responses((status = 204, description = "It is gone"), Removing))]
async fn delete_device(
    State(state): State<AppState>,
    admin: Admin,
    Ids(id): Ids<DeviceId>,
    versions: IfMatch,
) -> Result<StatusCode> {
    let current = seen(&state, admin, id)?;
    removed(&state, state.registry.delete_device(id, versions.expected(current.seq))).await
}

/// The device, when the admin may see it.
///
/// # Errors
/// 404 when there is none, or none of the admin's accounts.
pub fn seen(state: &AppState, admin: Admin, id: DeviceId) -> Result<DeviceView> {
    let view = state.registry.device(id).filter(|view| admin.0.reaches(state, view.device.account));
    view.ok_or_else(|| Problem::not_found("device"))
}

/// A page of devices as JSON, once all it shows is on disk.
///
/// # Errors
/// 503 when that is not known in time.
pub async fn page(state: &AppState, page: registry::Page<DeviceView>, list: &str) -> Result<Json<Page<DeviceAnswer>>> {
    let shown: Vec<_> = page.items.iter().map(|view| DeviceAnswer::of(state, view)).collect();
    let newest = shown.iter().map(|(_, awaits)| *awaits).fold(state.registry.gone(), Seq::max);
    state.stored(newest).await?;
    let items = shown.into_iter().map(|(answer, _)| answer).collect();
    Ok(Json(Page { items, next: page.next.map(|next| Cursor::write(list, &next)) }))
}

async fn answer(state: &AppState, view: &DeviceView) -> Result<Tagged<DeviceAnswer>> {
    let (answer, awaits) = DeviceAnswer::of(state, view);
    state.stored(awaits).await?;
    Tagged::ok(state, answer, view.seq).await
}

impl DeviceEdit {
    fn of(device: &Device) -> Self {
        let owned = |text: &Option<Box<str>>| text.as_deref().map(str::to_owned);
        Self {
            label: owned(&device.label),
            enabled: device.enabled,
            extension: owned(&device.extension),
            caller_id: owned(&device.caller_id),
        }
    }
}

impl Default for DeviceEdit {
    fn default() -> Self {
        Self { label: None, enabled: true, extension: None, caller_id: None }
    }
}

const LIST: &str = "devices";

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use crate::http::testing::Office;

    #[tokio::test]
    async fn x1_a_phone_that_registers_is_listed_by_itself() {
        let office = Office::open().await;
        assert!(office.get("/v1/devices").await.items("id").is_empty());
        let device = office.phone("204").await;
        let listed = office.get("/v1/devices").await;
        assert_eq!(listed.items("id"), [json!(device)]);
        assert_eq!(listed.items("aor"), [json!("sip:204@pbx.local")]);
    }

    #[tokio::test]
    async fn q11_the_state_is_connected_disconnected_or_disabled() {
        let office = Office::open().await;
        let path = format!("/v1/devices/{}", office.phone("204").await);
        let state = async || office.get(&path).await.json["state"].clone();
        assert_eq!(state().await, "connected");
        assert_eq!(office.patch(&path, &json!({"enabled": false})).await.json["state"], "disabled");
        assert_eq!(office.get("/v1/devices?state=disabled").await.items("extension"), ["204"]);
        assert!(office.get("/v1/devices?state=connected").await.items("extension").is_empty());
        assert_eq!(
            office.patch(&path, &json!({"enabled": true, "caller_id": "+14155550100"})).await.json["state"],
            "connected"
        );
        assert_eq!(office.get(&path).await.json["caller_id"], "+14155550100");
        office.clock.advance(Duration::from_hours(2));
        assert_eq!(state().await, "disconnected");
    }

    #[tokio::test]
    async fn t8_a_device_is_recognisable() {
        let office = Office::open().await;
        let device = office.phone("204").await;
        let path = format!("/v1/devices/{device}");
        office.clock.advance(Duration::from_secs(30));
        let at = office.clock.now().unix;
        office.registry.device_in_call(device, at, true, Some("+14155550123"));
        let edited = office.patch(&path, &json!({"label": "Front desk", "extension": "2040"})).await.json;
        for (member, value) in [
            ("label", json!("Front desk")),
            ("extension", json!("2040")),
            ("user_agent", json!("Fictional Phone/1.0")),
            ("last_caller", json!("+14155550123")),
            ("last_seen_at", json!(at)),
            ("address", json!("192.0.2.7:5060")),
            ("aor", json!("sip:204@pbx.local")),
        ] {
            assert_eq!(edited[member], value, "{member}");
        }
        for text in ["front", "2040", "FICTIONAL", "5550123"] {
            assert_eq!(office.get(&format!("/v1/devices?q={text}")).await.items("id"), [json!(device)], "{text}");
        }
        assert!(office.get("/v1/devices?q=nothing").await.items("id").is_empty());
        let cleared = office.patch(&path, &json!({"label": null, "extension": ""})).await.json;
        assert_eq!((&cleared["label"], &cleared["extension"]), (&json!(null), &json!("204")));
    }

    #[tokio::test]
    async fn devices_are_listed_by_extension_99_before_100_over_pages() {
        let office = Office::open().await;
        for user in ["100", "99", "1000", "101"] {
            office.phone(user).await;
        }
        let first = office.get("/v1/devices?limit=3").await;
        assert_eq!(first.items("extension"), ["99", "100", "101"]);
        let next = first.json["next"].as_str().unwrap();
        let last = office.get(&format!("/v1/devices?limit=3&after={next}")).await;
        assert_eq!(last.items("extension"), ["1000"]);
        assert!(last.json.get("next").is_none());
    }

    #[tokio::test]
    async fn a_stale_edit_is_refused_and_a_refresh_is_no_edit() {
        let office = Office::open().await;
        let path = format!("/v1/devices/{}", office.phone("204").await);
        let seen = office.get(&path).await;
        office.phone("204").await;
        let first = json!({"label": "One"});
        let version = [("if-match", seen.etag())];
        let edited = office.call("PATCH", &path, &office.admin, &version, Some(&first)).await;
        assert_eq!(edited.status, 200, "{edited:?}");
        let refused = office.call("PATCH", &path, &office.admin, &version, Some(&first)).await;
        assert_eq!((refused.problem(), refused.etag()), ((412, "stale"), edited.etag()));
    }

    #[tokio::test]
    async fn a_deleted_device_comes_back_unlinked_when_it_registers_again() {
        let office = Office::open().await;
        let device = office.phone("204").await;
        let (user, _) = office.user("ann").await;
        assert_eq!(office.put(&format!("/v1/users/{user}/devices/{device}")).await.status, 201);
        let path = format!("/v1/devices/{device}");
        assert_eq!(office.delete(&path).await.status, 204);
        assert_eq!(office.get(&path).await.problem(), (404, "not-found"));
        assert_eq!(office.phone("204").await, device);
        let again = office.get(&path).await.json;
        assert_eq!((&again["users"], &again["state"]), (&json!([]), &json!("connected")));
    }

    #[tokio::test]
    async fn bad_values_are_named_and_devices_of_another_account_are_not_there() {
        let office = Office::open().await;
        let path = format!("/v1/devices/{}", office.phone("204").await);
        for (patch, status, pointer) in [
            (json!({"enabled": 1}), 400, "/enabled"),
            (json!({"state": "connected"}), 400, "/state"),
            (json!({"extension": "2 04"}), 422, "/extension"),
            (json!({"label": "x".repeat(201)}), 422, "/label"),
        ] {
            let refused = office.patch(&path, &patch).await;
            assert_eq!((refused.problem().0, refused.json["pointer"].as_str()), (status, Some(pointer)));
        }
        assert_eq!(office.get("/v1/devices?state=ringing").await.problem(), (400, "bad-request"));
        assert_eq!(office.get("/v1/devices/204").await.problem(), (404, "not-found"));
        let (_, stranger) = office.stranger();
        let edit = json!({"enabled": false});
        for (method, body) in [("GET", None), ("PATCH", Some(&edit)), ("DELETE", None)] {
            assert_eq!(office.call(method, &path, &stranger, &[], body).await.problem(), (404, "not-found"));
        }
        assert!(office.call("GET", "/v1/devices", &stranger, &[], None).await.items("id").is_empty());
    }
}
