//! Who is in a queue.

use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::answer::Tagged;
use super::auth::AdminOrPbx;
use super::body::{Body, MergePatch};
use super::control;
use super::problem::{Problem, Result};
use super::query::Ids;
use super::queues::{QueueAnswer, seen};
use super::responses::Commanding;
use super::state::AppState;
use super::values;
use crate::model::{Device, DeviceId, Member, Queue, QueueId};

/// The routes of this file.
pub fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(set_member, edit_member, remove_member))
}

/// How a device is in a queue.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct MemberEdit {
    /// Whether calls are held back from it.
    #[serde(default)]
    paused: bool,
    /// Why.
    #[serde(default)]
    pause_reason: Option<String>,
    /// Order of preference, at most 2 147 483 647: lower ones are called first. Absent = one that is in the queue keeps what it
    /// has, and one that joins gets 0.
    #[serde(default)]
    penalty: Option<u32>,
}

/// Put a device into a queue
///
/// Or pause it there, or change its penalty: asking again is fine. A PBX's token may do this for the devices and queues of
/// its PBX. When a feed of the PBX reports the queue, the change is sent to the PBX, provided its `control` is on, and the
/// answer comes once the PBX has confirmed it.
#[utoipa::path(put, path = "/v1/queues/{id}/members/{device}", tag = "queues",
    params(("id" = QueueId, Path), ("device" = DeviceId, Path)), request_body = MemberEdit,
    responses((status = 200, description = "The queue with the member in it", body = QueueAnswer,
        headers(("ETag" = String))), Commanding))]
async fn set_member(
    State(state): State<AppState>,
    caller: AdminOrPbx,
    Ids((id, device)): Ids<(QueueId, DeviceId)>,
    Body(edit): Body<MemberEdit>,
) -> Result<Tagged<QueueAnswer>> {
    let row = seen(&state, caller, id)?;
    let device = device_of(&state, &row.value, device)?;
    set(&state, &row.value, &device, edit.checked()?).await?;
    shown(&state, caller, id).await
}

/// Change how a device is in a queue
///
/// A merge patch (RFC 7396) of what is put: what it does not name stays as it is. The device must be in the queue. When a
/// feed of the PBX reports the queue, the change goes there as it does for a put.
#[utoipa::path(patch, path = "/v1/queues/{id}/members/{device}", tag = "queues",
    params(("id" = QueueId, Path), ("device" = DeviceId, Path)),
    request_body(content = MemberEdit, content_type = "application/merge-patch+json"),
    responses((status = 200, description = "The queue with the member as it is now", body = QueueAnswer,
        headers(("ETag" = String))), Commanding))]
async fn edit_member(
    State(state): State<AppState>,
    caller: AdminOrPbx,
    Ids((id, device)): Ids<(QueueId, DeviceId)>,
    patch: MergePatch,
) -> Result<Tagged<QueueAnswer>> {
    let row = seen(&state, caller, id)?;
    let device = device_of(&state, &row.value, device)?;
    let member = control::on_pbx(&row.value, &device).ok_or_else(|| Problem::not_found("member"))?;
    let edit = patch.applied_to(&MemberEdit::of(member))?;
    set(&state, &row.value, &device, edit.checked()?).await?;
    shown(&state, caller, id).await
}

/// Take a device out of a queue
///
/// One that is not in it is no error. When a feed of the PBX reports the queue, as above; but one that was put in by hand,
/// and that the PBX does not have, is taken out here alone.
#[utoipa::path(delete, path = "/v1/queues/{id}/members/{device}", tag = "queues",
    params(("id" = QueueId, Path), ("device" = DeviceId, Path)),
    responses((status = 204, description = "It is not in the queue"), Commanding))]
async fn remove_member(
    State(state): State<AppState>,
    caller: AdminOrPbx,
    Ids((id, device)): Ids<(QueueId, DeviceId)>,
) -> Result<StatusCode> {
    let row = seen(&state, caller, id)?;
    match state.registry.device(device) {
        Some(view) => control::leave(&state, &row.value, &view.device).await?,
        // Its memberships went with it.
        None => state.stored(row.seq).await?,
    }
    Ok(StatusCode::NO_CONTENT)
}

