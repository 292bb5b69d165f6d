//! Event streams on the wire (`text/event-stream`, HTML Living Standard §9.2).

use std::convert::Infallible;
use std::fmt::Write as _;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::request::Parts;
use axum::http::{HeaderName, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use tokio::time::{Interval, MissedTickBehavior};

use super::problem::{Kind, Problem};
use crate::clock::Clock;
use crate::registry::streams::{Event, EventId, Next, SubscribeError, Subscription};

/// Answers with the events of `subscription` until the client leaves, the daemon stops, or `alive` says at a heartbeat
/// that the client may no longer listen. `snapshot` makes the JSON of the present state; it is asked after the place
/// in the stream was noted.
pub fn respond(
    subscription: Subscription,
    clock: Clock,
    heartbeat: Duration,
    alive: impl Fn() -> bool + Send + 'static,
    snapshot: impl Fn() -> serde_json::Value + Send + 'static,
) -> Response {
    let mut beat = tokio::time::interval_at(tokio::time::Instant::now() + heartbeat, heartbeat);
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let session = Session { subscription, clock, beat, alive, snapshot, greeted: false, parted: false };
    let frames = stream::unfold(session, |mut session| async move {
        let frame = session.frame().await?;
        Some((Ok::<_, Infallible>(Bytes::from(frame)), session))
    });
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream")),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
        // A proxy that collects the answer before it passes it on would hold every popup back.
        (HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no")),
    ];
    (headers, Body::from_stream(frames)).into_response()
}

/// Where the client was, by `Last-Event-ID`. One that is not ours is as good as none: the answer is a snapshot.
#[must_use]
pub fn last_event_id(parts: &Parts) -> Option<EventId> {
    parts.headers.get("last-event-id")?.to_str().ok()?.trim().parse().ok()
}

impl From<SubscribeError> for Problem {
    fn from(error: SubscribeError) -> Self {
        let kind = match error {
            SubscribeError::TooMany(_) => Kind::TooManyStreams,
            SubscribeError::Full | SubscribeError::Closed => Kind::Unavailable,
        };
        Self::new(kind, error.to_string())
    }
}

struct Session<A, S> {
    subscription: Subscription,
    clock: Clock,
    beat: Interval,
    alive: A,
    snapshot: S,
    greeted: bool,
    /// It has been told to come back.
    parted: bool,
}

impl<A: Fn() -> bool, S: Fn() -> serde_json::Value> Session<A, S> {
    /// The next bytes to write; none ends the answer.
    async fn frame(&mut self) -> Option<String> {
        if !std::mem::replace(&mut self.greeted, true) {
            return Some(format!("retry: {RETRY_MS}\n\n"));
        }
        let next = tokio::select! {
            next = self.subscription.next() => next,
            _ = self.beat.tick() => return (self.alive)().then(|| HEARTBEAT.to_owned()),
        };
        match next {
            Next::Snapshot(id) => Some(frame(id, "snapshot", &(self.snapshot)().to_string())),
            Next::Event { event, live } => {
                self.count(&event, live);
                Some(frame(event.id, event.kind, &event.data))
            }
            Next::Closed if std::mem::replace(&mut self.parted, true) => None,
            Next::Closed => Some(self.farewell()),
        }
    }

    /// The daemon ends. Clients are told to come back spread over a while, not all in the moment in which it starts again.
    fn farewell(&self) -> String {
        let spread = self.clock.uuid().as_u128() % u128::from(RETRY_SPREAD_MS);
        format!(": the daemon stops\nretry: {}\n\n", u128::from(RETRY_MS) + spread)
    }

    /// A replay is late because the client was away: it says nothing about how fast popups are.
    fn count(&self, event: &Event, live: bool) {
        let Some(read_at) = event.read_at.filter(|_| live) else { return };
        let milliseconds = u32::try_from(self.clock.now().tick - read_at).unwrap_or(u32::MAX);
        metrics::histogram!("hookswitch_popup_seconds").record(f64::from(milliseconds) / 1000.0);
    }
}

/// One event; `data` is on one line.
fn frame(id: EventId, kind: &str, data: &str) -> String {
    let mut frame = String::with_capacity(data.len() + kind.len() + 64);
    // Writing to a string can't fail.
    let _ = write!(frame, "id: {id}\nevent: {kind}\ndata: {data}\n\n");
    frame
}

const HEARTBEAT: &str = ": heartbeat\n\n";

/// What clients are told to wait before they connect again, in milliseconds.
const RETRY_MS: u32 = 2_000;

/// How much longer than that who is sent away waits, at most: a restart takes a second or two.
const RETRY_SPREAD_MS: u32 = 3_000;

#[cfg(test)]
mod tests {
    use futures_util::StreamExt as _;
    use serde_json::json;
    use uuid::Uuid;

    use super::*;
    use crate::model::{AccountId, UnixMillis};
    use crate::registry::streams::{StreamKey, Streams};

    const ACCOUNT: AccountId = AccountId(Uuid::from_u128(1));

    fn open(streams: &Streams, heartbeat: Duration, alive: bool) -> axum::body::BodyDataStream {
        let subscription = streams.subscribe(StreamKey::Account(ACCOUNT), None).unwrap();
        let clock = Clock::manual(UnixMillis(0));
        let response = respond(subscription, clock, heartbeat, move || alive, || json!({"offers": []}));
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        assert_eq!(response.headers()["cache-control"], "no-store");
        assert_eq!(response.headers()["x-accel-buffering"], "no");
        response.into_body().into_data_stream()
    }

    async fn text(stream: &mut axum::body::BodyDataStream) -> String {
        let bytes = tokio::time::timeout(Duration::from_secs(10), stream.next()).await.unwrap().unwrap().unwrap();
        String::from_utf8(bytes.to_vec()).unwrap()
    }

    #[tokio::test]
    async fn a_stream_begins_with_a_snapshot_and_goes_on_with_events() {
        let streams = Streams::default();
        let mut stream = open(&streams, Duration::from_mins(1), true);
        assert_eq!(text(&mut stream).await, "retry: 2000\n\n");
        let snapshot = text(&mut stream).await;
        assert!(snapshot.ends_with("-0\nevent: snapshot\ndata: {\"offers\":[]}\n\n"), "{snapshot}");
        streams.publish(ACCOUNT, "device.up", json!({"text": "two\nlines"}));
        let event = text(&mut stream).await;
        assert!(event.ends_with("-1\nevent: device.up\ndata: {\"text\":\"two\\nlines\"}\n\n"), "{event}");
        streams.close();
        let farewell = text(&mut stream).await;
        let retry = farewell.strip_prefix(": the daemon stops\nretry: ").and_then(|rest| rest.strip_suffix("\n\n"));
        let retry: u32 = retry.unwrap().parse().unwrap();
        assert!((RETRY_MS..RETRY_MS + RETRY_SPREAD_MS).contains(&retry), "{farewell}");
        assert!(stream.next().await.is_none());
    }

    #[tokio::test]
    async fn a_quiet_stream_has_heartbeats_while_its_client_may_listen() {
        let streams = Streams::default();
        let mut stream = open(&streams, Duration::from_millis(20), true);
        let _ = (text(&mut stream).await, text(&mut stream).await);
        assert_eq!([text(&mut stream).await, text(&mut stream).await], [HEARTBEAT, HEARTBEAT]);
        let mut ended = open(&streams, Duration::from_millis(20), false);
        let _ = (text(&mut ended).await, text(&mut ended).await);
        assert!(ended.next().await.is_none());
    }

    #[test]
    fn a_popup_is_timed_from_its_event_to_its_session_and_a_replay_is_not() {
        let recorder = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder();
        let clock = Clock::manual(UnixMillis(0));
        let (streams, read_at) = (Streams::default(), clock.now().tick);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        metrics::with_local_recorder(&recorder, || {
            runtime.block_on(async {
                let subscribe = |last| streams.subscribe(StreamKey::User(user()), last).unwrap();
                let show =
                    |subscription| respond(subscription, clock.clone(), Duration::from_mins(1), || true, || json!({}));
                let mut stream = show(subscribe(None)).into_body().into_data_stream();
                text(&mut stream).await;
                let snapshot = text(&mut stream).await;
                let last = snapshot.lines().next().unwrap().strip_prefix("id: ").unwrap().parse().ok();
                streams.publish_offer(&offer(), read_at);
                clock.advance(Duration::from_millis(250));
                text(&mut stream).await;
                let mut again = show(subscribe(last)).into_body().into_data_stream();
                text(&mut again).await;
                assert!(text(&mut again).await.contains("event: offer"));
            });
        });
        let page = recorder.handle().render();
        assert!(page.contains("hookswitch_popup_seconds_sum 0.25"), "{page}");
        assert!(page.contains("hookswitch_popup_seconds_count 1"), "{page}");
    }

    fn user() -> crate::model::UserId {
        crate::model::UserId(Uuid::from_u128(2))
    }

    fn offer() -> crate::model::Offer {
        serde_json::from_value(json!({
            "id": Uuid::nil(), "account": Uuid::nil(), "call": Uuid::nil(), "user": user(), "state": "offered",
            "reason": null, "device": null, "queue": null, "direction": "inbound", "offered_at": 0, "answered_at": null,
            "closed_at": null, "expires_at": 1, "version": 1,
            "caller": {"number": null, "name": null, "withheld": true, "external": true, "device": null},
            "callee": {"number": null, "name": null, "withheld": false, "external": false, "device": null},
        }))
        .unwrap()
    }

    #[tokio::test]
    async fn a_client_that_leaves_frees_its_place() {
        let streams = Streams::default();
        let user = crate::model::UserId(Uuid::from_u128(2));
        let subscription = streams.subscribe(StreamKey::User(user), None).unwrap();
        let clock = Clock::manual(UnixMillis(0));
        let response = respond(subscription, clock, Duration::from_mins(1), || true, || json!({}));
        assert_eq!(streams.sessions(user), 1);
        drop(response);
        assert_eq!(streams.sessions(user), 0);
    }
}
