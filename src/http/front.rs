//! What stands between the API and its clients: proxies that are trusted to say who asks, and browsers that ask whether the
//! page of another site may.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{ConnectInfo, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::Response;
use tower_http::cors::{AllowOrigin, CorsLayer};

use crate::accept::Source;
use crate::config::{Http, Origins};
use crate::model::Network;

/// Who asks: the other end of the connection, or whom a trusted proxy there names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Client(pub IpAddr);

/// The API as it is served: who is refused for want of a token is logged by the address it came from, and pages of other
/// sites get the answers that `http.allowed_origins` says.
pub fn fronted(router: Router, config: &Http) -> Router {
    let trusted: Arc<[Network]> = config.trusted_proxies.clone().into();
    let router = router.layer(middleware::from_fn_with_state(trusted, notice));
    if config.allowed_origins.is_empty() { router } else { router.layer(cross_origin(config.allowed_origins.clone())) }
}

/// Finds out who asks, and logs whom the API does not know.
async fn notice(State(trusted): State<Arc<[Network]>>, mut request: Request, next: Next) -> Response {
    let source = request.extensions().get::<ConnectInfo<Source>>().map(|ConnectInfo(source)| source.0);
    let client = source.map(|source| Client::of(source, request.headers(), &trusted));
    if let Some(client) = client {
        request.extensions_mut().insert(client);
    }
    let method = request.method().clone();
    let response = next.run(request).await;
    if let (Some(client), StatusCode::UNAUTHORIZED) = (client, response.status()) {
        // Neither path nor token: a client may have put its secret into either.
        tracing::warn!(%client, %method, "a request without a valid token was refused");
    }
    response
}

impl Client {
    /// Who asks over a connection from `source`. `X-Forwarded-For` is read from its end, for as long as what stands there
    /// was written by somebody trusted: what is before that the client may have made up.
    fn of(source: SocketAddr, headers: &HeaderMap, trusted: &[Network]) -> Self {
        let is_trusted = |address: IpAddr| trusted.iter().any(|network| network.contains(address));
        let mut client = source.ip().to_canonical();
        let named = headers.get_all(FORWARDED_FOR).iter().filter_map(|value| value.to_str().ok());
        let named: Vec<&str> = named.flat_map(|value| value.split(',')).map(str::trim).collect();
        for name in named.into_iter().rev() {
            if !is_trusted(client) {
                break;
            }
            let Some(before) = address(name) else { break };
            client = before.to_canonical();
        }
        Self(client)
    }
}

impl fmt::Display for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// An address as proxies write it, with or without a port.
fn address(text: &str) -> Option<IpAddr> {
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    bare.parse().ok().or_else(|| text.parse::<SocketAddr>().ok().map(|address| address.ip()))
}

/// CORS (Fetch Standard §3.2): no cookies are involved, who calls shows a token.
fn cross_origin(origins: Origins) -> CorsLayer {
    let admitted = move |origin: &HeaderValue, _: &axum::http::request::Parts| {
        origin.to_str().is_ok_and(|origin| origins.admit(origin))
    };
    CorsLayer::new()
        .allow_origin(AllowOrigin::predicate(admitted))
        .allow_methods([Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE])
        .allow_headers([
            header::AUTHORIZATION,
            header::CONTENT_TYPE,
            header::ACCEPT,
            header::IF_MATCH,
            header::IF_NONE_MATCH,
            HeaderName::from_static("last-event-id"),
        ])
        .expose_headers([header::ETAG, header::LOCATION, header::RETRY_AFTER, header::WWW_AUTHENTICATE])
        .max_age(PREFLIGHT)
}

const FORWARDED_FOR: &str = "x-forwarded-for";
/// How long a browser need not ask again.
const PREFLIGHT: Duration = Duration::from_mins(10);

#[cfg(test)]
mod tests {
    use super::*;

    fn client(source: &str, forwarded: &[&str]) -> String {
        let mut headers = HeaderMap::new();
        for value in forwarded {
            headers.append(FORWARDED_FOR, HeaderValue::from_str(value).unwrap());
        }
        let trusted = ["127.0.0.1", "10.0.0.0/8", "::1"].map(|text| text.parse().unwrap());
        Client::of(source.parse().unwrap(), &headers, &trusted).to_string()
    }

    #[test]
    fn only_a_trusted_proxy_says_who_asks_and_only_about_its_own_client() {
        assert_eq!(client("192.0.2.7:1", &["198.51.100.1"]), "192.0.2.7", "a stranger says nothing");
        assert_eq!(client("127.0.0.1:1", &[]), "127.0.0.1");
        assert_eq!(client("127.0.0.1:1", &["198.51.100.1"]), "198.51.100.1");
        assert_eq!(client("127.0.0.1:1", &["203.0.113.9, 198.51.100.1"]), "198.51.100.1", "made up by the client");
        assert_eq!(client("127.0.0.1:1", &["198.51.100.1, 10.1.1.1"]), "198.51.100.1", "two proxies");
        assert_eq!(client("127.0.0.1:1", &["198.51.100.1", "10.1.1.1"]), "198.51.100.1", "in two headers");
        assert_eq!(client("[::ffff:127.0.0.1]:1", &["[2001:db8::1]:443"]), "2001:db8::1");
        assert_eq!(client("127.0.0.1:1", &["198.51.100.1:5"]), "198.51.100.1");
        assert_eq!(client("127.0.0.1:1", &["unknown"]), "127.0.0.1");
        assert_eq!(client("127.0.0.1:1", &["10.0.0.1, 10.0.0.2"]), "10.0.0.1", "all of them are trusted");
    }
}