impl MemberEdit {
    fn of(member: &Member) -> Self {
        let Member { paused, pause_reason, penalty, .. } = member.clone();
        Self { paused, pause_reason, penalty: Some(penalty) }
    }

    fn checked(self) -> Result<Self> {
        if let Some(penalty) = self.penalty {
            values::within("/penalty", penalty, 0..=PENALTY_MAX)?;
        }
        Ok(Self { pause_reason: values::remark("/pause_reason", self.pause_reason.as_deref())?, ..self })
    }
}

fn device_of(state: &AppState, queue: &Queue, device: DeviceId) -> Result<Device> {
    let device = state.registry.device(device).map(|view| view.device);
    let device = device.filter(|device| device.account == queue.account && device.pbx == queue.pbx);
    device.ok_or_else(|| Problem::not_found("device on the queue's PBX"))
}

async fn set(state: &AppState, queue: &Queue, device: &Device, edit: MemberEdit) -> Result<()> {
    if queue.is_fed() {
        return on_pbx(state, queue.id, device, edit).await;
    }
    let penalty = edit.penalty.or_else(|| queue.member(device.id).map(|known| known.penalty)).unwrap_or(0);
    let member = Member::manual(device.id, edit.paused, edit.pause_reason, state.clock.now().unix);
    let stored = state.registry.set_member(queue.id, Member { penalty, ..member })?;
    state.stored(stored.seq).await
}

/// Has the PBX put the device in, change its penalty, and pause it or not, as far as it is not so already.
async fn on_pbx(state: &AppState, id: QueueId, device: &Device, edit: MemberEdit) -> Result<()> {
    let queue = || state.registry.queues.get(id).ok_or_else(|| Problem::not_found("queue"));
    let before = queue()?;
    match (control::on_pbx(&before.value, device), edit.penalty) {
        (None, penalty) => control::join(state, &before.value, device, penalty.unwrap_or(0)).await?,
        (Some(member), Some(penalty)) if member.penalty != penalty => {
            control::set_penalty(state, &before.value, device, penalty).await?;
        }
        (Some(_), _) => {}
    }
    let joined = queue()?;
    let MemberEdit { paused, pause_reason: reason, .. } = edit;
    let is_so = control::on_pbx(&joined.value, device).is_some_and(|member| {
        member.paused == paused && (!paused || reason.is_none() || member.pause_reason == reason)
    });
    if is_so { Ok(()) } else { control::pause(state, &joined.value, device, paused, reason).await }
}

async fn shown(state: &AppState, caller: AdminOrPbx, id: QueueId) -> Result<Tagged<QueueAnswer>> {
    let row = seen(state, caller, id)?;
    Tagged::ok(state, QueueAnswer::of(state, &row.value), row.seq).await
}

