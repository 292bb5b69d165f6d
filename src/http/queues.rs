//! PBX call queues and who is in them.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::answer::{Tagged, edited, page_of, removed};
use super::auth::{Admin, AdminOrPbx};
use super::body::{Body, MergePatch};
use super::etag::IfMatch;
use super::problem::{Problem, Result};
use super::query::{Cursor, Ids, Limit, Page, Params};
use super::responses::{Creating, Editing, Listing, Reading, Removing};
use super::state::AppState;
use super::values;
use crate::model::{AccountId, DeviceId, Member, PbxId, Queue, QueueId};
use crate::store::Stored;

/// The routes of this file.
pub fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(list_queues, create_queue))
        .routes(routes!(read_queue, edit_queue, delete_queue))
        .routes(routes!(set_member, remove_member))
}

/// What can be set of a queue. Its members are set one by one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct QueueEdit {
    /// The account it belongs to; by default the PBX's. It can't be changed later.
    #[serde(default)]
    account: Option<AccountId>,
    /// The PBX it is on. It can't be changed later.
    pbx: PbxId,
    /// Its name on the PBX, unique there.
    name: String,
    /// The number callers dial to reach it, if it has one; unique on its PBX.
    #[serde(default)]
    number: Option<String>,
}

/// How a device is in a queue.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct MemberEdit {
    /// Whether calls are held back from it.
    #[serde(default)]
    paused: bool,
    /// Why.
    #[serde(default)]
    pause_reason: Option<String>,
}

/// Which queues to list.
#[derive(Clone, Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct QueueFilter {
    /// Of this account; by default the token's own.
    account: Option<AccountId>,
    /// On this PBX only. A PBX's token always lists its own.
    pbx: Option<PbxId>,
    /// `next` of the page before.
    #[param(value_type = Option<String>)]
    after: Option<Cursor>,
    /// Items a page, 1 to 500.
    #[serde(default)]
    #[param(value_type = Option<u16>, minimum = 1, maximum = 500, default = 50)]
    limit: Limit,
}

/// List queues
///
/// An account's queues with their members, by name. A PBX's token sees those on its PBX.
#[utoipa::path(get, path = "/v1/queues", tag = "queues", params(QueueFilter),
    responses((status = 200, description = "A page of queues", body = Page<Queue>), Listing))]
async fn list_queues(
    State(state): State<AppState>,
    caller: AdminOrPbx,
    Params(filter): Params<QueueFilter>,
) -> Result<Json<Page<Queue>>> {
    let account = caller.account(&state, filter.account)?;
    let after = Cursor::read(filter.after.as_ref(), LIST)?;
    let wanted = |queue: &Queue| {
        filter.pbx.is_none_or(|pbx| queue.pbx == pbx) && caller.reaches(&state, queue.account, queue.pbx)
    };
    let page = state.registry.queues.page(account, after, filter.limit.0, wanted);
    page_of(&state, LIST, page, Queue::clone).await
}

/// Create a queue
#[utoipa::path(post, path = "/v1/queues", tag = "queues", request_body = QueueEdit,
    responses((status = 201, description = "The new queue", body = Queue,
        headers(("ETag" = String), ("Location" = String))), Creating))]
async fn create_queue(
    State(state): State<AppState>,
    admin: Admin,
    Body(edit): Body<QueueEdit>,
) -> Result<Tagged<Queue>> {
    let pbx = state.registry.pbxs.get(edit.pbx).filter(|pbx| admin.0.reaches(&state, pbx.value.account));
    let pbx = pbx.ok_or_else(|| Problem::invalid("/pbx", "there is no such PBX"))?;
    let account = admin.account(&state, edit.account.or(Some(pbx.value.account)))?;
    let queue = Queue {
        id: QueueId(state.clock.uuid()),
        account,
        pbx: edit.pbx,
        name: values::name("/name", &edit.name)?,
        number: values::dialled("/number", edit.number.as_deref())?,
        members: Vec::new(),
        reported: false,
        absent_since: None,
        created_at: state.clock.now().unix,
    };
    let stored = state.registry.create_queue(queue)?;
    let location = format!("/v1/queues/{}", stored.value.id);
    Tagged::created(&state, stored.value.clone(), stored.seq, location).await
}

/// Read a queue
#[utoipa::path(get, path = "/v1/queues/{id}", tag = "queues", params(("id" = QueueId, Path)),
    responses((status = 200, description = "The queue", body = Queue, headers(("ETag" = String))), Reading))]
async fn read_queue(State(state): State<AppState>, caller: AdminOrPbx, Ids(id): Ids<QueueId>) -> Result<Tagged<Queue>> {
    let stored = seen(&state, caller, id)?;
    Tagged::ok(&state, stored.value.clone(), stored.seq).await
}

