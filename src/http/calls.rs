//! Calls: those that go on and those that are over, and why they popped or did not.

use std::cmp::Reverse;
use std::collections::HashSet;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::auth::{Admin, AdminOrAgent, Agent};
use super::problem::{Kind, Problem, Result};
use super::query::{Cursor, Ids, Listed, Moment, Page, Paging, Params};
use super::responses::{Listing, Reading};
use super::state::AppState;
use crate::model::{AccountId, Call, CallId, DeviceId, Direction, Outcome, TrailEntry, UserId};
use crate::store::{CallFilter, StoreError};

/// The routes of this file.
pub fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(list_calls)).routes(routes!(read_call)).routes(routes!(read_trail))
}

/// Which calls to list.
#[derive(Clone, Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct CallQuery {
    /// Of this account; by default the token's own.
    account: Option<AccountId>,
    /// Those this user had to do with. An agent's token always lists its own user's.
    user: Option<UserId>,
    /// Those this device had to do with.
    device: Option<DeviceId>,
    /// Those that go this way.
    direction: Option<Direction>,
    /// Those that ended so.
    outcome: Option<Outcome>,
    /// Those that began then or later: milliseconds since 1970, or RFC 3339.
    #[param(value_type = Option<String>)]
    since: Option<Moment>,
    /// Those that began before.
    #[param(value_type = Option<String>)]
    until: Option<Moment>,
}

/// Whose part of a trail to read.
#[derive(Clone, Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct TrailQuery {
    /// Entries about this user only. An agent's token always reads its own user's.
    user: Option<UserId>,
}

/// List calls
///
/// An account's calls, newest first, those that go on among them. An agent sees those their user had to do with.
#[utoipa::path(get, path = "/v1/calls", tag = "calls", params(CallQuery, Paging),
    responses((status = 200, description = "A page of calls", body = Page<Call>), Listing))]
async fn list_calls(
    State(state): State<AppState>,
    caller: AdminOrAgent,
    Listed(query, paging): Listed<CallQuery>,
) -> Result<Json<Page<Call>>> {
    let (account, user) = match caller {
        AdminOrAgent::Admin(admin) => (admin.account(&state, query.account)?, query.user),
        AdminOrAgent::Agent(agent) => (own_account(agent, query.account)?, Some(own_user(agent, query.user)?)),
    };
    let filter = CallFilter {
        user,
        device: query.device,
        direction: query.direction,
        outcome: query.outcome,
        since: query.since.map(|Moment(at)| at),
        until: query.until.map(|Moment(at)| at),
    };
    let after = paging.after(LIST)?;
    let stored = state.registry.calls_page(account, &filter, after, paging.limit.as_u32()).await?;
    let live = state.registry.live.calls(account);
    let place = after.and_then(Place::read);
    let (items, next) = merged(stored.items, stored.next, &live, &filter, place, paging.limit.0);
    Ok(Json(Page { items, next: next.map(|next| Cursor::write(LIST, &next)) }))
}

/// Read a call
///
/// An agent may read those their user had to do with.
#[utoipa::path(get, path = "/v1/calls/{id}", tag = "calls", params(("id" = CallId, Path)),
    responses((status = 200, description = "The call", body = Call), Reading))]
async fn read_call(State(state): State<AppState>, caller: AdminOrAgent, Ids(id): Ids<CallId>) -> Result<Json<Call>> {
    seen(&state, caller, id).await.map(Json)
}

/// Explain a call's popups
///
/// The trail: why each user it concerned got, lost or did not get a popup, in the order it was decided; all on one page.
/// A call that rang no phone known here says `no_device` once it is over. It outlives neither its call nor its own shorter time.
#[utoipa::path(get, path = "/v1/calls/{id}/trail", tag = "calls", params(("id" = CallId, Path), TrailQuery),
    responses((status = 200, description = "The reasons", body = Page<TrailEntry>), Reading))]
async fn read_trail(
    State(state): State<AppState>,
    caller: AdminOrAgent,
    Ids(id): Ids<CallId>,
    Params(query): Params<TrailQuery>,
) -> Result<Json<Page<TrailEntry>>> {
    let call = seen(&state, caller, id).await?;
    let user = match caller {
        AdminOrAgent::Admin(_) => query.user,
        AdminOrAgent::Agent(agent) => Some(own_user(agent, query.user)?),
    };
    let mut items = state.registry.trail(call.id).await?;
    items.retain(|entry| user.is_none_or(|user| entry.user == Some(user)));
    Ok(Json(Page { items, next: None }))
}

async fn seen(state: &AppState, caller: AdminOrAgent, id: CallId) -> Result<Call> {
    let call = state.registry.call(id).await?;
    let call = call.filter(|call| match caller {
        AdminOrAgent::Admin(Admin(principal)) => principal.reaches(state, call.account),
        AdminOrAgent::Agent(agent) => call.account == agent.principal.account && concerns(call, agent.user),
    });
    call.ok_or_else(|| Problem::not_found("call"))
}

