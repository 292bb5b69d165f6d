//! How long requests take, by route. Labels are ours alone: the matched route, a known method, the status.

use axum::extract::{MatchedPath, Request};
use axum::http::{HeaderValue, Method, header};
use axum::middleware::Next;
use axum::response::Response;

use crate::clock::Clock;

/// Measures a request up to its answer's headers, and keeps answers out of caches unless they say otherwise.
pub async fn measure(request: Request, next: Next) -> Response {
    let watch = Clock::stopwatch();
    let route = request.extensions().get::<MatchedPath>().cloned();
    let method = method_label(request.method());
    let mut response = next.run(request).await;
    let route = route.as_ref().map_or("none", MatchedPath::as_str).to_owned();
    let status = response.status().as_str().to_owned();
    metrics::histogram!("hookswitch_http_request_seconds", "route" => route, "method" => method, "status" => status)
        .record(watch.elapsed().as_secs_f64());
    response.headers_mut().entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

/// A client may send any token as its method: it must not become a label.
fn method_label(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        _ => "other",
    }
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::body::Body;
    use axum::middleware;
    use axum::routing::get;
    use metrics_exporter_prometheus::PrometheusBuilder;
    use tower::ServiceExt as _;

    use super::*;

    #[test]
    fn labels_are_the_route_never_what_the_client_made_up() {
        let recorder = PrometheusBuilder::new().build_recorder();
        let router = Router::new().route("/things/{id}", get(|| async {})).layer(middleware::from_fn(measure));
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        metrics::with_local_recorder(&recorder, || {
            for (method, path) in [("GET", "/things/7"), ("BREW", "/things/7"), ("GET", "/made/up")] {
                let request = Request::builder().method(method).uri(path).body(Body::empty()).unwrap();
                runtime.block_on(router.clone().oneshot(request)).unwrap();
            }
        });
        let page = recorder.handle().render();
        for series in [
            r#"{route="/things/{id}",method="GET",status="200"}"#,
            r#"{route="/things/{id}",method="other",status="405"}"#,
            r#"{route="none",method="GET",status="404"}"#,
        ] {
            assert!(page.contains(&format!("hookswitch_http_request_seconds_count{series} 1")), "{series} in {page}");
        }
        assert!(!page.contains("made") && !page.contains("BREW"), "{page}");
    }
}
