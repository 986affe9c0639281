//! TLS with a provider of our own choice: the process may have several, and then none by default.

use std::path::Path;
use std::sync::Arc;

use messaging_core::{Error, ErrorKind, Result};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};
use tokio_rustls::TlsConnector;

use crate::config::Tls;

/// Reads the certificates. They are read again for every connection, so they can be renewed.
pub(crate) fn connector(tls: &Tls) -> Result<TlsConnector> {
    let mut roots = RootCertStore::empty();
    match &tls.ca {
        Some(path) => {
            for certificate in certificates(path)? {
                roots.add(certificate).map_err(|error| unreadable(path, error))?;
            }
        }
        None => {
            let found = rustls_native_certs::load_native_certs();
            roots.add_parsable_certificates(found.certs);
        }
    }
    if roots.is_empty() {
        let text = "no certificate is trusted: set RABBITMQ_TLS_CA (accepted: a PEM file)";
        return Err(Error::new(ErrorKind::InvalidConfig, text));
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| misfit("TLS can't be set up", error))?
        .with_root_certificates(roots);
    let config = match &tls.client {
        Some((certificate, key)) => {
            let read = PrivateKeyDer::from_pem_file(key).map_err(|error| unreadable(key, error))?;
            let made = builder.with_client_auth_cert(certificates(certificate)?, read);
            made.map_err(|error| misfit("our certificate and its key do not fit", error))?
        }
        None => builder.with_no_client_auth(),
    };
    Ok(TlsConnector::from(Arc::new(config)))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let all = CertificateDer::pem_file_iter(path).map_err(|error| unreadable(path, error))?;
    let all: Result<Vec<_>, _> = all.collect();
    let all = all.map_err(|error| unreadable(path, error))?;
    if all.is_empty() {
        let text = format!("{} has no certificate (accepted: a PEM file)", path.display());
        return Err(Error::new(ErrorKind::InvalidConfig, text));
    }
    Ok(all)
}

fn unreadable(path: &Path, error: impl std::error::Error + Send + Sync + 'static) -> Error {
    let text = format!("{} can't be read (accepted: a PEM file)", path.display());
    Error::new(ErrorKind::InvalidConfig, text).with_source(error)
}

fn misfit(text: &str, error: rustls::Error) -> Error {
    Error::new(ErrorKind::InvalidConfig, text).with_source(error)
}
