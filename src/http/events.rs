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
/// `account.*`, `token.*`; in particular `device.reachable` and `device.unreachable`, `queue.member_added`,
/// `queue.member_updated`, `queue.member_removed`, `queue.caller_joined`, `queue.caller_left`, `feed.up` and `feed.down`; and what happens to calls and offers. Send `Last-Event-ID` when you come back. A comment every
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::http::testing::Office;

    #[tokio::test]
    async fn an_admin_sees_what_is_and_then_what_changes() {
        let office = Office::open().await;
        let device = office.phone("204").await;
        let (user, _) = office.user("ann").await;
        let call = office.ring(device, user);
        let mut events = office.stream("/v1/events", &office.admin, &[]).await;
        let (_, kind, data) = events.next().await.unwrap();
        assert_eq!((kind.as_str(), &data["account"]), ("snapshot", &json!(office.account)));
        assert_eq!((&data["counts"]["devices"], &data["counts"]["calls"]), (&json!(1), &json!(1)));
        assert_eq!(data["calls"], json!([call]));
        office.put(&format!("/v1/users/{user}/devices/{device}")).await;
        office.phone("205").await;
        let mut kinds = Vec::new();
        while !["device.created", "device.linked"].iter().all(|kind| kinds.iter().any(|heard| heard == kind)) {
            let (_, kind, data) = events.next().await.unwrap();
            if kind == "device.linked" {
                assert_eq!((&data["user"], &data["device"]), (&json!(user), &json!(device)));
            }
            kinds.push(kind);
        }
    }

    #[tokio::test]
    async fn accounts_watch_themselves_and_those_below_and_nobody_else() {
        let office = Office::open().await;
        let branch = office.post("/v1/accounts", &json!({"name": "Branch"})).await.id().to_owned();
        let (other, stranger) = office.stranger();
        // Events are told once they are stored; those of the stranger's own making are not what this is about.
        office.registry.committed(office.registry.latest()).await.unwrap();
        let mut below = office.stream(&format!("/v1/events?account={branch}"), &office.admin, &[]).await;
        let mut theirs = office.stream("/v1/events", &stranger, &[]).await;
        assert_eq!(below.next().await.unwrap().2["account"], json!(branch));
        assert_eq!(theirs.next().await.unwrap().2["account"], json!(other));
        office.phone("204").await;
        assert_eq!(office.post("/v1/users", &json!({"name": "Bob", "account": branch})).await.status, 201);
        while below.next().await.unwrap().1 != "user.created" {}
        // What is told once it is stored may still come, about themselves.
        let heard = tokio::time::timeout(std::time::Duration::from_millis(150), async {
            while let Some((_, kind, data)) = theirs.next().await {
                let own = kind == "token.created" || kind == "account.created" && data["id"] == json!(other);
                assert!(own, "{kind} {data}");
            }
        });
        assert!(heard.await.is_err(), "the stream goes on");
        let path = format!("/v1/events?account={}", office.account);
        assert_eq!(office.call("GET", &path, &stranger, &[], None).await.problem(), (404, "not-found"));
        let (_, agent) = office.user("ann").await;
        assert_eq!(office.call("GET", "/v1/events", &agent, &[], None).await.problem(), (403, "forbidden"));
    }
}
