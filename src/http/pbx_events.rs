//! What PBXs post: CloudEvents 1.0, one or a batch.

use axum::Json;
use axum::extract::{FromRequest, Request, State};
use axum::http::StatusCode;
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::auth::AdminOrPbx;
use super::body;
use super::problem::{Kind, Problem, Result};
use super::query::Ids;
use super::responses::Posting;
use super::state::AppState;
use crate::ingest::webhook::{Report, Taken, Unreadable};
use crate::model::PbxId;

/// The routes of this file.
pub fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(post_events))
}

/// A CloudEvent (1.0, JSON). Attributes that are not named here are taken and ignored.
#[derive(Clone, Debug, ToSchema)]
#[expect(dead_code, reason = "for the document; an event is read by hand so that each mistake has its pointer")]
pub struct CloudEvent {
    /// `1.0`.
    #[schema(example = "1.0")]
    specversion: String,
    /// Unique within `source`: an event posted again is applied once.
    #[schema(example = "7f3c-1")]
    id: String,
    /// Who posts, as a URI reference.
    #[schema(example = "/pbx/main")]
    source: String,
    #[schema(inline)]
    #[serde(flatten)]
    report: Report,
}

/// One event, or several that are applied in their order.
#[derive(Clone, Debug, ToSchema)]
#[serde(untagged)]
pub enum CloudEvents {
    /// One.
    One(Box<CloudEvent>),
    /// Several, at most 1000.
    Batch(Vec<CloudEvent>),
}

/// What became of each event, in their order.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct EventsTaken {
    results: Vec<EventTaken>,
}

/// What became of one event.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct EventTaken {
    /// Its id, if it could be read.
    id: Option<String>,
    /// What became of it.
    result: Taken,
    /// When refused: JSON pointer into the event.
    #[serde(skip_serializing_if = "Option::is_none")]
    pointer: Option<String>,
    /// When refused: what is wrong there.
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
}

/// Post events of a PBX
///
/// CloudEvents 1.0 in JSON: one (`application/cloudevents+json`) or a batch (`application/cloudevents-batch+json`);
/// plain `application/json` is taken for either. They are applied in their order. One whose `source` and `id` were
/// applied within the last day is a duplicate and changes nothing, so post again whatever you got no answer for. A single
/// event that can't be read is a 400; in a batch each event is answered for itself. As with every feed that watches a
/// PBX, what is applied is in memory at once and stored as soon as it can be: this 202 does not wait for the database.
#[utoipa::path(post, path = "/v1/pbxs/{id}/events", tag = "pbxs", params(("id" = PbxId, Path)),
    request_body(content((CloudEvent = "application/cloudevents+json"),
        (Vec<CloudEvent> = "application/cloudevents-batch+json"), (CloudEvents = "application/json"))),
    responses((status = 202, description = "What became of each event", body = EventsTaken), Posting))]
async fn post_events(
    State(state): State<AppState>,
    caller: AdminOrPbx,
    Ids(id): Ids<PbxId>,
    Posted(events): Posted,
) -> Result<(StatusCode, Json<EventsTaken>)> {
    let pbx = state.registry.pbxs.get(id).filter(|pbx| caller.reaches(&state, pbx.value.account, id));
    pbx.ok_or_else(|| Problem::not_found("PBX"))?;
    let take = |event: Value| take(&state, id, event);
    let results = match events {
        Value::Array(events) => events.into_iter().map(take).collect(),
        event => {
            let taken = take(event);
            match taken.result {
                Taken::Refused => {
                    let detail = taken.detail.unwrap_or_default();
                    return Err(Problem::new(Kind::BadBody, detail).at(taken.pointer.unwrap_or_default()));
                }
                Taken::Busy => return Err(Problem::new(Kind::Unavailable, "the PBX's site is behind; post it again")),
                Taken::Applied | Taken::Duplicate => vec![taken],
            }
        }
    };
    Ok((StatusCode::ACCEPTED, Json(EventsTaken { results })))
}

/// The JSON of a request that posts events: an object, or an array of at most [`BATCH_MAX`].
struct Posted(Value);

impl<S: Send + Sync> FromRequest<S> for Posted {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self> {
        let value = body::value(request, state, &MEDIA_TYPES).await?;
        match &value {
            Value::Array(events) if events.len() > BATCH_MAX => {
                Err(Problem::new(Kind::TooLarge, format!("a batch has at most {BATCH_MAX} events")))
            }
            Value::Object(_) | Value::Array(_) => Ok(Self(value)),
            _ => Err(Problem::new(Kind::BadBody, "the body must be an event, or an array of events").at("")),
        }
    }
}

