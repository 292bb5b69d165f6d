//! Where a PBX and what is set here differ, each difference with what to send to settle it (X11).

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use serde_json::{Value, json};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::auth::Admin;
use super::pbxs;
use super::problem::Result;
use super::query::{Cursor, Ids, Paging, Params};
use super::responses::Listing;
use super::state::AppState;
use crate::model::PbxId;
use crate::registry::{Compared, Difference, DriftKind, Side};

/// The routes of this file.
pub fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(list_drift))
}

/// A page of differences.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Drift {
    /// What there was to compare with. What no feed has told of since the start is not compared.
    compared: Compared,
    /// The differences, by kind.
    items: Vec<Drifted>,
    /// Pass it as `after` for the next page; absent on the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

/// One difference and what settles it.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Drifted {
    /// What differs.
    #[serde(flatten)]
    difference: Difference,
    /// The difference in a sentence.
    says: String,
    /// Makes what is set here what the PBX has.
    accept: Action,
    /// Makes the PBX have what is set here; only where its `control` is on.
    #[serde(skip_serializing_if = "Option::is_none")]
    instead: Option<Action>,
}

/// A request to send as it stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Action {
    /// What comes of it.
    does: String,
    /// Its method.
    method: &'static str,
    /// Where to.
    href: String,
    /// Its body; none where it has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<Value>,
}

/// List where a PBX and hookswitch differ
///
/// Extensions and queue members the PBX has and what is set here, as a list of differences. Each carries the request that
/// accepts the PBX's side, and where the PBX may be changed from here, the one that makes it follow instead.
#[utoipa::path(get, path = "/v1/pbxs/{id}/drift", tag = "pbxs", params(("id" = PbxId, Path), Paging),
    responses((status = 200, description = "A page of differences", body = Drift), Listing))]
async fn list_drift(
    State(state): State<AppState>,
    admin: Admin,
    Ids(id): Ids<PbxId>,
    Params(paging): Params<Paging>,
) -> Result<Json<Drift>> {
    let pbx = pbxs::seen(&state, admin, id)?;
    let skip: usize = paging.after(LIST)?.and_then(|place| place.parse().ok()).unwrap_or(0);
    state.stored(state.registry.gone().max(pbx.seq)).await?;
    let (mut found, compared) = state.registry.drift(id);
    found.retain(|difference| admin.0.reaches(&state, difference.account));
    let next = (found.len() > skip.saturating_add(paging.limit.0)).then(|| skip + paging.limit.0);
    let page = found.into_iter().skip(skip).take(paging.limit.0);
    let items = page.map(|difference| Drifted::of(&state, id, pbx.value.control, difference)).collect();
    Ok(Json(Drift { compared, items, next: next.map(|next| Cursor::write(LIST, &next.to_string())) }))
}

impl Drifted {
    fn of(state: &AppState, pbx: PbxId, control: bool, difference: Difference) -> Self {
        let extension = difference.extension.clone().unwrap_or_default();
        let queue_name = difference.queue_name.clone().unwrap_or_default();
        let member = difference.queue.zip(difference.device).map(|(q, d)| format!("/v1/queues/{q}/members/{d}"));
        let put_in = || {
            let put = Action::new("puts it into the PBX's queue", "PUT", member.clone()?, Some(json!({})));
            control.then_some(put)
        };
        let (says, accept, instead) = match (difference.kind, difference.only) {
            (DriftKind::Extension, _) => (
                format!("extension {extension} of the PBX has no device here"),
                Action::new(
                    "makes the device",
                    "POST",
                    "/v1/devices".into(),
                    Some(json!({"pbx": pbx, "user": extension})),
                ),
                None,
            ),
            (DriftKind::Device, _) => (
                format!("device {extension} is no extension of the PBX"),
                Action::new("deletes the device", "DELETE", href("devices", difference.device), None),
                None,
            ),
            (DriftKind::Queue, _) => (
                format!("the PBX has no queue {queue_name:?}"),
                Action::new("deletes the queue", "DELETE", href("queues", difference.queue), None),
                None,
            ),
            (DriftKind::Member, _) => (
                format!("{extension} was put into {queue_name:?} by hand and is not in the PBX's queue"),
                Action::new("takes it out here", "DELETE", member.clone().unwrap_or_default(), None),
                put_in(),
            ),
            (DriftKind::UserQueue, Side::Pbx) => {
                let leave = member
                    .clone()
                    .map(|href| Action::new("takes the phone out of the PBX's queue", "DELETE", href, None));
                (
                    format!("{extension} is in {queue_name:?} on the PBX, which is not among its user's queues"),
                    user_queues(state, &difference, true),
                    leave.filter(|_| control),
                )
            }
            (DriftKind::UserQueue, Side::Here) => (
                format!("{queue_name:?} is among a user's queues, and no phone of theirs is in it on the PBX"),
                user_queues(state, &difference, false),
                put_in(),
            ),
        };
        Self { difference, says, accept, instead }
    }
}

impl Action {
    fn new(does: &str, method: &'static str, href: String, body: Option<Value>) -> Self {
        Self { does: does.into(), method, href, body }
    }
}

/// Sets the queue among the user's, or takes it from there.
fn user_queues(state: &AppState, difference: &Difference, set: bool) -> Action {
    let user = difference.user.and_then(|user| state.registry.users.get(user));
    let mut queues = user.map(|user| user.value.queues.clone()).unwrap_or_default();
    queues.retain(|queue| Some(*queue) != difference.queue);
    queues.extend(difference.queue.filter(|_| set));
    let does = if set { "sets the queue for the user" } else { "takes the queue from the user" };
    Action::new(does, "PATCH", href("users", difference.user), Some(json!({ "queues": queues })))
}

