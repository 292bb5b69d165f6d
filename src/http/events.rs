//! What the admins of an account may watch.

use axum::extract::{Request, State};
use axum::response::Response;
use serde::Deserialize;
use serde_json::json;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::auth::Admin;
use super::problem::Result;
use super::query::Params;
use super::responses::Streaming;
use super::sse;
use super::state::AppState;
use crate::model::AccountId;
use crate::registry::streams::StreamKey;

/// The routes of this file.
pub fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(stream_events))
}

/// Which account to watch.
#[derive(Clone, Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct EventQuery {
    /// This account; by default the token's own.
    account: Option<AccountId>,
}

/// Watch an account
///
/// Server-sent events. `snapshot` comes first and after a gap, and replaces what is shown: `counts` of devices, users,
/// queues and live calls, and the newest live `calls`. Then `device.created`, `device.up`, `device.down`,
/// `device.updated`, `device.deleted`, `device.linked`, `device.unlinked`, `user.*`, `queue.*`, `pbx.*`, `site.*`,
/// `account.*`, `token.*` and what happens to calls and offers. Send `Last-Event-ID` when you come back. A comment every
/// 15 s shows that the stream lives.
#[utoipa::path(get, path = "/v1/events", tag = "events",
    params(EventQuery, ("Last-Event-ID" = Option<String>, Header, description = "The `id` of the last event received")),
    responses((status = 200, description = "Events", body = String, content_type = "text/event-stream"), Streaming))]
async fn stream_events(
    State(state): State<AppState>,
    admin: Admin,
    Params(query): Params<EventQuery>,
    request: Request,
) -> Result<Response> {
    let account = admin.account(&state, query.account)?;
    let (parts, _) = request.into_parts();
    let subscription = state.registry.streams.subscribe(StreamKey::Account(account), sse::last_event_id(&parts))?;
    let (watched, heartbeat, clock) = (state.clone(), state.settings.heartbeat, state.clock.clone());
    let alive = move || admin.0.stands(&watched) && admin.account(&watched, Some(account)).is_ok();
    Ok(sse::respond(subscription, clock, heartbeat, alive, move || snapshot(&state, account)))
}

fn snapshot(state: &AppState, account: AccountId) -> serde_json::Value {
    let registry = &state.registry;
    let mut calls = registry.live.calls(account);
    let live = calls.len();
    calls.sort_by_key(|call| (std::cmp::Reverse(call.began_at), call.id));
    calls.truncate(CALLS_MAX);
    json!({
        "account": account,
        "counts": {
            "devices": registry.device_count(account),
            "users": registry.users.count(account),
            "queues": registry.queues.count(account),
            "calls": live,
        },
        "calls": calls.iter().map(AsRef::as_ref).collect::<Vec<_>>(),
    })
}

/// Live calls a snapshot shows; `counts.calls` tells how many there are.
const CALLS_MAX: usize = 1_000;