fn take(state: &AppState, pbx: PbxId, event: Value) -> EventTaken {
    let id = event.get("id").and_then(Value::as_str).map(str::to_owned);
    match read(event) {
        Ok((source, id, report)) => {
            let result = state.webhook.take(pbx, &source, &id, report, state.clock.now());
            let detail = (result == Taken::Refused).then(|| "the user or its domain is none of this PBX's".to_owned());
            EventTaken { id: Some(id), result, pointer: detail.as_ref().map(|_| "/data/user".to_owned()), detail }
        }
        Err((pointer, detail)) => {
            metrics::counter!("hookswitch_dropped_total", "where" => "webhook", "reason" => "unreadable").increment(1);
            EventTaken { id, result: Taken::Refused, pointer: Some(pointer), detail: Some(detail) }
        }
    }
}

/// Source, id and report of a CloudEvent; else where it is wrong, as a JSON pointer into it, and how.
///
/// # Errors
/// When an attribute is missing, or its data does not fit its type.
pub fn read(mut event: Value) -> std::result::Result<(String, String, Report), (String, String)> {
    if event.get("specversion").and_then(Value::as_str) != Some("1.0") {
        return Err(("/specversion".into(), "must be \"1.0\"".into()));
    }
    let text = |name: &str| {
        let text = event.get(name).and_then(Value::as_str).filter(|text| !text.is_empty() && text.len() <= TEXT_MAX);
        let wrong = || (format!("/{name}"), format!("must be a string of 1 to {TEXT_MAX} bytes"));
        text.map(str::to_owned).ok_or_else(wrong)
    };
    let (id, source, kind) = (text("id")?, text("source")?, text("type")?);
    let data = event.get_mut("data").map(Value::take).unwrap_or_default();
    match Report::read(&kind, data) {
        Ok(report) => Ok((source, id, report)),
        Err(error) => {
            let pointer = match &error {
                Unreadable::Type => "/type".to_owned(),
                Unreadable::Data(error) => format!("/data{}", body::pointer(error.path())),
            };
            Err((pointer, error.to_string()))
        }
    }
}

const MEDIA_TYPES: [&str; 3] =
    ["application/cloudevents+json", "application/cloudevents-batch+json", "application/json"];
