//! Certificates made for a test, and clients that trust them and no other.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use super::folder::Folder;

/// A certificate of `pbx.example` and 127.0.0.1, in files a server reads.
#[derive(Debug)]
pub struct Certificate {
    /// Its PEM file.
    pub chain: String,
    /// The PEM file of its private key.
    pub key: String,
    client: Arc<ClientConfig>,
}

impl Certificate {
    /// A new one, signed by itself.
    pub fn make(folder: &Folder) -> Self {
        let names = ["pbx.example", "127.0.0.1"].map(String::from);
        let made = rcgen::generate_simple_self_signed(names).expect("a certificate can be made");
        let chain = folder.write("tls.crt", made.cert.pem()).display().to_string();
        let key = folder.write("tls.key", made.signing_key.serialize_pem()).display().to_string();
        let mut roots = RootCertStore::empty();
        roots.add(made.cert.der().clone()).expect("a certificate of our own");
        let client = ClientConfig::builder_with_provider(ring::default_provider().into())
            .with_safe_default_protocol_versions()
            .expect("ring speaks them")
            .with_root_certificates(roots)
            .with_no_client_auth();
        Self { chain, key, client: client.into() }
    }

    /// The two keys a listener needs.
    pub fn settings(&self) -> String {
        format!("tls_certificate = \"{}\"\ntls_key = \"{}\"\n", self.chain, self.key)
    }

    /// Connects to `address` and checks that this certificate is shown there.
    pub async fn connect(&self, address: SocketAddr) -> TlsStream<TcpStream> {
        let stream = TcpStream::connect(address).await.unwrap();
        let name = "pbx.example".try_into().expect("a host name");
        TlsConnector::from(self.client.clone()).connect(name, stream).await.expect("the handshake succeeds")
    }
}