fn own_account(agent: Agent, named: Option<AccountId>) -> Result<AccountId> {
    let own = agent.principal.account;
    if named.is_none_or(|named| named == own) { Ok(own) } else { Err(Problem::not_found("account")) }
}

fn own_user(agent: Agent, named: Option<UserId>) -> Result<UserId> {
    let own = named.is_none_or(|named| named == agent.user);
    if own { Ok(agent.user) } else { Err(Problem::new(Kind::Forbidden, "an agent's token reads its own user's calls")) }
}

fn concerns(call: &Call, user: UserId) -> bool {
    call.users.iter().any(|of| of.user == user) || call.offers.iter().any(|offer| offer.user == user)
}

/// Where a page of calls begins: newest first, of one moment the highest id first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Place(i64, CallId);

impl Place {
    fn of(call: &Call) -> Self {
        Self(call.began_at.0, call.id)
    }

    fn read(cursor: &str) -> Option<Self> {
        let (began_at, id) = cursor.split_once('~')?;
        Some(Self(began_at.parse().ok()?, id.parse().ok()?))
    }

    fn write(self) -> String {
        format!("{}~{}", self.0, self.1)
    }
}

/// A stored page with the live calls that belong on it. Memory knows a live call better than the database does.
fn merged(
    stored: Vec<Call>,
    next: Option<String>,
    live: &[Arc<Call>],
    filter: &CallFilter,
    after: Option<Place>,
    limit: usize,
) -> (Vec<Call>, Option<String>) {
    let end = next.as_ref().and(stored.last()).map(Place::of);
    let known: HashSet<CallId> = live.iter().map(|call| call.id).collect();
    let on_page = live.iter().filter(|call| {
        let place = Place::of(call);
        after.is_none_or(|after| place < after) && end.is_none_or(|end| place >= end) && fits(call, filter)
    });
    let mut items: Vec<Call> = stored.into_iter().filter(|call| !known.contains(&call.id)).collect();
    items.extend(on_page.map(|call| Call::clone(call)));
    items.sort_by_key(|call| Reverse(Place::of(call)));
    if items.len() > limit {
        items.truncate(limit);
        let next = items.last().map(|call| Place::of(call).write());
        return (items, next);
    }
    (items, next)
}

fn fits(call: &Call, filter: &CallFilter) -> bool {
    let has = |device| {
        [call.caller.device, call.callee.device].contains(&Some(device))
            || call.legs.iter().any(|leg| leg.device == Some(device))
            || call.users.iter().any(|user| user.device == device)
    };
    filter.user.is_none_or(|user| call.users.iter().any(|of| of.user == user))
        && filter.device.is_none_or(has)
        && filter.direction.is_none_or(|direction| call.direction == direction)
        && filter.outcome.is_none_or(|outcome| call.outcome == Some(outcome))
        && filter.since.is_none_or(|since| call.began_at >= since)
        && filter.until.is_none_or(|until| call.began_at < until)
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Cursor => Self::parameter("after", "this is no cursor of this list; take it from `next`"),
            error => {
                tracing::error!(%error, "a question about the past could not be answered");
                Self::new(Kind::Unavailable, "the database can't answer now")
            }
        }
    }
}

