//! Popups: mine, as they are and as they change, and those a call would cause.

use axum::Json;
use axum::extract::{Request, State};
use axum::response::Response;
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::auth::{Admin, Agent};
use super::body::Body;
use super::problem::{Problem, Result};
use super::query::{Page, Params};
use super::responses::{Asking, Reading, Streaming};
use super::sse;
use super::state::AppState;
use super::values;
use crate::model::{AccountId, Direction, Offer, UserId};
use crate::registry::streams::StreamKey;
use crate::switchboard::{PreviewQuestion, PreviewRow, preview};

/// The routes of this file.
pub fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(list_my_popups))
        .routes(routes!(stream_my_popups))
        .routes(routes!(preview_popups))
}

/// Who would pop for a call.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Preview {
    /// Which way the call would go.
    direction: Direction,
    /// What would happen to everyone it concerns.
    rows: Vec<PreviewRow>,
}

/// Whose rules to go by.
#[derive(Clone, Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct PreviewQuery {
    /// The account the call would belong to; by default the PBX's.
    account: Option<AccountId>,
}

/// List my popups
///
/// What belongs on my screen at this moment, oldest first; all on one page.
#[utoipa::path(get, path = "/v1/me/popups", tag = "popups",
    responses((status = 200, description = "My open offers", body = Page<Offer>), Reading))]
async fn list_my_popups(State(state): State<AppState>, me: Agent) -> Json<Page<Offer>> {
    Json(Page { items: state.registry.live.offers_of(me.user), next: None })
}

/// Watch my popups
///
/// Server-sent events. `snapshot` (`{"offers": [...]}`) comes first and after a gap, and replaces everything on the
/// screen. `offer` is one offer as it now is: show it while its `state` is `offered` or `answered`, take it off when it is
/// `rescinded` or `ended`, and by yourself at its `expires_at`; of two with the same `id` the higher `version` counts.
/// Send `Last-Event-ID` when you come back: what you missed is replayed, or a snapshot says that it can't be. A comment
/// every 15 s shows that the stream lives.
#[utoipa::path(get, path = "/v1/me/popups/stream", tag = "popups",
    params(("Last-Event-ID" = Option<String>, Header, description = "The `id` of the last event received")),
    responses((status = 200, description = "Events `snapshot` and `offer`", body = String,
        content_type = "text/event-stream"), Streaming))]
async fn stream_my_popups(State(state): State<AppState>, me: Agent, request: Request) -> Result<Response> {
    let (parts, _) = request.into_parts();
    let subscription = state.registry.streams.subscribe(StreamKey::User(me.user), sse::last_event_id(&parts))?;
    let (watched, heartbeat, clock) = (state.clone(), state.settings.heartbeat, state.clock.clone());
    let alive = move || me.principal.stands(&watched);
    Ok(sse::respond(subscription, clock, heartbeat, alive, move || snapshot(&state, me.user)))
}

/// Preview popups
///
/// A dry run: who would pop for this call, when, and why not the others. By the very rules that route real calls; nothing
/// is changed and nobody sees it.
#[utoipa::path(post, path = "/v1/popups/preview", tag = "popups", params(PreviewQuery), request_body = PreviewQuestion,
    responses((status = 200, description = "What would happen", body = Preview), Asking))]
async fn preview_popups(
    State(state): State<AppState>,
    admin: Admin,
    Params(query): Params<PreviewQuery>,
    Body(question): Body<PreviewQuestion>,
) -> Result<Json<Preview>> {
    let registry = &state.registry;
    let pbx = registry.pbxs.get(question.pbx).map(|pbx| pbx.value.account);
    let pbx = pbx.filter(|account| admin.0.reaches(&state, *account));
    let account = admin.account(&state, query.account.or(pbx))?;
    if !pbx.is_some_and(|pbx| registry.account_within(account, pbx)) {
        return Err(Problem::invalid("/pbx", "the account has no such PBX"));
    }
    if let Some(queue) = question.queue {
        let known = registry.queues.get(queue).is_some_and(|queue| queue.value.account == account);
        known.then_some(()).ok_or_else(|| Problem::invalid("/queue", "the account has no such queue"))?;
    }
    values::list("/devices", &question.devices)?;
    for (index, device) in question.devices.iter().enumerate() {
        let known = registry.device(*device).is_some_and(|view| view.device.account == account);
        known
            .then_some(())
            .ok_or_else(|| Problem::invalid(format!("/devices/{index}"), "the account has no such device"))?;
    }
    let (direction, rows) = preview(registry.as_ref(), account, &question);
    Ok(Json(Preview { direction, rows }))
}

