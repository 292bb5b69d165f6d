//! Metrics and health, on a listener of their own.

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use metrics_exporter_prometheus::PrometheusHandle;
use tokio_util::sync::CancellationToken;

/// What the operator's pages look at.
#[derive(Clone)]
pub struct Ops {
    /// The recorder whose page `/metrics` shows.
    pub recorder: PrometheusHandle,
    /// Cancelled once the daemon stops.
    pub stop: CancellationToken,
}

/// `/metrics` for Prometheus; `/health`: 200 while the process serves; `/ready`: 200 while it wants new work, 503 once
/// it stops.
pub fn router(ops: Ops) -> Router {
    Router::new().route("/metrics", get(page)).route("/health", get(health)).route("/ready", get(ready)).with_state(ops)
}

async fn page(State(ops): State<Ops>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], ops.recorder.render())
}

async fn health() -> &'static str {
    "ok\n"
}

async fn ready(State(ops): State<Ops>) -> (StatusCode, &'static str) {
    if ops.stop.is_cancelled() { (StatusCode::SERVICE_UNAVAILABLE, "stopping\n") } else { (StatusCode::OK, "ok\n") }
}