const LIST: &str = "calls";

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use crate::http::testing::Office;
    use crate::model::{Call, CallState, Outcome, Reason, TrailEntry, UserId};

    fn ended(office: &Office, mut call: Call, outcome: Outcome) -> Call {
        call.state = CallState::Ended;
        call.ended_at = Some(office.clock.now().unix);
        call.outcome = Some(outcome);
        call.offers.clear();
        office.change(call.clone());
        call
    }

    fn entry(call: &Call, position: u32, user: UserId, reason: Reason) -> TrailEntry {
        TrailEntry {
            call: call.id,
            position,
            at: call.began_at,
            user: Some(user),
            reason,
            device: None,
            queue: None,
            sessions: 0,
            event: "180 Ringing".into(),
        }
    }

    #[tokio::test]
    async fn live_and_past_calls_are_one_list_newest_first_over_pages() {
        let office = Office::open().await;
        let device = office.phone("204").await;
        let (user, _) = office.user("ann").await;
        let mut expected = Vec::new();
        for n in 0..7 {
            office.clock.advance(Duration::from_secs(1));
            let call = office.ring(device, user);
            expected.insert(0, json!(call.id));
            if n % 2 == 0 {
                ended(&office, call, Outcome::Missed);
            }
        }
        let mut ids = Vec::new();
        let mut path = "/v1/calls?limit=2".to_owned();
        loop {
            let page = office.get(&path).await;
            ids.extend(page.items("id"));
            let Some(next) = page.json["next"].as_str() else { break };
            path = format!("/v1/calls?limit=2&after={next}");
        }
        assert_eq!(ids, expected);
    }

    #[tokio::test]
    async fn calls_are_filtered_by_user_device_direction_outcome_and_time() {
        let office = Office::open().await;
        let (first, second) = (office.phone("204").await, office.phone("205").await);
        let ((ann, _), (bob, _)) = (office.user("ann").await, office.user("bob").await);
        let began = office.clock.now().unix;
        let missed = ended(&office, office.ring(first, ann), Outcome::Missed).id;
        office.clock.advance(Duration::from_mins(1));
        let later = office.clock.now().unix;
        let live = office.ring(second, bob).id;
        for (query, found) in [
            (format!("user={ann}"), vec![missed]),
            (format!("user={bob}"), vec![live]),
            (format!("device={second}"), vec![live]),
            (format!("user={ann}&device={second}"), vec![]),
            ("direction=inbound".into(), vec![live, missed]),
            ("direction=outbound".into(), vec![]),
            ("outcome=missed".into(), vec![missed]),
            (format!("since={}", later.0), vec![live]),
            (format!("until={}", later.0), vec![missed]),
            (format!("since={}&until={}", began.0, later.0 + 1), vec![live, missed]),
        ] {
            let ids = office.get(&format!("/v1/calls?{query}")).await.items("id");
            assert_eq!(ids, found.iter().map(|id| json!(id)).collect::<Vec<_>>(), "{query}");
        }
        assert_eq!(office.get("/v1/calls?outcome=lost").await.problem(), (400, "bad-request"));
        assert_eq!(office.get("/v1/calls?since=noon").await.problem(), (400, "bad-request"));
    }

    #[tokio::test]
    async fn x3_the_trail_says_why_in_order_and_an_agent_reads_their_own_part() {
        let office = Office::open().await;
        let device = office.phone("204").await;
        let ((ann, agent), (bob, other)) = (office.user("ann").await, office.user("bob").await);
        let call = office.ring(device, ann);
        office.registry.record_trail(entry(&call, 2, bob, Reason::QueueNotSet));
        office.registry.record_trail(entry(&call, 1, ann, Reason::Offered));
        let path = format!("/v1/calls/{}/trail", call.id);
        let trail = office.get(&path).await;
        assert_eq!(trail.items("reason"), [json!("offered"), json!("queue_not_set")]);
        assert_eq!(office.get(&format!("{path}?user={bob}")).await.items("reason"), [json!("queue_not_set")]);
        let own = office.call("GET", &path, &agent, &[], None).await;
        assert_eq!(own.items("reason"), [json!("offered")]);
        let foreign = office.call("GET", &format!("{path}?user={bob}"), &agent, &[], None).await;
        assert_eq!(foreign.problem(), (403, "forbidden"));
        assert_eq!(office.call("GET", &path, &other, &[], None).await.problem(), (404, "not-found"));
    }

    #[tokio::test]
    async fn an_agent_sees_the_calls_of_their_own_user_only() {
        let office = Office::open().await;
        let device = office.phone("204").await;
        let ((ann, agent), (bob, other)) = (office.user("ann").await, office.user("bob").await);
        let call = office.ring(device, ann);
        let path = format!("/v1/calls/{}", call.id);
        assert_eq!(office.call("GET", &path, &agent, &[], None).await.json, json!(call));
        assert_eq!(office.call("GET", "/v1/calls", &agent, &[], None).await.items("id"), [json!(call.id)]);
        assert_eq!(office.call("GET", &path, &other, &[], None).await.problem(), (404, "not-found"));
        assert!(office.call("GET", "/v1/calls", &other, &[], None).await.items("id").is_empty());
        let asked = office.call("GET", &format!("/v1/calls?user={bob}"), &agent, &[], None).await;
        assert_eq!(asked.problem(), (403, "forbidden"));
    }

    #[tokio::test]
    async fn calls_of_another_account_are_not_there() {
        let office = Office::open().await;
        let device = office.phone("204").await;
        let (user, _) = office.user("ann").await;
        let live = office.ring(device, user);
        let past = ended(&office, office.ring(device, user), Outcome::Missed);
        let (_, stranger) = office.stranger();
        for id in [live.id, past.id] {
            for path in [format!("/v1/calls/{id}"), format!("/v1/calls/{id}/trail")] {
                assert_eq!(office.call("GET", &path, &stranger, &[], None).await.problem(), (404, "not-found"));
                assert_eq!(office.get(&path).await.status, 200);
            }
        }
        let of_user = format!("/v1/calls?user={user}");
        assert!(office.call("GET", &of_user, &stranger, &[], None).await.items("id").is_empty());
        let after = super::Cursor::write("calls", "nonsense");
        assert_eq!(office.get(&format!("/v1/calls?after={after}")).await.problem(), (400, "bad-request"));
    }
}
