//! Connections of our own to PBXs, in the clear or by TLS.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use tokio_rustls::rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::rustls::{self, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};

use super::feed::FeedError;
use crate::config::Tls;

/// What goes over a connection, whatever carries it.
pub trait Wire: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Wire for T {}

/// An open connection.
pub struct Connection {
    /// What goes over it.
    pub wire: Box<dyn Wire>,
    /// Our end.
    pub local: SocketAddr,
    /// The PBX's end.
    pub peer: SocketAddr,
}

/// Connects to `HOST:PORT`.
///
/// # Errors
/// [`FeedError::Gone`] when nothing listens there, [`FeedError::Broken`] when nobody answers there in time, or its certificate is not one to trust.
pub async fn connect(address: &str, tls: Tls) -> Result<Connection, FeedError> {
    let opened = async {
        let stream = tokio::time::timeout(CONNECT_WAIT, TcpStream::connect(address)).await;
        let stream = stream.map_err(|_| no_answer(address, "it does not answer"))?;
        let stream = stream.map_err(|error| match error.kind() {
            io::ErrorKind::ConnectionRefused => FeedError::Gone(format!("nothing listens on {address}")),
            _ => no_answer(address, &error.to_string()),
        })?;
        // Best effort: a peer that is gone without a word is found by its silence as well.
        let _ = stream.set_nodelay(true);
        let _ = SockRef::from(&stream).set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE));
        let ends = stream.local_addr().and_then(|local| Ok((local, stream.peer_addr()?)));
        let ends = ends.map_err(|error| no_answer(address, &error.to_string()))?;
        Ok::<_, FeedError>((stream, ends))
    };
    let (stream, (local, peer)) = opened.await?;
    let config = match tls {
        Tls::Off => return Ok(Connection { wire: Box::new(stream), local, peer }),
        Tls::On => trusting(),
        Tls::Insecure => unchecked(),
    };
    let config = config.map_err(|error| FeedError::Broken(format!("TLS can't be used: {error}")))?;
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host).trim_matches(['[', ']']);
    let name = ServerName::try_from(host.to_owned())
        .map_err(|_| FeedError::Broken(format!("{host:?} is no name a certificate could have")))?;
    let shaken = tokio::time::timeout(CONNECT_WAIT, TlsConnector::from(config).connect(name, stream)).await;
    match shaken {
        Err(_) => Err(no_answer(address, "the TLS handshake does not end; is TLS spoken there?")),
        Ok(Err(error)) => Err(no_answer(address, &format!("TLS: {error}"))),
        Ok(Ok(stream)) => Ok(Connection { wire: Box::new(stream), local, peer }),
    }
}

fn no_answer(address: &str, why: &str) -> FeedError {
    FeedError::Broken(format!("can't connect to {address}: {why}"))
}

/// Trusts what the system trusts. The roots are read once; certificates that can't be read are left out.
fn trusting() -> Result<Arc<ClientConfig>, rustls::Error> {
    static ROOTS: OnceLock<Arc<RootCertStore>> = OnceLock::new();
    let roots = ROOTS.get_or_init(|| {
        let mut roots = RootCertStore::empty();
        let (added, ignored) = roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        tracing::debug!(added, ignored, "read the system's certificates");
        Arc::new(roots)
    });
    let config = ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions()?;
    Ok(Arc::new(config.with_root_certificates(roots.clone()).with_no_client_auth()))
}

fn unchecked() -> Result<Arc<ClientConfig>, rustls::Error> {
    let config = ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions()?;
    let config = config.dangerous().with_custom_certificate_verifier(Arc::new(Unchecked(provider())));
    Ok(Arc::new(config.with_no_client_auth()))
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

/// Takes any certificate: `tls = "insecure"`, for PBXs that made their own.
struct Unchecked(Arc<CryptoProvider>);

impl fmt::Debug for Unchecked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Unchecked")
    }
}

impl ServerCertVerifier for Unchecked {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// What an operator is told of a connection that broke.
#[must_use]
pub fn broken(error: &io::Error) -> FeedError {
    FeedError::Broken(match error.kind() {
        io::ErrorKind::ConnectionReset | io::ErrorKind::UnexpectedEof | io::ErrorKind::BrokenPipe => {
            "the other side cut the connection".into()
        }
        _ => format!("the connection broke: {error}"),
    })
}

const CONNECT_WAIT: Duration = Duration::from_secs(10);
const KEEPALIVE: Duration = Duration::from_secs(30);
