//! The root certificates for verifying other servers.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

/// Root certificates for verifying other servers.
#[derive(Clone)]
pub struct Roots(TlsConnector);

/// Why there are no root certificates.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RootsError {
    /// The file does not contain usable certificates.
    #[error("cannot use {}: {error}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The error.
        error: String,
    },
    /// The system has no root certificates.
    #[error("this system trusts no authority{0}: install its `ca-certificates`, or name a file")]
    System(String),
}

impl RootsError {
    pub(super) fn file(path: &Path, error: &dyn fmt::Display) -> Self {
        Self::File {
            path: path.to_owned(),
            error: error.to_string(),
        }
    }
}

impl Roots {
    /// The root certificates of the system, or of the file in `SSL_CERT_FILE`.
    ///
    /// # Errors
    ///
    /// When there are none.
    pub fn system() -> Result<Self, RootsError> {
        let found = rustls_native_certs::load_native_certs();
        let mut roots = RootCertStore::empty();
        // Unusable certificates beside usable ones are ignored.
        let (usable, _) = roots.add_parsable_certificates(found.certs);
        if usable == 0 {
            let error = found.errors.first();
            let said = error.map_or_else(String::new, |error| format!(" ({error})"));
            return Err(RootsError::System(said));
        }
        Ok(Self::of(roots))
    }

    /// The root certificates of a PEM file, and no others.
    ///
    /// # Errors
    ///
    /// When the file cannot be read, or contains no certificate or an unusable one.
    pub fn read(path: &Path) -> Result<Self, RootsError> {
        let pem = std::fs::read(path).map_err(|error| RootsError::file(path, &error))?;
        Self::of_file(path, &pem)
    }

    /// The root certificates of a file with this content.
    pub(super) fn of_file(path: &Path, pem: &[u8]) -> Result<Self, RootsError> {
        let failed = |error: &dyn fmt::Display| RootsError::file(path, error);
        let certificates = CertificateDer::pem_slice_iter(pem)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| failed(&error))?;
        if certificates.is_empty() {
            return Err(failed(&"there is no certificate in it"));
        }
        let mut roots = RootCertStore::empty();
        for certificate in certificates {
            roots.add(certificate).map_err(|error| failed(&error))?;
        }
        Ok(Self::of(roots))
    }

    fn of(roots: RootCertStore) -> Self {
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("the provider has what TLS 1.2 and 1.3 need");
        let config = config.with_root_certificates(roots).with_no_client_auth();
        Self(TlsConnector::from(Arc::new(config)))
    }

    /// Opens a TLS connection to a host, after verifying its certificate.
    pub(super) async fn connect(
        &self,
        host: &str,
        stream: TcpStream,
    ) -> std::io::Result<TlsStream<TcpStream>> {
        let name = ServerName::try_from(host.to_owned()).map_err(std::io::Error::other)?;
        self.0.connect(name, stream).await
    }
}

impl fmt::Debug for Roots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Roots")
    }
}