fn snapshot(state: &AppState, user: UserId) -> serde_json::Value {
    json!({ "offers": state.registry.live.offers_of(user) })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use crate::http::testing::Office;
    use crate::model::{Call, OfferState, RescindReason};

    const STREAM: &str = "/v1/me/popups/stream";

    fn answered(mut call: Call) -> Call {
        call.offers[0].state = OfferState::Answered;
        call.offers[0].version += 1;
        call
    }

    #[tokio::test]
    async fn a_popup_is_in_the_snapshot_and_changes_come_as_events() {
        let office = Office::open().await;
        let device = office.phone("204").await;
        let (user, agent) = office.user("ann").await;
        let call = office.ring(device, user);
        let mut stream = office.stream(STREAM, &agent, &[]).await;
        let (_, kind, data) = stream.next().await.unwrap();
        assert_eq!((kind.as_str(), &data["offers"]), ("snapshot", &json!(call.offers)));
        let listed = office.call("GET", "/v1/me/popups", &agent, &[], None).await;
        assert_eq!(listed.json["items"], json!(call.offers));
        let call = answered(call);
        office.change(call.clone());
        let (_, kind, data) = stream.next().await.unwrap();
        assert_eq!((kind.as_str(), data), ("offer", json!(call.offers[0])));
    }

    #[tokio::test]
    async fn a_client_that_comes_back_gets_what_it_missed_and_after_a_gap_a_snapshot() {
        let office = Office::open().await;
        let device = office.phone("204").await;
        let (user, agent) = office.user("ann").await;
        let mut stream = office.stream(STREAM, &agent, &[]).await;
        let (last, ..) = stream.next().await.unwrap();
        drop(stream);
        let mut call = office.ring(device, user);
        let mut stream = office.stream(STREAM, &agent, &[("last-event-id", &last)]).await;
        let (last, kind, data) = stream.next().await.unwrap();
        assert_eq!((kind.as_str(), &data["state"]), ("offer", &json!("offered")));
        drop(stream);
        for _ in 0..100 {
            call.offers[0].version += 1;
            office.change(call.clone());
        }
        let mut stream = office.stream(STREAM, &agent, &[("last-event-id", &last)]).await;
        let (_, kind, data) = stream.next().await.unwrap();
        assert_eq!((kind.as_str(), &data["offers"][0]["version"]), ("snapshot", &json!(101)));
    }

    #[tokio::test]
    async fn a_closed_offer_is_told_and_leaves_the_list() {
        let office = Office::open().await;
        let device = office.phone("204").await;
        let (user, agent) = office.user("ann").await;
        let mut stream = office.stream(STREAM, &agent, &[]).await;
        stream.next().await.unwrap();
        let mut call = office.ring(device, user);
        call.offers[0].state = OfferState::Rescinded;
        call.offers[0].reason = Some(RescindReason::CallerHangup);
        office.change(call);
        let (shown, closed) = (stream.next().await.unwrap().2, stream.next().await.unwrap().2);
        assert_eq!((&shown["state"], &closed["state"]), (&json!("offered"), &json!("rescinded")));
        assert_eq!(closed["reason"], "caller_hangup");
        assert!(office.call("GET", "/v1/me/popups", &agent, &[], None).await.items("id").is_empty());
    }

    #[tokio::test]
    async fn one_user_never_sees_the_popups_of_another() {
        let office = Office::open().await;
        let device = office.phone("204").await;
        let ((ann, agent), (_, other)) = (office.user("ann").await, office.user("bob").await);
        let mut stream = office.stream(STREAM, &other, &[]).await;
        assert_eq!(stream.next().await.unwrap().2, json!({"offers": []}));
        office.ring(device, ann);
        assert!(office.call("GET", "/v1/me/popups", &other, &[], None).await.items("id").is_empty());
        assert_eq!(office.call("GET", "/v1/me/popups", &agent, &[], None).await.items("id").len(), 1);
        let quiet = tokio::time::timeout(std::time::Duration::from_millis(150), stream.next()).await;
        assert!(quiet.is_err(), "{quiet:?}");
    }

    #[tokio::test]
    async fn a_stream_ends_when_its_token_is_deleted_and_their_number_is_bounded() {
        let office = Office::open().await;
        let (user, agent) = office.user("ann").await;
        let mut streams = Vec::new();
        for _ in 0..16 {
            let mut stream = office.stream(STREAM, &agent, &[]).await;
            assert_eq!(stream.next().await.unwrap().1, "snapshot");
            streams.push(stream);
        }
        assert_eq!(office.registry.streams.sessions(user), 16);
        let refused = office.call("GET", STREAM, &agent, &[], None).await;
        assert_eq!(refused.problem(), (429, "too-many-streams"));
        let tokens = office.get(&format!("/v1/tokens?user={user}")).await.items("id");
        assert_eq!(office.delete(&format!("/v1/tokens/{}", tokens[0].as_str().unwrap())).await.status, 204);
        for mut stream in streams {
            assert!(stream.next().await.is_none());
        }
        assert_eq!(office.registry.streams.sessions(user), 0);
    }

    #[tokio::test]
    async fn x9_a_dry_run_says_who_would_pop_and_why_not_the_others() {
        let office = Office::open().await;
        let (first, second) = (office.phone("204").await, office.phone("205").await);
        let ((ann, _), (bob, _)) = (office.user("ann").await, office.user("bob").await);
        let queue = office.post("/v1/queues", &json!({"pbx": office.pbx, "name": "sales", "number": "800"})).await;
        for (user, device) in [(ann, first), (bob, second)] {
            office.put(&format!("/v1/users/{user}/devices/{device}")).await;
            let member = format!("/v1/queues/{}/members/{device}", queue.id());
            office.call("PUT", &member, &office.admin, &[], Some(&json!({}))).await;
        }
        office.patch(&format!("/v1/users/{ann}"), &json!({"queues": [queue.id()]})).await;
        let question = json!({"pbx": office.pbx, "caller": "+14155550123", "dialled": "800"});
        let preview = office.post("/v1/popups/preview", &question).await;
        assert_eq!((preview.status, &preview.json["direction"]), (200, &json!("inbound")), "{preview:?}");
        let ring = |user| -> Value {
            let rows = preview.json["rows"].as_array().unwrap();
            rows.iter().find(|row| row["user"] == json!(user)).unwrap()["on_ring"].clone()
        };
        assert_eq!((ring(ann), ring(bob)), (json!("offered"), json!("queue_not_set")));
        office.patch(&format!("/v1/users/{ann}"), &json!({"dnd": true})).await;
        let preview = office.post("/v1/popups/preview", &question).await.json;
        assert!(preview["rows"].as_array().unwrap().iter().any(|row| row["on_ring"] == "dnd"));
    }

    #[tokio::test]
    async fn a_dry_run_refuses_what_is_not_the_accounts() {
        let office = Office::open().await;
        office.phone("204").await;
        let (_, stranger) = office.stranger();
        let question = json!({"pbx": office.pbx, "dialled": "204"});
        let foreign = office.call("POST", "/v1/popups/preview", &stranger, &[], Some(&question)).await;
        assert_eq!((foreign.problem(), &foreign.json["pointer"]), ((422, "invalid-value"), &json!("/pbx")));
        let account = format!("/v1/popups/preview?account={}", office.account);
        let foreign = office.call("POST", &account, &stranger, &[], Some(&question)).await;
        assert_eq!(foreign.problem(), (404, "not-found"));
        for (question, pointer) in [
            (json!({"pbx": office.account}), "/pbx"),
            (json!({"pbx": office.pbx, "queue": office.account}), "/queue"),
            (json!({"pbx": office.pbx, "devices": [office.account]}), "/devices/0"),
        ] {
            let refused = office.post("/v1/popups/preview", &question).await;
            assert_eq!((refused.problem().0, refused.json["pointer"].as_str()), (422, Some(pointer)));
        }
    }
}
