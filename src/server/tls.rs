//! TLS with a certificate that is reloaded when its file changes; existing connections keep theirs.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::net::TcpStream;
use tokio_rustls::rustls::crypto::{CryptoProvider, ring};
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::{ClientHello, ResolvesServerCert};
use tokio_rustls::rustls::sign::CertifiedKey;
use tokio_rustls::rustls::{self, ServerConfig};
use tokio_rustls::{Accept, TlsAcceptor};

use crate::sync::Mutex;

/// The server side of TLS 1.2 and 1.3; clones share the certificate.
#[derive(Clone)]
pub struct Tls {
    acceptor: TlsAcceptor,
    current: Arc<Current>,
}

/// The current certificate and its files.
struct Current {
    certificate: PathBuf,
    key: PathBuf,
    provider: Arc<CryptoProvider>,
    loaded: Mutex<Loaded>,
}

struct Loaded {
    key: Arc<CertifiedKey>,
    /// The content of the two files, because times and sizes may be unchanged when the content
    /// changes.
    files: Files,
}

/// The contents of a certificate's file and its key's file.
type Files = [Vec<u8>; 2];

/// Why a certificate cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TlsError {
    /// The file does not contain a certificate or a key.
    #[error("cannot use {}: {error}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The error.
        error: String,
    },
    /// The certificate and the key do not match, or are not usable.
    #[error("the certificate and its key cannot be used: {0}")]
    Pair(String),
}

/// The result of a reload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reloaded {
    /// The files have changed, and new connections use the new certificate.
    Changed,
    /// The files are unchanged.
    Unchanged,
}

impl Tls {
    /// Reads a certificate chain, the server's own certificate first, and its private key, both in
    /// PEM.
    ///
    /// # Errors
    ///
    /// When a file cannot be read, or the certificate and the key do not match.
    pub fn read(certificate: &Path, key: &Path) -> Result<Self, TlsError> {
        let provider = Arc::new(ring::default_provider());
        let files = contents([certificate, key])?;
        let pair = load([certificate, key], &files, &provider)?;
        let current = Arc::new(Current {
            certificate: certificate.to_owned(),
            key: key.to_owned(),
            provider: Arc::clone(&provider),
            loaded: Mutex::new(Loaded { key: pair, files }),
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

    /// Reads the files again, and uses a changed certificate; existing connections keep theirs.
    ///
    /// # Errors
    ///
    /// As for [`read`](Self::read); the old certificate then stays in use.
    pub fn reload(&self) -> Result<Reloaded, TlsError> {
        let Current {
            certificate,
            key,
            provider,
            loaded,
        } = &*self.current;
        let files = contents([certificate, key])?;
        if loaded.lock().files == files {
            return Ok(Reloaded::Unchanged);
        }
        let key = load([certificate, key], &files, provider)?;
        let before = std::mem::replace(&mut *loaded.lock(), Loaded { key, files });
        drop(before);
        Ok(Reloaded::Changed)
    }

    /// Begins the TLS handshake of a connection.
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

fn contents([certificate, key]: [&Path; 2]) -> Result<Files, TlsError> {
    let read = |path: &Path| std::fs::read(path).map_err(|error| TlsError::file(path, &error));
    Ok([read(certificate)?, read(key)?])
}

fn load(
    [certificate, key]: [&Path; 2],
    [chain, secret]: &Files,
    provider: &CryptoProvider,
) -> Result<Arc<CertifiedKey>, TlsError> {
    let chain = CertificateDer::pem_slice_iter(chain)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| TlsError::file(certificate, &error))?;
    if chain.is_empty() {
        let error = "there is no certificate in it";
        return Err(TlsError::file(certificate, &error));
    }
    let secret = PrivateKeyDer::from_pem_slice(secret);
    let secret = secret.map_err(|error| TlsError::file(key, &error))?;
    let pair = CertifiedKey::from_der(chain, secret, provider);
    pair.map(Arc::new)
        .map_err(|error: rustls::Error| TlsError::Pair(error.to_string()))
}

impl TlsError {
    fn file(path: &Path, error: &dyn fmt::Display) -> Self {
        Self::File {
            path: path.to_owned(),
            error: error.to_string(),
        }
    }
}

#[cfg(all(test, not(feature = "loom")))]
mod tests {
    use std::fs::File;
    use std::time::SystemTime;

    use super::*;

    const A: [&str; 2] = [
        include_str!("../../tests/e2e/keys/a.pem"),
        include_str!("../../tests/e2e/keys/a.key.pem"),
    ];
    const B: [&str; 2] = [
        include_str!("../../tests/e2e/keys/b.pem"),
        include_str!("../../tests/e2e/keys/b.key.pem"),
    ];

    /// Two files of one test, removed when dropped.
    struct Scratch([PathBuf; 2]);

    impl Scratch {
        fn new(name: &str) -> Self {
            let file = |end| format!("busline-{}-{name}.{end}", std::process::id());
            Self(["pem", "key"].map(|end| std::env::temp_dir().join(file(end))))
        }

        /// Writes the files with this time of modification.
        fn write(&self, pair: [&str; 2], at: SystemTime) {
            for (path, text) in self.0.iter().zip(pair) {
                std::fs::write(path, text).expect("a test may write there");
                let file = File::options().append(true).open(path);
                let set = file.and_then(|file| file.set_modified(at));
                set.expect("a test may change its own file");
            }
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            for path in &self.0 {
                drop(std::fs::remove_file(path));
            }
        }
    }

    #[test]
    fn a_certificate_is_new_by_what_it_is_and_not_by_its_time() {
        let files = Scratch::new("content");
        let early = SystemTime::UNIX_EPOCH;
        let later = early + std::time::Duration::from_secs(1);
        files.write(A, early);
        let tls = Tls::read(&files.0[0], &files.0[1]).expect("they are a pair");
        files.write(A, later);
        assert_eq!(tls.reload(), Ok(Reloaded::Unchanged));
        files.write(B, later);
        assert_eq!(tls.reload(), Ok(Reloaded::Changed));
        assert_eq!(tls.reload(), Ok(Reloaded::Unchanged));
        // A rename, as `mv` does it, keeps the modification time of the new file.
        let other = Scratch::new("renamed");
        other.write(A, later);
        for (from, to) in other.0.iter().zip(&files.0) {
            std::fs::rename(from, to).expect("a test may move its own files");
        }
        assert_eq!(tls.reload(), Ok(Reloaded::Changed));
    }

    #[test]
    fn a_file_that_is_half_written_keeps_the_old_certificate_and_is_read_again() {
        let files = Scratch::new("half");
        let at = SystemTime::UNIX_EPOCH;
        files.write(A, at);
        let tls = Tls::read(&files.0[0], &files.0[1]).expect("they are a pair");
        files.write([B[0], A[1]], at);
        assert!(matches!(tls.reload(), Err(TlsError::Pair(_))));
        files.write(["", B[1]], at);
        assert!(matches!(tls.reload(), Err(TlsError::File { .. })));
        files.write(B, at);
        assert_eq!(tls.reload(), Ok(Reloaded::Changed));
    }
}
