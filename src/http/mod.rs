//! The HTTP API: `/v1` for programs and people with a token, `/openapi.json` for what it can do.
//!
//! One file a resource: what can be set of it, its routes, its tests. A handler's arguments say who may call it
//! ([`auth`]), what it reads from the path and query ([`query`]), the body ([`body`]) and `If-Match` ([`etag`]); every
//! failure is a [`problem::Problem`]. A write answers once its change is on disk ([`state::AppState::stored`]), and so
//! does a read that shows it.

pub mod accounts;
pub mod answer;
pub mod auth;
pub mod body;
pub mod calls;
pub mod control;
pub mod device_answer;
pub mod device_history;
pub mod device_secret;
pub mod devices;
pub mod drift;
pub mod etag;
pub mod events;
pub mod front;
pub mod health;
mod kind;
pub mod links;
pub mod login;
pub mod me;
pub mod measure;
pub mod members;
pub mod openapi;
pub mod ops;
pub mod pbx_edit;
pub mod pbx_events;
pub mod pbxs;
pub mod popups;
pub mod problem;
pub mod query;
pub mod queues;
pub mod responses;
pub mod secret;
pub mod sites;
pub mod sse;
pub mod state;
#[cfg(test)]
mod testing;
pub mod tokens;
pub mod users;
pub mod values;

use std::any::Any;

use axum::extract::{DefaultBodyLimit, Request};
use axum::middleware;
use axum::response::{IntoResponse as _, Response};
use axum::{Extension, Router};
use tower_http::catch_panic::CatchPanicLayer;
use utoipa::openapi::OpenApi;
use utoipa_axum::router::OpenApiRouter;

pub use front::fronted;
pub use ops::ops_router;
pub use state::{AppState, Settings};

use problem::{Kind, Problem};

/// The API over `state`.
pub fn router(state: AppState) -> Router {
    let body_bytes_max = state.settings.body_bytes_max;
    let (router, document) = documented();
    router
        .fallback(no_route)
        .method_not_allowed_fallback(no_method)
        .layer(middleware::from_fn_with_state(state.clone(), state::certain_of_absence))
        .layer(Extension(openapi::Document::from(&document)))
        .layer(DefaultBodyLimit::max(body_bytes_max))
        .layer(CatchPanicLayer::custom(panicked))
        .layer(middleware::from_fn(measure::measure))
        .with_state(state)
}

/// The routes, and the document that describes them.
fn documented() -> (Router<AppState>, OpenApi) {
    let (router, document) = OpenApiRouter::with_openapi(openapi::frame())
        .merge(accounts::router())
        .merge(sites::router())
        .merge(pbxs::router())
        .merge(drift::router())
        .merge(pbx_events::router())
        .merge(devices::router())
        .merge(device_history::router())
        .merge(device_secret::router())
        .merge(health::router())
        .merge(users::router())
        .merge(links::router())
        .merge(queues::router())
        .merge(members::router())
        .merge(calls::router())
        .merge(me::router())
        .merge(login::router())
        .merge(popups::router())
        .merge(events::router())
        .merge(tokens::router())
        .merge(openapi::router())
        .split_for_parts();
    (router, openapi::finished(document))
}

async fn no_route() -> Problem {
    Problem::new(Kind::NotFound, "there is no such route; /openapi.json lists them")
}

async fn no_method(request: Request) -> Problem {
    Problem::new(Kind::MethodNotAllowed, format!("{} is not for this route", request.method()))
}

/// A panic is a bug of ours; the client of another request must not notice it.
#[expect(clippy::needless_pass_by_value, reason = "the layer hands it over")]
fn panicked(panic: Box<dyn Any + Send + 'static>) -> Response {
    let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
    tracing::error!(panic = text.unwrap_or("unknown"), "an HTTP handler panicked");
    Problem::new(Kind::Internal, "").into_response()
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use axum::http::Request;

    use super::testing::Office;

    #[tokio::test]
    async fn an_unknown_route_and_a_wrong_method_are_problems_too() {
        let office = Office::open().await;
        assert_eq!(office.get("/v1/nothing").await.problem(), (404, "not-found"));
        assert_eq!(office.get("/").await.problem(), (404, "not-found"));
        let refused = office.call("PUT", "/v1/users", &office.admin, &[], None).await;
        assert_eq!(refused.problem(), (405, "method-not-allowed"));
        let allowed = refused.headers["allow"].to_str().unwrap();
        assert!(allowed.contains("GET") && allowed.contains("POST") && !allowed.contains("PUT"), "{allowed}");
    }

    #[tokio::test]
    async fn bodies_are_bounded_and_must_say_that_they_are_json() {
        let office = Office::open().await;
        let send = async |kind: &str, body: String| {
            let request = Request::post("/v1/users").header("authorization", format!("Bearer {}", office.admin));
            office.send(request.header("content-type", kind).body(Body::from(body)).unwrap()).await
        };
        let large = format!("{{\"name\": \"{}\"}}", "x".repeat(20_000));
        assert_eq!(send("application/json", large).await.problem(), (413, "too-large"));
        assert_eq!(send("text/plain", "{\"name\": \"x\"}".into()).await.problem(), (415, "unsupported-media-type"));
        let broken = send("application/json", "{\"name\": ".into()).await;
        assert_eq!((broken.problem(), &broken.json["pointer"]), ((400, "bad-body"), &"/name".into()));
    }

    #[test]
    fn a_panic_is_a_problem_that_tells_nothing_about_it() {
        let response = super::panicked(Box::new("secret"));
        assert_eq!(response.status(), 500);
        let body = axum::body::to_bytes(response.into_body(), 10_000);
        let body = futures_util::FutureExt::now_or_never(body).unwrap().unwrap();
        assert!(!String::from_utf8_lossy(&body).contains("secret"));
    }

    #[tokio::test]
    async fn answers_stay_out_of_caches() {
        let office = Office::open().await;
        assert_eq!(office.get("/v1/users").await.headers["cache-control"], "no-store");
        assert_eq!(office.get("/v1/nothing").await.headers["cache-control"], "no-store");
    }
}
