//! TLS: always verified, with a crypto provider of our own choice.

use std::path::Path;
use std::sync::Arc;

use messaging_core::{Error, ErrorKind, Result};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};

use crate::config::Tls;

/// Reads the certificates.
pub(crate) fn client_config(tls: &Tls) -> Result<Arc<ClientConfig>> {
    let mut roots = RootCertStore::empty();
    match &tls.ca {
        Some(path) => {
            for certificate in certificates(path)? {
                roots.add(certificate).map_err(|error| unusable(path, error))?;
            }
        }
        // Some of the system's may be broken; those that are not count.
        None => {
            let found = rustls_native_certs::load_native_certs().certs;
            let (used, _) = roots.add_parsable_certificates(found);
            tracing::debug!(used, "the system's certificates are trusted");
        }
    }
    if roots.is_empty() {
        let text = "no certificate to trust was found (accepted: KAFKA_TLS_CA=FILE.pem)";
        return Err(Error::new(ErrorKind::InvalidConfig, text));
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let wrong = |error: rustls::Error| {
        Error::new(ErrorKind::InvalidConfig, "TLS can't be set up").with_source(error)
    };
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(wrong)?
        .with_root_certificates(roots);
    let config = match &tls.client {
        None => builder.with_no_client_auth(),
        Some((certificate, key)) => {
            let chain = certificates(certificate)?;
            let key_der = PrivateKeyDer::from_pem_file(key).map_err(|e| unusable(key, e))?;
            builder.with_client_auth_cert(chain, key_der).map_err(wrong)?
        }
    };
    Ok(Arc::new(config))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let all = CertificateDer::pem_file_iter(path).and_then(Iterator::collect);
    let all: Vec<_> = all.map_err(|error| unusable(path, error))?;
    match all.is_empty() {
        true => Err(unusable(path, "it has no certificate")),
        false => Ok(all),
    }
}

fn unusable(path: &Path, error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    let text = format!("{} can't be used (accepted: a PEM file)", path.display());
    Error::new(ErrorKind::InvalidConfig, text).with_source(error)
}
