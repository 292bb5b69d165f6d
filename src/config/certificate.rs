//! `tls_certificate` and `tls_key`: what a listener shows those who connect by TLS.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::{self, PemObject as _};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{Error, ServerConfig};

use super::listener::{Bind, Protocol};
use super::read::{Origin, Section};

/// A certificate with its chain and private key, read from files. The key is never shown.
#[derive(Clone)]
pub struct Certificate {
    chain_file: PathBuf,
    key_file: PathBuf,
    server: Arc<ServerConfig>,
}

/// What is wrong with the files, and with which of them.
struct Unusable {
    key: &'static str,
    what: String,
}

impl Certificate {
    /// How to speak TLS (1.2 and 1.3) with it. Clients show no certificate of theirs.
    #[must_use]
    pub fn server(&self) -> Arc<ServerConfig> {
        self.server.clone()
    }

    /// Reads both keys of a listener; every mistake is recorded. None unless an address of `bind` needs it.
    pub(super) fn read(section: &mut Section<'_>, bind: &[Bind]) -> Option<Self> {
        let origin = |section: &Section<'_>, name| section.has(name).then(|| section.origin(name));
        let (chain_origin, key_origin) = (origin(section, CHAIN), origin(section, KEY));
        let (chain, key) = (section.text(CHAIN), section.text(KEY));
        let Some(bind) = bind.iter().find(|bind| bind.protocol == Protocol::Tls) else {
            for (name, origin) in [(CHAIN, chain_origin), (KEY, key_origin)] {
                let Some(origin) = origin else { continue };
                section.problem(&origin, name, "no address of bind speaks TLS; write one as tls:192.0.2.1:5061");
            }
            return None;
        };
        for (name, origin) in [(CHAIN, &chain_origin), (KEY, &key_origin)] {
            if origin.is_none() {
                section.problem(&Origin::Default, name, format!("is needed for {bind}: a PEM file"));
            }
        }
        Self::load(Path::new(&chain?), Path::new(&key?))
            .map_err(|Unusable { key, what }| {
                let origin = if key == CHAIN { chain_origin } else { key_origin };
                section.problem(&origin.unwrap_or(Origin::Default), key, what);
            })
            .ok()
    }

    fn load(chain_file: &Path, key_file: &Path) -> Result<Self, Unusable> {
        let shown = chain_file.display();
        let chain = CertificateDer::pem_file_iter(chain_file)
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .map_err(|error| Unusable::chain(format!("{shown}: {}", plain(&error))))?;
        if chain.is_empty() {
            return Err(Unusable::chain(format!("{shown} holds no certificate in PEM")));
        }
        let shown = key_file.display();
        let key = PrivateKeyDer::from_pem_file(key_file).map_err(|error| match error {
            pem::Error::NoItemsFound => {
                Unusable::key(format!("{shown} holds no private key in PEM without a password"))
            }
            error => Unusable::key(format!("{shown}: {}", plain(&error))),
        })?;
        let server = ServerConfig::builder_with_provider(ring::default_provider().into())
            .with_safe_default_protocol_versions()
            .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, key))
            .map_err(|error| match error {
                Error::InconsistentKeys(_) => {
                    Unusable::key(format!("{shown} is not the key of {}", chain_file.display()))
                }
                Error::InvalidCertificate(_) => Unusable::chain(format!("{}: {error}", chain_file.display())),
                error => Unusable::key(format!("{shown}: {error}")),
            })?;
        Ok(Self { chain_file: chain_file.into(), key_file: key_file.into(), server: Arc::new(server) })
    }
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificate")
            .field("chain_file", &self.chain_file)
            .field("key_file", &self.key_file)
            .finish_non_exhaustive()
    }
}

impl PartialEq for Certificate {
    fn eq(&self, other: &Self) -> bool {
        (&self.chain_file, &self.key_file) == (&other.chain_file, &other.key_file)
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
