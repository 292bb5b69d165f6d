//! `tls_certificate`, `tls_key` and `tls_client_ca`: what a listener shows those who connect by TLS, and whom it believes.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::{self, PemObject as _};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::server::danger::ClientCertVerifier;
use tokio_rustls::rustls::{Error, RootCertStore, ServerConfig};

use super::listener::Bind;
use super::read::{Origin, Section};

/// A certificate with its chain and private key, and the authorities of client certificates, read from files. The key
/// is never shown.
#[derive(Clone)]
pub struct Certificate {
    files: Files,
    server: Arc<ServerConfig>,
}

/// Part of `[listeners.NAME]`: what is shown over TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Files {
    /// `tls_certificate`: PEM file of the certificate, followed by those between it and the root; `tls:` and `wss:` addresses
    /// need it. Read again when it changes (`limits.certificate_check_s`) and on SIGHUP; while the new one can't be used the
    /// old one stays.
    chain: PathBuf,
    /// `tls_key`: PEM file of its key; read again with it.
    key: PathBuf,
    /// `tls_client_ca`: PEM file of authorities; only clients that show a certificate one of them has signed are let in.
    /// Default: clients show none.
    client_ca: Option<PathBuf>,
}

/// What is wrong with the files, and with which of them.
struct Unusable {
    key: &'static str,
    what: String,
}

impl Certificate {
    /// How to speak TLS (1.2 and 1.3) with it.
    #[must_use]
    pub fn server(&self) -> Arc<ServerConfig> {
        self.server.clone()
    }

    /// The files it was read from.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        [&self.files.chain, &self.files.key].into_iter().chain(&self.files.client_ca).map(PathBuf::as_path)
    }

    /// The same files as they are now.
    ///
    /// # Errors
    /// The key of the configuration and what is wrong with its file, in one line; what was read before still stands.
    pub fn read_again(&self) -> Result<Self, String> {
        Self::load(self.files.clone()).map_err(|Unusable { key, what }| format!("{key}: {what}"))
    }

    /// Reads the keys of a listener; every mistake is recorded. None unless an address of `bind` needs it.
    pub(super) fn read(section: &mut Section<'_>, bind: &[Bind]) -> Option<Self> {
        let origins = [CHAIN, KEY, CLIENT_CA].map(|name| (name, section.has(name).then(|| section.origin(name))));
        let (chain, key) = (section.text(CHAIN), section.text(KEY));
        let client_ca = section.text(CLIENT_CA).map(PathBuf::from);
        let Some(bind) = bind.iter().find(|bind| bind.protocol.is_encrypted()) else {
            for (name, origin) in origins {
                let Some(origin) = origin else { continue };
                section.problem(&origin, name, "no address of bind speaks TLS; write one as tls:192.0.2.1:5061");
            }
            return None;
        };
        for (name, origin) in &origins {
            if origin.is_none() && *name != CLIENT_CA {
                section.problem(&Origin::Default, name, format!("is needed for {bind}: a PEM file"));
            }
        }
        Self::load(Files { chain: chain?.into(), key: key?.into(), client_ca })
            .map_err(|Unusable { key, what }| {
                let origin = origins.into_iter().find(|(name, _)| *name == key).and_then(|(_, origin)| origin);
                section.problem(&origin.unwrap_or(Origin::Default), key, what);
            })
            .ok()
    }

    fn load(files: Files) -> Result<Self, Unusable> {
        let shown = files.chain.display();
        let chain = certificates(&files.chain).map_err(Unusable::chain)?;
        let key = PrivateKeyDer::from_pem_file(&files.key).map_err(|error| match error {
            pem::Error::NoItemsFound => {
                Unusable::key(format!("{} holds no private key in PEM without a password", files.key.display()))
            }
            error => Unusable::key(format!("{}: {}", files.key.display(), plain(&error))),
        })?;
        let builder = ServerConfig::builder_with_provider(ring::default_provider().into())
            .with_safe_default_protocol_versions()
            .map_err(|error| Unusable::key(error.to_string()))?;
        let builder = match &files.client_ca {
            Some(file) => builder.with_client_cert_verifier(client_verifier(file).map_err(Unusable::client_ca)?),
            None => builder.with_no_client_auth(),
        };
        let server = builder.with_single_cert(chain, key).map_err(|error| match error {
            Error::InconsistentKeys(_) => Unusable::key(format!("{} is not the key of {shown}", files.key.display())),
            Error::InvalidCertificate(_) => Unusable::chain(format!("{shown}: {error}")),
            error => Unusable::key(format!("{}: {error}", files.key.display())),
        })?;
        Ok(Self { server: Arc::new(server), files })
    }
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let shown = file.display();
    let found = CertificateDer::pem_file_iter(file)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| format!("{shown}: {}", plain(&error)))?;
    if found.is_empty() { Err(format!("{shown} holds no certificate in PEM")) } else { Ok(found) }
}

/// Takes clients whose certificate an authority in `file` has signed. Revocation lists are not read.
fn client_verifier(file: &Path) -> Result<Arc<dyn ClientCertVerifier>, String> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(file)? {
        roots.add(certificate).map_err(|error| format!("{}: {error}", file.display()))?;
    }
    WebPkiClientVerifier::builder_with_provider(roots.into(), ring::default_provider().into())
        .build()
        .map_err(|error| format!("{}: {error}", file.display()))
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificate").field("files", &self.files).finish_non_exhaustive()
    }
}

impl PartialEq for Certificate {
    fn eq(&self, other: &Self) -> bool {
        self.files == other.files
    }
}

impl Eq for Certificate {}

impl Unusable {
    fn chain(what: String) -> Self {
        Self { key: CHAIN, what }
    }

    fn key(what: String) -> Self {
        Self { key: KEY, what }
    }

    fn client_ca(what: String) -> Self {
        Self { key: CLIENT_CA, what }
    }
}

/// In an operator's words.
fn plain(error: &pem::Error) -> String {
    match error {
        pem::Error::Io(error) => format!("can't be read: {error}"),
        _ => "is no PEM file".to_owned(),
    }
}

const CHAIN: &str = "tls_certificate";
const KEY: &str = "tls_key";
const CLIENT_CA: &str = "tls_client_ca";
