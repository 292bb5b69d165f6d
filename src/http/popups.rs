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
