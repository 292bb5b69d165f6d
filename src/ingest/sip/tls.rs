//! TLS under a stream: who connects has a bounded time to shake hands, and costs no message anything.

use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::server::TlsStream;

/// Shakes hands with clients of one address. Cheap to clone.
#[derive(Clone)]
pub(super) struct Handshake {
    acceptor: TlsAcceptor,
    wait: Duration,
}

impl Handshake {
    /// Gives each client `wait_ms` for it.
    pub(super) fn new(server: Arc<ServerConfig>, wait_ms: u64) -> Self {
        Self { acceptor: server.into(), wait: Duration::from_millis(wait_ms) }
    }

    /// The encrypted stream; none, and counted, when the client does not get there. Whoever speaks no TLS is told so by an
    /// alert, as far as it listens.
    pub(super) async fn shake(&self, stream: TcpStream) -> Option<TlsStream<TcpStream>> {
        match tokio::time::timeout(self.wait, self.acceptor.accept(stream)).await {
            Ok(Ok(stream)) => Some(stream),
            Ok(Err(error)) => {
                dropped("handshake");
                tracing::debug!(%error, "a TLS handshake failed");
                None
            }
            Err(_) => {
                dropped("handshake_wait");
                None
            }
        }
    }
}

fn dropped(reason: &'static str) {
    metrics::counter!("hookswitch_dropped_total", "where" => "sip_tls", "reason" => reason).increment(1);
}