const BATCH_MAX: usize = 1_000;
const TEXT_MAX: usize = 512;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::http::testing::{Answer, Office};
    use crate::model::Scope;

    fn event(id: &str, kind: &str, data: &Value) -> Value {
        json!({ "specversion": "1.0", "id": id, "source": "/pbx/main", "type": kind, "data": data })
    }

    async fn post(office: &Office, body: &Value) -> Answer {
        let token = office.token(office.account, Scope::Pbx, None, Some(office.pbx));
        office.call("POST", &format!("/v1/pbxs/{}/events", office.pbx), &token, &[], Some(body)).await
    }

    fn results(answer: &Answer) -> Vec<&str> {
        assert_eq!(answer.status, 202, "{answer:?}");
        answer.json["results"].as_array().unwrap().iter().map(|row| row["result"].as_str().unwrap()).collect()
    }

    async fn until<T>(mut found: impl AsyncFnMut() -> Option<T>) -> T {
        for _ in 0..500 {
            if let Some(value) = found().await {
                return value;
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        panic!("it does not come");
    }

    #[tokio::test]
    async fn posted_events_register_a_phone_and_pop_the_screen_of_who_has_it_once() {
        let office = Office::open().await;
        let registered = event("1", "pbx.device.registered", &json!({ "user": "101", "expires_s": 600 }));
        assert_eq!(results(&post(&office, &registered).await), ["applied"]);
        let devices = office.get("/v1/devices").await;
        assert_eq!(devices.json["items"][0]["state"], "connected");
        let device = devices.json["items"][0]["id"].as_str().unwrap().to_owned();
        let (ann, token) = office.user("ann").await;
        office.put(&format!("/v1/users/{ann}/devices/{device}")).await;
        let caller = json!({ "number": "+14155550100" });
        let batch = json!([
            event(
                "2",
                "pbx.leg.started",
                &json!({ "leg": "a", "call": "c", "direction": "to_pbx", "to": "101", "caller": caller })
            ),
            event(
                "3",
                "pbx.leg.started",
                &json!({ "leg": "b", "call": "c", "direction": "from_pbx", "device": "101", "to": "101", "caller": caller })
            ),
            event("4", "pbx.leg.ringing", &json!({ "leg": "b" })),
        ]);
        assert_eq!(results(&post(&office, &batch).await), ["applied"; 3]);
        assert_eq!(results(&post(&office, &batch).await), ["duplicate"; 3]);
        let offers = async || {
            let me = office.call("GET", "/v1/me/popups", &token, &[], None).await;
            let items = me.json.as_array().or_else(|| me.json["items"].as_array()).cloned().unwrap_or_default();
            (!items.is_empty()).then_some(items)
        };
        let offers = until(offers).await;
        assert_eq!((offers.len(), &offers[0]["caller"]["number"]), (1, &json!("+14155550100")));
        let end = event("5", "pbx.leg.ended", &json!({ "leg": "a", "end": { "how": "cancelled" } }));
        let gone = event("6", "pbx.leg.ended", &json!({ "leg": "b", "end": { "how": "rejected", "status": 487 } }));
        assert_eq!(results(&post(&office, &json!([end, gone])).await), ["applied"; 2]);
        let call = until(async || {
            let calls = office.get("/v1/calls").await;
            calls.json["items"].get(0).filter(|call| call["state"] == "ended").cloned()
        });
        assert_eq!(call.await["outcome"], "missed");
    }

    #[tokio::test]
    async fn queues_and_their_members_are_reported_whole_or_one_by_one() {
        let office = Office::open().await;
        let whole = event(
            "1",
            "pbx.queue",
            &json!({ "queue": "sales", "number": "600", "members": [{ "user": "101" }, { "user": "102", "paused": true }] }),
        );
        let change =
            event("2", "pbx.queue.member", &json!({ "queue": "sales", "member": { "user": "103", "penalty": 5 } }));
        let gone = event("3", "pbx.queue.member_removed", &json!({ "queue": "sales", "user": "102" }));
        assert_eq!(results(&post(&office, &json!([whole, change, gone])).await), ["applied"; 3]);
        let queues = office.get("/v1/queues").await;
        let members = queues.json["items"][0]["members"].as_array().unwrap();
        let mut penalties: Vec<_> = members.iter().map(|member| member["penalty"].as_u64().unwrap()).collect();
        penalties.sort_unstable();
        assert_eq!(penalties, [0, 5]);
    }

    #[tokio::test]
    async fn each_mistake_is_named_and_a_bad_event_does_not_spoil_its_batch() {
        let office = Office::open().await;
        let unknown = event("1", "pbx.leg.exploded", &json!({}));
        let missing = event("2", "pbx.leg.ringing", &json!({ "legg": "a" }));
        let wrong = event("3", "pbx.queue", &json!({ "queue": "sales", "members": [{ "user": 101 }] }));
        let old = json!({ "specversion": "0.3", "id": "4", "source": "/", "type": "pbx.legs", "data": { "legs": [] } });
        let good = event("5", "pbx.legs", &json!({ "legs": [] }));
        let answer = post(&office, &json!([unknown, missing, wrong, old, good])).await;
        assert_eq!(results(&answer), ["refused", "refused", "refused", "refused", "applied"]);
        let pointers: Vec<_> = answer.json["results"].as_array().unwrap().iter().map(|row| &row["pointer"]).collect();
        assert_eq!(
            pointers[..4],
            [&json!("/type"), &json!("/data/legg"), &json!("/data/members/0/user"), &json!("/specversion")]
        );
        let single = post(&office, &unknown).await;
        assert_eq!((single.problem(), &single.json["pointer"]), ((400, "bad-body"), &json!("/type")));
        let many = Value::Array(vec![good; 1_001]);
        assert_eq!(post(&office, &many).await.status, 413);
    }

    #[tokio::test]
    async fn only_the_pbx_itself_and_its_admins_may_post() {
        let office = Office::open().await;
        let (_, stranger) = office.stranger();
        let (_, agent) = office.user("ann").await;
        let body = event("1", "pbx.legs", &json!({ "legs": [] }));
        let path = format!("/v1/pbxs/{}/events", office.pbx);
        for (token, status) in [(&stranger, 404), (&agent, 403)] {
            assert_eq!(office.call("POST", &path, token, &[], Some(&body)).await.status, status);
        }
    }
}