/// Edit a queue
///
/// A merge patch (RFC 7396).
#[utoipa::path(patch, path = "/v1/queues/{id}", tag = "queues",
    params(("id" = QueueId, Path), ("If-Match" = Option<String>, Header)),
    request_body(content = QueueEdit, content_type = "application/merge-patch+json"),
    responses((status = 200, description = "The queue as it is now", body = Queue, headers(("ETag" = String))), Editing))]
async fn edit_queue(
    State(state): State<AppState>,
    admin: Admin,
    Ids(id): Ids<QueueId>,
    versions: IfMatch,
    patch: MergePatch,
) -> Result<Tagged<Queue>> {
    let current = seen(&state, AdminOrPbx::Admin(admin), id)?;
    let stored = edited(
        |edit| state.registry.update_queue(id, versions.expected(current.seq), edit),
        |queue: &mut Queue| {
            let Queue { account, pbx, name, number, .. } = queue.clone();
            let before = QueueEdit { account: Some(account), pbx, name, number };
            let edit = patch.applied_to(&before)?;
            if edit.account != before.account {
                return Err(Problem::invalid("/account", "a queue can't move to another account"));
            }
            if edit.pbx != before.pbx {
                return Err(Problem::invalid("/pbx", "a queue can't move to another PBX"));
            }
            queue.name = values::name("/name", &edit.name)?;
            queue.number = values::dialled("/number", edit.number.as_deref())?;
            Ok(())
        },
    )?;
    Tagged::ok(&state, stored.value.clone(), stored.seq).await
}

/// Delete a queue
///
/// No rule of its PBX may name it. Users whose queues hold it lose it.
#[utoipa::path(delete, path = "/v1/queues/{id}", tag = "queues",
    params(("id" = QueueId, Path), ("If-Match" = Option<String>, Header)),
    responses((status = 204, description = "It is gone"), Removing))]
async fn delete_queue(
    State(state): State<AppState>,
    admin: Admin,
    Ids(id): Ids<QueueId>,
    versions: IfMatch,
) -> Result<StatusCode> {
    let current = seen(&state, AdminOrPbx::Admin(admin), id)?;
    removed(&state, state.registry.delete_queue(id, versions.expected(current.seq))).await
}

/// Put a device into a queue
///
/// Or change its membership: asking again is fine. A PBX's token may do this for the devices and queues of its PBX.
#[utoipa::path(put, path = "/v1/queues/{id}/members/{device}", tag = "queues",
    params(("id" = QueueId, Path), ("device" = DeviceId, Path)), request_body = MemberEdit,
    responses((status = 200, description = "The queue with the member in it", body = Queue, headers(("ETag" = String))),
        Editing))]
async fn set_member(
    State(state): State<AppState>,
    caller: AdminOrPbx,
    Ids((id, device)): Ids<(QueueId, DeviceId)>,
    Body(edit): Body<MemberEdit>,
) -> Result<Tagged<Queue>> {
    let queue = seen(&state, caller, id)?;
    let member_of = state.registry.device(device).map(|view| (view.device.account, view.device.pbx));
    if member_of.is_none_or(|(account, pbx)| account != queue.value.account || pbx != queue.value.pbx) {
        return Err(Problem::not_found("device on the queue's PBX"));
    }
    let reason = values::remark("/pause_reason", edit.pause_reason.as_deref())?;
    let member = Member::manual(device, edit.paused, reason, state.clock.now().unix);
    let stored = state.registry.set_member(id, member)?;
    Tagged::ok(&state, stored.value.clone(), stored.seq).await
}

/// Take a device out of a queue
///
/// One that is not in it is no error.
#[utoipa::path(delete, path = "/v1/queues/{id}/members/{device}", tag = "queues",
    params(("id" = QueueId, Path), ("device" = DeviceId, Path)),
    responses((status = 204, description = "It is not in the queue"), Removing))]
async fn remove_member(
    State(state): State<AppState>,
    caller: AdminOrPbx,
    Ids((id, device)): Ids<(QueueId, DeviceId)>,
) -> Result<StatusCode> {
    let queue = seen(&state, caller, id)?;
    let seq = state.registry.remove_member(id, device).map_or(queue.seq, |queue| queue.seq);
    removed(&state, Ok(seq)).await
}

fn seen(state: &AppState, caller: AdminOrPbx, id: QueueId) -> Result<Arc<Stored<Queue>>> {
    let queue = state.registry.queues.get(id);
    let queue = queue.filter(|queue| caller.reaches(state, queue.value.account, queue.value.pbx));
    queue.ok_or_else(|| Problem::not_found("queue"))
}

