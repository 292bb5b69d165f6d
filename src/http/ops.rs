//! The second listener: metrics and health, without credentials and not exposed with the API.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderValue, header};
use axum::response::IntoResponse;
use axum::routing::get;
use axum::{Json, Router};
use metrics_exporter_prometheus::PrometheusHandle;
use serde_json::json;

use crate::registry::Registry;

/// `/metrics` (Prometheus text), `/livez`, and `/readyz`, which is `/health` as well.
///
/// `/livez` is 200 while the process serves at all. `/readyz` is 200 once everything is loaded, which it is when there is
/// a `registry` to pass here, and stays 200 while the database is away: popups go on, what is registered stays so, passive
/// feeds apply to memory, and taking the daemon out of service would only end that. Its body says
/// `"database": "up"` or `"down"`, and the gauge `hookswitch_database_up` is what to raise an alarm by.
pub fn ops_router(metrics: PrometheusHandle, registry: Arc<Registry>) -> Router {
    Router::new()
        .route("/metrics", get(scrape).with_state(metrics))
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(ready).with_state(registry.clone()))
        .route("/health", get(ready).with_state(registry))
}

async fn scrape(State(metrics): State<PrometheusHandle>) -> impl IntoResponse {
    let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    ([(header::CONTENT_TYPE, kind)], metrics.render())
}

async fn ready(State(registry): State<Arc<Registry>>) -> impl IntoResponse {
    let database = if registry.database_up() { "up" } else { "down" };
    Json(json!({ "ready": true, "database": database }))
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use axum::http::Request;
    use metrics_exporter_prometheus::PrometheusBuilder;
    use tower::ServiceExt as _;

    use crate::http::testing::Office;

    #[tokio::test]
    async fn metrics_and_health_need_no_token() {
        let office = Office::open().await;
        let recorder = PrometheusBuilder::new().build_recorder();
        metrics::with_local_recorder(&recorder, || metrics::counter!("hookswitch_dropped_total").increment(1));
        let router = super::ops_router(recorder.handle(), office.registry.clone());
        for (path, holds) in
            [("/metrics", "hookswitch_dropped_total 1"), ("/livez", "ok"), ("/readyz", "\"database\":\"up\"")]
        {
            let request = Request::get(path).body(Body::empty()).unwrap();
            let response = router.clone().oneshot(request).await.unwrap();
            assert_eq!(response.status(), 200, "{path}");
            let body = axum::body::to_bytes(response.into_body(), 100_000).await.unwrap();
            assert!(String::from_utf8_lossy(&body).contains(holds), "{path}: {body:?}");
        }
    }
}
