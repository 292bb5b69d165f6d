//! TLS under a stream: who connects has a bounded time to shake hands, and costs no message anything. Certificates are
//! read again when their files change.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;

use crate::config::{Certificate, Config};

use super::reload::Limits;

/// Shakes hands with the clients of one listener. Cheap to clone; clones show the same certificate.
#[derive(Clone)]
pub(super) struct Handshake {
    /// Replaced as a whole when the files change; connections go on with what they began with.
    server: Arc<RwLock<Arc<ServerConfig>>>,
    limits: Limits,
}

/// What tells one state of a file from another without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    modified: (i64, i64),
    inode: u64,
    length: u64,
}

impl Handshake {
    /// Gives each client `message_wait_s` of `limits` for it.
    pub(super) fn new(certificate: &Certificate, limits: Limits) -> Self {
        Self { server: Arc::new(RwLock::new(certificate.server())), limits }
    }

    /// The encrypted stream; none, and counted, when the client does not get there. Whoever speaks no TLS is told so by an
    /// alert, as far as it listens.
    pub(super) async fn shake(&self, stream: TcpStream) -> Option<TlsStream<TcpStream>> {
        let server = self.server.read().unwrap_or_else(PoisonError::into_inner).clone();
        let wait = Duration::from_millis(self.limits.load().message_wait_ms());
        match tokio::time::timeout(wait, TlsAcceptor::from(server).accept(stream)).await {
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

    /// Shows a new certificate once its files have changed: looks every `certificate_check_s` of the limits and whenever
    /// `reload` changes, until `stop`. A certificate that can't be used is told of, and the old one stays.
    pub(super) async fn follow(
        self,
        listener: String,
        mut certificate: Certificate,
        mut reload: watch::Receiver<Arc<Config>>,
        stop: CancellationToken,
    ) {
        let files: Vec<PathBuf> = certificate.files().map(Path::to_path_buf).collect();
        let mut tried = stamps(&files).await;
        let mut seen = tried.clone();
        loop {
            let every = Duration::from_secs(reload.borrow().limits.certificate_check_s.into());
            let asked = tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(every) => false,
                // Whoever could ask is gone: the time between two looks goes on.
                asked = reload.changed() => if asked.is_ok() {
                    true
                } else {
                    tokio::time::sleep(every).await;
                    false
                },
            };
            let now = stamps(&files).await;
            // What still changes may be half of a new pair, unless somebody says that it is whole.
            let settled = std::mem::replace(&mut seen, now.clone()) == now;
            if !asked && (!settled || now == tried) {
                continue;
            }
            tried = now;
            certificate = self.take_up(&listener, certificate).await;
        }
    }

    async fn take_up(&self, listener: &str, old: Certificate) -> Certificate {
        let again = old.clone();
        let read = tokio::task::spawn_blocking(move || again.read_again()).await;
        let outcome = match &read {
            Ok(Ok(_)) => "loaded",
            _ => "failed",
        };
        metrics::counter!("hookswitch_certificate_reloads_total", "listener" => listener.to_owned(), "outcome" => outcome)
            .increment(1);
        match read {
            Ok(Ok(new)) => {
                *self.server.write().unwrap_or_else(PoisonError::into_inner) = new.server();
                tracing::info!(listener, "a new certificate is shown from now on");
                new
            }
            Ok(Err(what)) => {
                tracing::error!(listener, what, "the new certificate can't be used; the old one stays");
                old
            }
            Err(error) => {
                tracing::error!(listener, %error, "the certificate can't be read again; the old one stays");
                old
            }
        }
    }
}

/// How the files are; none for one that is not there.
async fn stamps(files: &[PathBuf]) -> Vec<Option<Stamp>> {
    let mut stamps = Vec::with_capacity(files.len());
    for file in files {
        stamps.push(tokio::fs::metadata(file).await.ok().as_ref().map(Stamp::of));
    }
    stamps
}

impl Stamp {
    fn of(file: &Metadata) -> Self {
        Self { modified: (file.mtime(), file.mtime_nsec()), inode: file.ino(), length: file.len() }
    }
}

fn dropped(reason: &'static str) {
    metrics::counter!("hookswitch_dropped_total", "where" => "sip_tls", "reason" => reason).increment(1);
}