const LIST: &str = "queues";

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::http::testing::Office;
    use crate::model::Scope;

    async fn queue(office: &Office, name: &str) -> String {
        office.post("/v1/queues", &json!({"pbx": office.pbx, "name": name})).await.id().to_owned()
    }

    #[tokio::test]
    async fn a_queue_is_created_renamed_and_deleted() {
        let office = Office::open().await;
        let created = office.post("/v1/queues", &json!({"pbx": office.pbx, "name": "sales", "number": "800"})).await;
        assert_eq!((created.status, &created.json["account"]), (201, &json!(office.account)));
        let path = format!("/v1/queues/{}", created.id());
        let edited = office.patch(&path, &json!({"number": null, "name": "Sales"})).await;
        assert_eq!((&edited.json["number"], &edited.json["name"]), (&json!(null), &json!("Sales")));
        assert_eq!(office.get(&format!("/v1/queues?pbx={}", office.pbx)).await.items("name"), ["Sales"]);
        assert_eq!(office.delete(&path).await.status, 204);
        assert_eq!(office.get(&path).await.status, 404);
        let unknown = office.post("/v1/queues", &json!({"pbx": office.account, "name": "x"})).await;
        assert_eq!((unknown.status, &unknown.json["pointer"]), (422, &json!("/pbx")));
    }

    #[tokio::test]
    async fn members_come_pause_and_go_and_asking_twice_is_fine() {
        let office = Office::open().await;
        let (queue, device) = (queue(&office, "sales").await, office.phone("101").await);
        let path = format!("/v1/queues/{queue}/members/{device}");
        let put = async |body| office.call("PUT", &path, &office.admin, &[], Some(&body)).await;
        let joined = put(json!({})).await;
        assert_eq!((joined.status, &joined.json["members"][0]["device"]), (200, &json!(device)));
        let since = joined.json["members"][0]["since"].clone();
        office.clock.advance(std::time::Duration::from_secs(5));
        let paused = put(json!({"paused": true, "pause_reason": "lunch"})).await;
        let member = json!({"device": device, "paused": true, "pause_reason": "lunch", "since": since});
        assert_eq!(paused.json["members"], json!([member]));
        assert_eq!(office.delete(&path).await.status, 204);
        assert_eq!(office.get(&format!("/v1/queues/{queue}")).await.json["members"], json!([]));
        assert_eq!(office.delete(&path).await.status, 204);
        let unknown = format!("/v1/queues/{queue}/members/{}", office.account);
        assert_eq!(office.call("PUT", &unknown, &office.admin, &[], Some(&json!({}))).await.status, 404);
    }

    #[tokio::test]
    async fn a_pbx_token_sets_members_on_its_own_pbx_only() {
        let office = Office::open().await;
        let (queue, device) = (queue(&office, "sales").await, office.phone("101").await);
        let token = office.token(office.account, Scope::Pbx, None, Some(office.pbx));
        let path = format!("/v1/queues/{queue}/members/{device}");
        assert_eq!(office.call("PUT", &path, &token, &[], Some(&json!({}))).await.status, 200);
        assert_eq!(office.call("GET", "/v1/queues", &token, &[], None).await.items("name"), ["sales"]);
        let site = office.post("/v1/sites", &json!({"name": "Berlin"})).await.json["id"].clone();
        let other = json!({"site": site, "name": "Other", "domain": "other.example"});
        let other = office.post("/v1/pbxs", &other).await.id().parse().unwrap();
        let foreign = office.token(office.account, Scope::Pbx, None, Some(other));
        assert_eq!(office.call("PUT", &path, &foreign, &[], Some(&json!({}))).await.problem(), (404, "not-found"));
        assert_eq!(office.call("DELETE", &path, &foreign, &[], None).await.problem(), (404, "not-found"));
        assert!(office.call("GET", "/v1/queues", &foreign, &[], None).await.items("name").is_empty());
        let create = json!({"pbx": office.pbx, "name": "mine"});
        assert_eq!(office.call("POST", "/v1/queues", &token, &[], Some(&create)).await.problem(), (403, "forbidden"));
    }

    #[tokio::test]
    async fn queues_of_another_account_are_not_there() {
        let office = Office::open().await;
        let path = format!("/v1/queues/{}", queue(&office, "sales").await);
        let (_, stranger) = office.stranger();
        assert_eq!(office.call("GET", &path, &stranger, &[], None).await.problem(), (404, "not-found"));
        let create = json!({"pbx": office.pbx, "name": "mine"});
        assert_eq!(office.call("POST", "/v1/queues", &stranger, &[], Some(&create)).await.status, 422);
    }
}
