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
use super::query::{Ids, Listed, Page, Paging};
use super::responses::{Creating, Editing, Listing, Reading, Removing};
use super::state::AppState;
use super::values;
use crate::model::{AccountId, CallId, Member, Party, PbxId, Queue, QueueId, UnixMillis};
use crate::store::Stored;

/// The routes of this file.
pub fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(list_queues, create_queue)).routes(routes!(
        read_queue,
        edit_queue,
        delete_queue
    ))
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

/// A queue with who is in it and who waits.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct QueueAnswer {
    /// Its id.
    id: QueueId,
    /// The account it belongs to.
    account: AccountId,
    /// The PBX it is on.
    pbx: PbxId,
    /// Its name on the PBX.
    name: String,
    /// The number callers dial to reach it.
    number: Option<String>,
    /// The devices in it, by extension.
    members: Vec<MemberAnswer>,
    /// The callers who wait in it, first come first.
    waiting: Vec<Waiter>,
    /// A feed of its PBX tells who is in it: its members are the PBX's to change.
    reported: bool,
    /// Since when that feed no longer lists it.
    absent_since: Option<UnixMillis>,
    /// When it was created.
    created_at: UnixMillis,
}

/// A member with what a person knows its device by.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct MemberAnswer {
    /// The membership.
    #[serde(flatten)]
    member: Member,
    /// The number colleagues dial.
    extension: Option<String>,
    /// A name a person can recognise.
    label: Option<String>,
}

/// A caller who waits in a queue.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Waiter {
    /// The call.
    call: CallId,
    /// Who calls.
    #[schema(value_type = Party)]
    caller: Arc<Party>,
    /// Place in the line, from 1.
    position: u32,
    /// Since when.
    since: UnixMillis,
    /// For how long, in milliseconds.
    wait_ms: u64,
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
}

/// List queues
///
/// An account's queues with their members, by name. A PBX's token sees those on its PBX.
#[utoipa::path(get, path = "/v1/queues", tag = "queues", params(QueueFilter, Paging),
    responses((status = 200, description = "A page of queues", body = Page<Queue>), Listing))]
async fn list_queues(
    State(state): State<AppState>,
    caller: AdminOrPbx,
    Listed(filter, paging): Listed<QueueFilter>,
) -> Result<Json<Page<Queue>>> {
    let account = caller.account(&state, filter.account)?;
    let after = paging.after(LIST)?;
    let wanted = |queue: &Queue| {
        filter.pbx.is_none_or(|pbx| queue.pbx == pbx) && caller.reaches(&state, queue.account, queue.pbx)
    };
    let page = state.registry.queues.page(account, after, paging.limit.0, wanted);
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
///
/// With its members and the callers who wait in it now. Members and waiting callers come and go without changing the
/// queue's version.
#[utoipa::path(get, path = "/v1/queues/{id}", tag = "queues", params(("id" = QueueId, Path)),
    responses((status = 200, description = "The queue", body = QueueAnswer, headers(("ETag" = String))), Reading))]
async fn read_queue(
    State(state): State<AppState>,
    caller: AdminOrPbx,
    Ids(id): Ids<QueueId>,
) -> Result<Tagged<QueueAnswer>> {
    let stored = seen(&state, caller, id)?;
    Tagged::ok(&state, QueueAnswer::of(&state, &stored.value), stored.seq).await
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

/// The queue, when the caller may see it.
///
/// # Errors
/// 404 when there is none, or none that concerns the caller.
pub fn seen(state: &AppState, caller: AdminOrPbx, id: QueueId) -> Result<Arc<Stored<Queue>>> {
    let queue = state.registry.queues.get(id);
    let queue = queue.filter(|queue| caller.reaches(state, queue.value.account, queue.value.pbx));
    queue.ok_or_else(|| Problem::not_found("queue"))
}

impl QueueAnswer {
    /// The queue with what is going on in it.
    #[must_use]
    pub fn of(state: &AppState, queue: &Queue) -> Self {
        let now = state.clock.now().unix;
        let calls = state.registry.live.waiting_in(queue);
        let waiting = (1..).zip(&calls).filter_map(|(position, call)| {
            let since = call.waiting?.since;
            let wait_ms = u64::try_from(now - since).unwrap_or(0);
            Some(Waiter { call: call.id, caller: call.caller.clone(), position, since, wait_ms })
        });
        let mut members: Vec<MemberAnswer> =
            queue.members.iter().map(|member| MemberAnswer::of(state, member.clone())).collect();
        members.sort_by_cached_key(|member| member.extension.as_ref().map(|text| (text.len(), text.clone())));
        let Queue { id, account, pbx, name, number, reported, absent_since, created_at, .. } = queue.clone();
        let waiting = waiting.collect();
        Self { id, account, pbx, name, number, members, waiting, reported, absent_since, created_at }
    }
}

impl MemberAnswer {
    fn of(state: &AppState, member: Member) -> Self {
        let device = state.registry.device(member.device).map(|view| view.device);
        let extension = device.as_ref().map(|d| d.extension.as_deref().unwrap_or(&d.user).to_owned());
        Self { member, extension, label: device.and_then(|device| device.label).map(Into::into) }
    }
}

const LIST: &str = "queues";

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::http::testing::Office;

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
    async fn a_queue_shows_its_members_and_who_waits_in_what_order() {
        let office = Office::open().await;
        let queue = queue(&office, "sales").await;
        let (device, user) = (office.phone("101").await, office.user("ann").await.0);
        let path = format!("/v1/queues/{queue}");
        let member = format!("{path}/members/{device}");
        let body = json!({"paused": true, "pause_reason": "lunch"});
        assert_eq!(office.call("PUT", &member, &office.admin, &[], Some(&body)).await.status, 200);
        let now = office.clock.now().unix.0;
        let mut events = office.stream("/v1/events", &office.admin, &[]).await;
        events.next().await.unwrap();
        let mut calls = Vec::new();
        for since in [now - 5_000, now - 65_000] {
            let mut call = office.ring(device, user);
            call.id = crate::model::CallId(office.clock.uuid());
            call.queue = queue.parse().ok();
            call.waiting = Some(crate::model::Waiting { since: crate::model::UnixMillis(since), position: None });
            office.change(call.clone());
            calls.push(call);
        }
        let shown = office.get(&path).await.json;
        let waiting = &shown["waiting"];
        assert_eq!((&waiting[0]["call"], &waiting[0]["wait_ms"]), (&json!(calls[1].id), &json!(65_000)), "{shown:#}");
        assert_eq!((&waiting[1]["position"], &waiting[1]["since"]), (&json!(2), &json!(now - 5_000)));
        let member = &shown["members"][0];
        assert_eq!((&member["extension"], &member["pause_reason"]), (&json!("101"), &json!("lunch")));
        assert_eq!(
            (&member["kind"], &member["penalty"], &member["state"]),
            (&json!("manual"), &json!(0), &json!("unknown"))
        );
        calls[1].waiting = None;
        office.change(calls[1].clone());
        assert_eq!(office.get(&path).await.json["waiting"].as_array().unwrap().len(), 1);
        let mut heard = Vec::new();
        while heard.len() < 3 {
            let (_, kind, data) = events.next().await.unwrap();
            if kind.starts_with("queue.caller") {
                heard.push((kind, data["call"].clone()));
            }
        }
        let is = |at: usize, kind: &str, call: usize| heard[at] == (kind.to_owned(), json!(calls[call].id));
        assert!(is(0, "queue.caller_joined", 0) && is(1, "queue.caller_joined", 1) && is(2, "queue.caller_left", 1));
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