fn href(kind: &str, id: Option<impl std::fmt::Display>) -> String {
    id.map_or_else(String::new, |id| format!("/v1/{kind}/{id}"))
}

const LIST: &str = "drift";

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use crate::http::testing::Office;
    use crate::model::MemberKind;
    use crate::registry::{ReportedMember, ReportedQueue};

    fn members(users: &[&str]) -> Vec<ReportedMember> {
        let member = |user: &&str| ReportedMember {
            user: (*user).into(),
            kind: MemberKind::Dynamic,
            ..ReportedMember::default()
        };
        users.iter().map(member).collect()
    }

    #[tokio::test]
    async fn x11_every_difference_is_settled_by_sending_what_it_says() {
        let office = Office::open().await;
        let by_hand = office.phone("103").await;
        let gone = office.phone("199").await;
        let (user, _) = office.user("ann").await;
        let helper = office.phone("104").await;
        for (user, device) in [(user, by_hand), (user, helper)] {
            assert_eq!(office.put(&format!("/v1/users/{user}/devices/{device}")).await.status, 201);
        }
        let made = async |name: &str| {
            office.post("/v1/queues", &json!({"pbx": office.pbx, "name": name})).await.id().to_owned()
        };
        let (support, _old, help) = (made("support").await, made("old").await, made("help").await);
        let member = format!("/v1/queues/{support}/members/{by_hand}");
        assert_eq!(office.call("PUT", &member, &office.admin, &[], Some(&json!({}))).await.status, 200);
        assert_eq!(office.patch(&format!("/v1/users/{user}"), &json!({"queues": [help]})).await.status, 200);

        let drift = format!("/v1/pbxs/{}/drift", office.pbx);
        let nothing = office.get(&drift).await;
        assert_eq!((nothing.items("kind").len(), &nothing.json["compared"]["queues_at"]), (0, &json!(null)));
        let now = office.clock.now();
        let extensions = ["101", "102", "103", "104"].map(String::from).to_vec();
        office.registry.endpoints_reported(office.pbx, extensions, now);
        let queue =
            |name: &str, users: &[&str]| ReportedQueue { name: name.into(), number: None, members: members(users) };
        let queues = vec![queue("support", &["101", "104"]), queue("help", &["101"])];
        office.registry.queues_reported(office.pbx, queues, now);

        let found = office.get(&drift).await;
        let kinds = ["extension", "device", "queue", "member", "user_queue", "user_queue"].map(|kind| json!(kind));
        assert_eq!(found.items("kind"), kinds, "{:#}", found.json);
        assert_eq!(found.items("extension")[..2], [json!("102"), json!("199")]);
        assert_eq!(found.items("device")[1], json!(gone));
        let first = office.get(&format!("{drift}?limit=4")).await;
        let rest = office.get(&format!("{drift}?limit=4&after={}", first.json["next"].as_str().unwrap())).await;
        assert_eq!((first.items("kind").len(), rest.items("kind").len()), (4, 2));
        assert!(found.items("instead").iter().all(Value::is_null), "the PBX may not be changed");

        for item in found.json["items"].as_array().unwrap() {
            // What settled one may have changed the user that the next one names.
            let fresh = office.get(&drift).await;
            let fresh = fresh.json["items"].as_array().unwrap().iter().find(|now| now["says"] == item["says"]).cloned();
            let accept = &fresh.unwrap()["accept"];
            let body = accept.get("body");
            let (method, href) = (accept["method"].as_str().unwrap(), accept["href"].as_str().unwrap());
            let answer = office.call(method, href, &office.admin, &[], body).await;
            assert!(answer.status < 300, "{accept} {answer:?}");
        }
        assert!(office.get(&drift).await.items("kind").is_empty());
        assert_eq!(office.get("/v1/devices?q=102").await.items("aor"), [json!("sip:102@pbx.local")]);
        assert_eq!(office.get(&format!("/v1/users/{user}")).await.json["queues"], json!([support]));
    }

    #[tokio::test]
    async fn with_control_the_pbx_may_follow_instead_and_others_see_nothing() {
        let office = Office::open().await;
        let device = office.phone("103").await;
        let queue = office.post("/v1/queues", &json!({"pbx": office.pbx, "name": "support"})).await.id().to_owned();
        let member = format!("/v1/queues/{queue}/members/{device}");
        assert_eq!(office.call("PUT", &member, &office.admin, &[], Some(&json!({}))).await.status, 200);
        assert_eq!(office.patch(&format!("/v1/pbxs/{}", office.pbx), &json!({"control": true})).await.status, 200);
        let support = ReportedQueue { name: "support".into(), number: None, members: members(&["101"]) };
        office.registry.queues_reported(office.pbx, vec![support], office.clock.now());
        let path = format!("/v1/pbxs/{}/drift", office.pbx);
        let found = office.get(&path).await;
        assert_eq!((found.items("kind"), found.items("only")), (vec![json!("member")], vec![json!("here")]));
        let instead = &found.json["items"][0]["instead"];
        assert_eq!((&instead["method"], &instead["href"]), (&json!("PUT"), &json!(member)));
        let (_, stranger) = office.stranger();
        assert_eq!(office.call("GET", &path, &stranger, &[], None).await.problem(), (404, "not-found"));
    }
}
