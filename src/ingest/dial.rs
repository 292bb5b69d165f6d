//! Connects to a PBX: TCP, or TLS over it.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use tokio_rustls::rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::rustls::{ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};

use crate::config::Tls;

/// Bytes both ways, whatever is under them.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Why nobody could be reached.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// Nothing listens there: whatever ran there does not run now.
    #[error("nothing listens on {0}")]
    Closed(String),
    /// It could not be reached.
    #[error("can't reach {address}: {reason}")]
    Unreachable {
        /// Where.
        address: String,
        /// Why.
        reason: String,
    },
    /// It could be reached and TLS could not be agreed on.
    #[error("no TLS with {address}: {reason}")]
    Tls {
        /// Where.
        address: String,
        /// Why.
        reason: String,
    },
}

/// Connects to `address` (`HOST:PORT`) in bounded time.
///
/// # Errors
/// [`DialError`], each in words for a person.
pub async fn dial(address: &str, tls: Tls) -> Result<Box<dyn Stream>, DialError> {
    let unreachable = |reason: String| DialError::Unreachable { address: address.to_owned(), reason };
    let connected = tokio::time::timeout(CONNECT_WAIT, TcpStream::connect(address)).await;
    let stream = match connected {
        Err(_) => return Err(unreachable("no answer in time".into())),
        Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => {
            return Err(DialError::Closed(address.to_owned()));
        }
        Ok(Err(error)) => return Err(unreachable(error.to_string())),
        Ok(Ok(stream)) => stream,
    };
    stream.set_nodelay(true).map_err(|error| unreachable(error.to_string()))?;
    let config = match tls {
        Tls::Off => return Ok(Box::new(stream)),
        Tls::On => trusting_the_system(),
        Tls::Insecure => trusting_anybody(),
    };
    let failed = |reason: String| DialError::Tls { address: address.to_owned(), reason };
    let config = config.map_err(|error| failed(error.to_string()))?;
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host).trim_matches(['[', ']']);
    let name = ServerName::try_from(host.to_owned()).map_err(|error| failed(error.to_string()))?;
    let shaken = tokio::time::timeout(CONNECT_WAIT, TlsConnector::from(Arc::new(config)).connect(name, stream)).await;
    match shaken {
        Err(_) => Err(failed("no handshake in time".into())),
        Ok(Err(error)) => Err(failed(error.to_string())),
        Ok(Ok(stream)) => Ok(Box::new(stream)),
    }
}

fn trusting_the_system() -> Result<ClientConfig, Error> {
    let mut roots = RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    let (added, _) = roots.add_parsable_certificates(found.certs);
    if added == 0 {
        return Err(Error::General("this system has no trusted certificates".into()));
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
    Ok(builder.with_safe_default_protocol_versions()?.with_root_certificates(roots).with_no_client_auth())
}

fn trusting_anybody() -> Result<ClientConfig, Error> {
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions()?;
    let verifier = Arc::new(Anybody(provider));
    Ok(builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth())
}

/// Takes any certificate: PBXs come with self-signed ones. It hides what is said, and proves nothing of who hears it.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

const CONNECT_WAIT: Duration = Duration::from_secs(10);
