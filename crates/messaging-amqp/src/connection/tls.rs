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

#[cfg(test)]
mod tests {
    use std::process::Command;
    use std::time::Duration;

    use messaging_core::ErrorKind;
    use rustls::ServerConfig;
    use rustls::server::WebPkiClientVerifier;
    use tokio_rustls::TlsAcceptor;

    use super::*;
    use crate::connection::{Link, Role};
    use crate::testing::{Proxy, server};

    /// An authority, and a certificate of it for this machine, made by the system's openssl.
    fn certify(directory: &Path, name: &str) {
        let run = |arguments: &str| {
            let done = Command::new("openssl")
                .args(arguments.split_whitespace())
                .current_dir(directory)
                .output()
                .unwrap();
            assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        };
        let extensions = "subjectAltName=IP:127.0.0.1\nbasicConstraints=CA:FALSE\n";
        std::fs::write(directory.join("extensions"), extensions).unwrap();
        let key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
        run(&format!("req -x509 {key} -keyout {name}-ca.key -out {name}-ca.pem -subj /CN={name}"));
        run(&format!("req {key} -keyout {name}.key -out {name}.csr -subj /CN=127.0.0.1"));
        run(&format!(
            "x509 -req -in {name}.csr -CA {name}-ca.pem -CAkey {name}-ca.key -CAcreateserial \
             -extfile extensions -out {name}.pem"
        ));
    }

    fn acceptor(directory: &Path) -> TlsAcceptor {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut roots = RootCertStore::empty();
        for certificate in certificates(&directory.join("good-ca.pem")).unwrap() {
            roots.add(certificate).unwrap();
        }
        let verifier =
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(verifier.build().unwrap())
            .with_single_cert(
                certificates(&directory.join("good.pem")).unwrap(),
                PrivateKeyDer::from_pem_file(directory.join("good.key")).unwrap(),
            );
        TlsAcceptor::from(Arc::new(config.unwrap()))
    }

    #[tokio::test(flavor = "multi_thread")]
    #[ignore = "needs a broker; cargo xtask test starts one"]
    async fn both_sides_are_verified_and_a_stranger_is_not_trusted() {
        let mut config = server();
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        certify(directory.path(), "good");
        certify(directory.path(), "strange");
        let proxy = Proxy::start_with(&config, Some(acceptor(directory.path()))).await;
        config = config.with_nodes(vec![proxy.address.clone()]);
        config.timeout = Duration::from_secs(3);
        let client = Some((at("good.pem"), at("good.key")));
        config.tls = Some(Tls { ca: Some(at("good-ca.pem")), client: client.clone() });
        let link = Link::open(Arc::new(config.clone()), Role::Consume).await.unwrap();
        link.close(Duration::from_secs(1)).await;

        for tls in [
            Tls { ca: Some(at("strange-ca.pem")), client: client.clone() },
            Tls { ca: Some(at("good-ca.pem")), client: None },
            Tls { ca: None, client },
        ] {
            config.tls = Some(tls);
            let error = Link::open(Arc::new(config.clone()), Role::Consume).await.unwrap_err();
            assert_eq!(*error.kind(), ErrorKind::Unavailable, "{error}");
        }
        config.tls = Some(Tls { ca: Some(at("nowhere.pem")), client: None });
        let error = Link::open(Arc::new(config), Role::Consume).await.unwrap_err();
        assert_eq!(*error.kind(), ErrorKind::InvalidConfig);
        assert!(error.to_string().contains("nowhere.pem"), "{error}");
    }
}