/// Asterisk keeps it as a C `int`.
const PENALTY_MAX: u32 = 2_147_483_647;

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use tokio::sync::mpsc;

    use crate::http::testing::{Answer, Office};
    use crate::model::{MemberKind, MemberState, Scope};
    use crate::registry::{Command, ControlRequest, ReportedMember, ReportedQueue};

    async fn queue(office: &Office, name: &str) -> String {
        office.post("/v1/queues", &json!({"pbx": office.pbx, "name": name})).await.id().to_owned()
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
        let member = json!({"device": device, "paused": true, "pause_reason": "lunch", "since": since, "penalty": 0,
            "kind": "manual", "state": "unknown", "extension": "101", "label": null});
        assert_eq!(paused.json["members"], json!([member]));
        let preferred = office.patch(&path, &json!({"penalty": 3})).await;
        let shown = &preferred.json["members"][0];
        assert_eq!((&shown["penalty"], &shown["paused"], &shown["since"]), (&json!(3), &json!(true), &since));
        assert_eq!(put(json!({})).await.json["members"][0]["penalty"], 3, "it keeps what it has");
        assert_eq!(put(json!({"penalty": 5})).await.json["members"][0]["penalty"], 5);
        let refused = office.patch(&path, &json!({"penalty": 2_147_483_648_u32})).await;
        assert_eq!((refused.problem(), &refused.json["pointer"]), ((422, "invalid-value"), &json!("/penalty")));
        assert_eq!(office.delete(&path).await.status, 204);
        assert_eq!(office.patch(&path, &json!({"penalty": 3})).await.problem(), (404, "not-found"), "it is no member");
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

    fn member(user: &str, paused: Option<&str>) -> ReportedMember {
        ReportedMember {
            user: user.into(),
            paused: paused.is_some(),
            pause_reason: paused.map(Into::into),
            kind: MemberKind::Dynamic,
            state: MemberState::Free,
            ..ReportedMember::default()
        }
    }

    /// A queue that a feed reports, with nobody in it.
    async fn fed(office: &Office) -> String {
        let sales = ReportedQueue { name: "sales".into(), ..ReportedQueue::default() };
        office.registry.queues_reported(office.pbx, vec![sales], office.clock.now());
        office.get("/v1/queues").await.json["items"][0]["id"].as_str().unwrap().to_owned()
    }

    async fn control(office: &Office, on: bool) {
        let path = format!("/v1/pbxs/{}", office.pbx);
        assert_eq!(office.patch(&path, &json!({ "control": on })).await.status, 200);
    }

    async fn next(commands: &mut mpsc::Receiver<ControlRequest>) -> ControlRequest {
        let wait = std::time::Duration::from_secs(30);
        tokio::time::timeout(wait, commands.recv()).await.unwrap().unwrap()
    }

    async fn put(office: &Office, path: &str, body: Value) -> Answer {
        office.call("PUT", path, &office.admin, &[], Some(&body)).await
    }

    #[tokio::test]
    async fn a_change_goes_to_the_pbx_and_counts_when_its_event_confirms_it() {
        let office = Office::open().await;
        let (id, device) = (fed(&office).await, office.phone("101").await);
        control(&office, true).await;
        let mut commands = office.registry.feeds.take_control(office.pbx);
        let path = format!("/v1/queues/{id}/members/{device}");
        let pbx = async {
            let add = next(&mut commands).await;
            let (queue, user) = ("sales".to_owned(), "101".to_owned());
            assert_eq!(add.command, Command::AddMember { queue, user, name: None, penalty: 2 });
            let nobody = office.get(&format!("/v1/queues/{id}")).await;
            assert_eq!(nobody.json["members"], json!([]), "asked for is not done");
            add.done.send(Ok(())).unwrap();
            let joined = ReportedMember { penalty: 2, ..member("101", None) };
            office.registry.member_reported(office.pbx, "sales", joined, office.clock.now());
            let pause = next(&mut commands).await;
            let Command::Pause { queue, user, paused, reason } = pause.command else { panic!("{:?}", pause.command) };
            assert_eq!(
                (queue.as_deref(), &*user, paused, reason.as_deref()),
                (Some("sales"), "101", true, Some("lunch"))
            );
            pause.done.send(Ok(())).unwrap();
            let paused = ReportedMember { penalty: 2, ..member("101", Some("lunch")) };
            office.registry.member_reported(office.pbx, "sales", paused, office.clock.now());
        };
        let body = json!({"penalty": 2, "paused": true, "pause_reason": "lunch"});
        let (joined, ()) = tokio::join!(put(&office, &path, body.clone()), pbx);
        assert_eq!(joined.status, 200, "{joined:?}");
        let shown = &joined.json["members"][0];
        assert_eq!((&shown["kind"], &shown["pause_reason"]), (&json!("dynamic"), &json!("lunch")));
        assert_eq!(put(&office, &path, body).await.status, 200, "it is so already: nothing is sent");

        let pbx = async {
            let remove = next(&mut commands).await;
            assert!(matches!(&remove.command, Command::RemoveMember { user, .. } if user == "101"));
            remove.done.send(Ok(())).unwrap();
            office.registry.member_gone(office.pbx, "sales", "101", office.clock.now());
        };
        let (left, ()) = tokio::join!(office.delete(&path), pbx);
        assert_eq!(left.status, 204);
        assert!(commands.try_recv().is_err());
    }

    #[tokio::test]
    async fn the_penalty_of_a_member_is_the_pbxs_to_change_and_its_event_confirms_it() {
        let office = Office::open().await;
        let (id, device) = (fed(&office).await, office.phone("101").await);
        control(&office, true).await;
        let mut commands = office.registry.feeds.take_control(office.pbx);
        let path = format!("/v1/queues/{id}/members/{device}");
        assert_eq!(office.patch(&path, &json!({"penalty": 3})).await.problem(), (404, "not-found"), "it is no member");
        let told = |penalty| {
            let told = ReportedMember { penalty, ..member("101", Some("lunch")) };
            office.registry.member_reported(office.pbx, "sales", told, office.clock.now());
        };
        told(0);
        let (three, four) = (json!({"penalty": 3}), json!({"penalty": 4}));
        let pbx = async {
            let prefer = next(&mut commands).await;
            let (queue, user) = ("sales".to_owned(), "101".to_owned());
            assert_eq!(prefer.command, Command::SetPenalty { queue, user, penalty: 3 });
            prefer.done.send(Ok(())).unwrap();
            told(2);
            tokio::task::yield_now().await;
            told(3);
        };
        let (preferred, ()) = tokio::join!(office.patch(&path, &three), pbx);
        let shown = &preferred.json["members"][0];
        assert_eq!((&shown["penalty"], &shown["pause_reason"]), (&json!(3), &json!("lunch")), "{preferred:?}");
        assert!(commands.try_recv().is_err(), "what was not named is left alone");
        assert_eq!(office.patch(&path, &json!({"penalty": 3})).await.status, 200, "it is so already: nothing is sent");
        let accept = async { next(&mut commands).await.done.send(Ok(())).unwrap() };
        let (unsure, ()) = tokio::join!(office.patch(&path, &four), accept);
        assert_eq!(unsure.problem(), (504, "not-confirmed"));
    }

    #[tokio::test]
    async fn what_the_pbx_decides_is_refused_without_control_and_nothing_is_sent() {
        let office = Office::open().await;
        let (id, device) = (fed(&office).await, office.phone("101").await);
        let mut commands = office.registry.feeds.take_control(office.pbx);
        let path = format!("/v1/queues/{id}/members/{device}");
        let refused = put(&office, &path, json!({})).await;
        assert_eq!(refused.problem(), (409, "control-off"));
        assert!(refused.json["detail"].as_str().unwrap().contains("turn on `control`"));
        office.registry.member_reported(office.pbx, "sales", member("101", None), office.clock.now());
        assert_eq!(office.delete(&path).await.problem(), (409, "control-off"));
        assert_eq!(put(&office, &path, json!({"paused": true})).await.problem(), (409, "control-off"));
        assert!(commands.try_recv().is_err());
        // A queue the PBX has no more is nobody's but ours.
        office.registry.queues_reported(office.pbx, Vec::new(), office.clock.now());
        assert_eq!(office.delete(&path).await.status, 204);
    }

    #[tokio::test]
    async fn a_pbx_that_refuses_keeps_silent_or_is_away_is_told_apart() {
        let office = Office::open().await;
        let (id, device) = (fed(&office).await, office.phone("101").await);
        control(&office, true).await;
        let path = format!("/v1/queues/{id}/members/{device}");
        assert_eq!(put(&office, &path, json!({})).await.problem(), (503, "unavailable"), "no feed is there");
        let mut commands = office.registry.feeds.take_control(office.pbx);
        let refuse = async { next(&mut commands).await.done.send(Err("Unable to add interface".into())).unwrap() };
        let (refused, ()) = tokio::join!(put(&office, &path, json!({})), refuse);
        assert_eq!(
            (refused.problem(), &refused.json["detail"]),
            ((409, "pbx-refused"), &json!("Unable to add interface"))
        );
        let accept = async { next(&mut commands).await.done.send(Ok(())).unwrap() };
        let (unsure, ()) = tokio::join!(put(&office, &path, json!({})), accept);
        assert_eq!(unsure.problem(), (504, "not-confirmed"));
        assert_eq!(put(&office, &path, json!({})).await.problem(), (504, "not-confirmed"), "it does not even answer");
        drop(next(&mut commands).await);
        let cut = async { drop(next(&mut commands).await) };
        let (broken, ()) = tokio::join!(put(&office, &path, json!({})), cut);
        assert_eq!(broken.problem(), (503, "unavailable"));
        drop(commands);
        assert_eq!(put(&office, &path, json!({})).await.problem(), (503, "unavailable"));
        assert_eq!(office.get(&format!("/v1/queues/{id}")).await.json["members"], json!([]));
    }
}
