//! TLS with a certificate that is read anew when its file changes; connections keep theirs.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use tokio::net::TcpStream;
use tokio_rustls::rustls::crypto::{CryptoProvider, ring};
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::{ClientHello, ResolvesServerCert};
use tokio_rustls::rustls::sign::CertifiedKey;
use tokio_rustls::rustls::{self, ServerConfig};
use tokio_rustls::{Accept, TlsAcceptor};

use crate::sync::Mutex;

/// The server's side of TLS 1.2 and 1.3; clones share the certificate.
#[derive(Clone)]
pub struct Tls {
    acceptor: TlsAcceptor,
    current: Arc<Current>,
}

/// The certificate and where it comes from.
struct Current {
    certificate: PathBuf,
    key: PathBuf,
    provider: Arc<CryptoProvider>,
    loaded: Mutex<Loaded>,
}

struct Loaded {
    key: Arc<CertifiedKey>,
    /// When the two files had last been changed.
    changed: [Option<SystemTime>; 2],
}

/// Why a certificate cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TlsError {
    /// The file does not have what it should.
    #[error("cannot use {}: {error}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        error: String,
    },
    /// The certificate and the key are no pair, or not usable.
    #[error("the certificate and its key cannot be used: {0}")]
    Pair(String),
}

/// What a look at the files came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reloaded {
    /// They are new, and used from now on.
    Changed,
    /// They are as they were.
    Unchanged,
}

impl Tls {
    /// Reads a chain of certificates, the server's own first, and its private key, both in PEM.
    ///
    /// # Errors
    ///
    /// When one cannot be read, or they are no pair.
    pub fn read(certificate: &Path, key: &Path) -> Result<Self, TlsError> {
        let provider = Arc::new(ring::default_provider());
        let changed = changed(certificate, key);
        let pair = load(certificate, key, &provider)?;
        let current = Arc::new(Current {
            certificate: certificate.to_owned(),
            key: key.to_owned(),
            provider: Arc::clone(&provider),
            loaded: Mutex::new(Loaded { key: pair, changed }),
        });
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| TlsError::Pair(error.to_string()))?;
        let mut config = config
            .with_no_client_auth()
            .with_cert_resolver(Arc::clone(&current) as Arc<dyn ResolvesServerCert>);
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let acceptor = TlsAcceptor::from(Arc::new(config));
        Ok(Self { acceptor, current })
    }

    /// Reads the files again if they have changed; connections there are keep what they have.
    ///
    /// # Errors
    ///
    /// As for [`read`](Self::read); the old certificate stays then.
    pub fn reload(&self) -> Result<Reloaded, TlsError> {
        let Current {
            certificate,
            key,
            provider,
            loaded,
        } = &*self.current;
        // Before they are read: what changes meanwhile is seen the next time.
        let changed = changed(certificate, key);
        if loaded.lock().changed == changed {
            return Ok(Reloaded::Unchanged);
        }
        let key = load(certificate, key, provider)?;
        let before = std::mem::replace(&mut *loaded.lock(), Loaded { key, changed });
        drop(before);
        Ok(Reloaded::Changed)
    }

    /// Begins the handshake of a connection.
    pub(super) fn accept(&self, stream: TcpStream) -> Accept<TcpStream> {
        self.acceptor.accept(stream)
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.current.fmt(f)
    }
}

impl fmt::Debug for Current {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Tls").field(&self.certificate).finish()
    }
}

impl ResolvesServerCert for Current {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.loaded.lock().key))
    }
}

/// When the files were last changed.
fn changed(certificate: &Path, key: &Path) -> [Option<SystemTime>; 2] {
    [certificate, key].map(|path| path.metadata().and_then(|file| file.modified()).ok())
}

fn load(
    certificate: &Path,
    key: &Path,
    provider: &CryptoProvider,
) -> Result<Arc<CertifiedKey>, TlsError> {
    let failed = |path: &Path, error: &dyn fmt::Display| TlsError::File {
        path: path.to_owned(),
        error: error.to_string(),
    };
    let chain = CertificateDer::pem_file_iter(certificate)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| failed(certificate, &error))?;
    if chain.is_empty() {
        return Err(failed(certificate, &"there is no certificate in it"));
    }
    let key = PrivateKeyDer::from_pem_file(key).map_err(|error| failed(key, &error))?;
    let pair = CertifiedKey::from_der(chain, key, provider);
    pair.map(Arc::new)
        .map_err(|error: rustls::Error| TlsError::Pair(error.to_string()))
}
