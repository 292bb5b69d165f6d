//! Certificates made for a test, and clients that trust them and no other.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;
use tokio_rustls::rustls::{ClientConfig, ConfigBuilder, RootCertStore, WantsVerifier};

use super::folder::Folder;

/// A certificate of `pbx.example` and 127.0.0.1, in files a server reads.
#[derive(Debug)]
pub struct Certificate {
    /// Its PEM file.
    pub chain: String,
    /// The PEM file of its private key.
    pub key: String,
    roots: Arc<RootCertStore>,
    client: Arc<ClientConfig>,
}

/// An authority that signs the certificates of clients.
pub struct Authority {
    /// Its PEM file.
    pub file: String,
    issuer: rcgen::Issuer<'static, rcgen::KeyPair>,
}

impl Certificate {
    /// A new one, signed by itself.
    pub fn make(folder: &Folder) -> Self {
        Self::make_as(folder, "tls")
    }

    /// The same in files of another name.
    pub fn make_as(folder: &Folder, name: &str) -> Self {
        let names = ["pbx.example", "127.0.0.1"].map(String::from);
        let made = rcgen::generate_simple_self_signed(names).expect("a certificate can be made");
        let chain = folder.write(&format!("{name}.crt"), made.cert.pem()).display().to_string();
        let key = folder.write(&format!("{name}.key"), made.signing_key.serialize_pem()).display().to_string();
        let mut roots = RootCertStore::empty();
        roots.add(made.cert.der().clone()).expect("a certificate of our own");
        let roots = Arc::new(roots);
        let client = builder().with_root_certificates(roots.clone()).with_no_client_auth();
        Self { chain, key, roots, client: client.into() }
    }

    /// The two keys a listener needs.
    pub fn settings(&self) -> String {
        format!("tls_certificate = \"{}\"\ntls_key = \"{}\"\n", self.chain, self.key)
    }

    /// Connects to `address` and checks that this certificate is shown there.
    pub async fn connect(&self, address: SocketAddr) -> TlsStream<TcpStream> {
        self.try_connect(address).await.expect("the handshake succeeds")
    }

    /// The same; an error when another certificate is shown there.
    pub async fn try_connect(&self, address: SocketAddr) -> io::Result<TlsStream<TcpStream>> {
        self.shake(TcpStream::connect(address).await?).await
    }

    /// Shakes hands over a connection there is.
    pub async fn shake(&self, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        shake(self.client.clone(), stream).await
    }

    /// Connects with a certificate of the client's own, signed by `authority`.
    pub async fn connect_as(&self, authority: &Authority, address: SocketAddr) -> io::Result<TlsStream<TcpStream>> {
        let key = rcgen::KeyPair::generate().expect("a key can be made");
        let wanted = rcgen::CertificateParams::new(vec!["phone.example".to_owned()]).expect("a host name");
        let made = wanted.signed_by(&key, &authority.issuer).expect("it can be signed");
        let key = PrivateKeyDer::try_from(key.serialize_der()).expect("a key of our own");
        let client = builder().with_root_certificates(self.roots.clone());
        let client = client.with_client_auth_cert(vec![made.der().clone()], key).expect("they fit");
        shake(client.into(), TcpStream::connect(address).await?).await
    }
}

impl Authority {
    /// A new one, its certificate in a file of this name.
    pub fn make(folder: &Folder, name: &str) -> Self {
        let key = rcgen::KeyPair::generate().expect("a key can be made");
        let mut wanted = rcgen::CertificateParams::new(Vec::new()).expect("no names are fine");
        wanted.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let made = wanted.self_signed(&key).expect("it can sign itself");
        let file = folder.write(name, made.pem()).display().to_string();
        Self { file, issuer: rcgen::Issuer::new(wanted, key) }
    }
}

fn builder() -> ConfigBuilder<ClientConfig, WantsVerifier> {
    ClientConfig::builder_with_provider(ring::default_provider().into())
        .with_safe_default_protocol_versions()
        .expect("ring speaks them")
}

async fn shake(client: Arc<ClientConfig>, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
    let name = "pbx.example".try_into().expect("a host name");
    TlsConnector::from(client).connect(name, stream).await
}
