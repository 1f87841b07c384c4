//! TLS for connections that are established already: servers and clients that upgrade them, with certificates read from
//! files.
//!
//! Called by servers whose clients ask for TLS on a plain connection, and by such clients. It must never fall back to plain
//! text.

mod client;

pub use client::{TlsClient, TlsClientConfig, TlsIdentity};

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::{self, PemObject};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::{VerifierBuilderError, WebPkiClientVerifier};
use tokio_rustls::rustls::{self, RootCertStore, ServerConfig};

use super::Stream;

/// Where a server's TLS identity lies. The files are read again for each handshake: replaced ones count from the next
/// connection on, and connections that are established stay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsConfig {
    /// PEM file with the server's certificate and those between it and its authority.
    pub certificate: PathBuf,
    /// PEM file with the certificate's private key.
    pub key: PathBuf,
    /// PEM file with authorities of clients' certificates. Set: a client without a certificate of theirs is refused.
    pub client_ca: Option<PathBuf>,
}

/// The files cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// Missing, or not ours to read.
    #[error("cannot read the TLS file {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Not what it should be.
    #[error("{} holds no {what} in PEM form ({source})", path.display())]
    Pem {
        /// The file.
        path: PathBuf,
        /// What it should hold.
        what: &'static str,
        /// Why not.
        source: pem::Error,
    },
    /// Certificate and key do not go together, or are of a kind that is not supported.
    #[error("the TLS certificate cannot be used: {0}; check that it belongs to the key")]
    Certificate(#[from] rustls::Error),
    /// The authorities make no sense.
    #[error("the TLS authorities of clients cannot be used: {0}")]
    ClientCa(#[from] VerifierBuilderError),
}

/// Upgrades connections. Shared by all connections of a server.
pub struct TlsServer {
    config: TlsConfig,
    loaded: Mutex<Loaded>,
}

struct Loaded {
    files: Files,
    acceptor: TlsAcceptor,
}

/// What the files held.
#[derive(PartialEq, Eq)]
struct Files {
    certificate: Vec<u8>,
    key: Vec<u8>,
    client_ca: Option<Vec<u8>>,
}

impl TlsServer {
    /// Reads the files; an error tells what to correct. Blocks for as long as the file system does.
    pub fn load(config: TlsConfig) -> Result<Self, TlsError> {
        let files = Files::read(&config)?;
        let acceptor = files.acceptor(&config)?;
        Ok(Self { config, loaded: Mutex::new(Loaded { files, acceptor }) })
    }

    /// Does the handshake as the server, on a connection whose peer begins it now. No timeout of its own; dropping it
    /// closes the connection.
    pub async fn accept(self: &Arc<Self>, stream: Stream) -> io::Result<Stream> {
        let this = self.clone();
        // A panic in there has been reported by the panic hook.
        let acceptor = tokio::task::spawn_blocking(move || this.current()).await.map_err(io::Error::other)?;
        let Stream { reader, writer, peer } = stream;
        let tls = acceptor.accept(tokio::io::join(reader, writer)).await?;
        let (reader, writer) = tokio::io::split(tls);
        Ok(Stream { reader: Box::new(reader), writer: Box::new(writer), peer })
    }

    /// The acceptor for the files as they are. Files that cannot be used (yet: they may be replaced one after the other)
    /// leave the last good ones in force.
    fn current(&self) -> TlsAcceptor {
        let files = Files::read(&self.config);
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        let changed = match files {
            Ok(files) if files == loaded.files => return loaded.acceptor.clone(),
            Ok(files) => files.acceptor(&self.config).map(|acceptor| Loaded { files, acceptor }),
            Err(error) => Err(error),
        };
        match changed {
            Ok(changed) => {
                tracing::info!(certificate = %self.config.certificate.display(), "using the new TLS certificate");
                *loaded = changed;
            }
            Err(error) => tracing::warn!(%error, "keeping the TLS certificate used so far"),
        }
        loaded.acceptor.clone()
    }
}

impl Files {
    fn read(config: &TlsConfig) -> Result<Self, TlsError> {
        Ok(Self {
            certificate: read(&config.certificate)?,
            key: read(&config.key)?,
            client_ca: config.client_ca.as_deref().map(read).transpose()?,
        })
    }

    fn acceptor(&self, config: &TlsConfig) -> Result<TlsAcceptor, TlsError> {
        let chain = certificates(&config.certificate, &self.certificate)?;
        let key = PrivateKeyDer::from_pem_slice(&self.key).map_err(|source| TlsError::Pem {
            path: config.key.clone(),
            what: "private key",
            source,
        })?;
        let provider = Arc::new(ring::default_provider());
        let versions =
            ServerConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions()?;
        let server = match config.client_ca.as_deref().zip(self.client_ca.as_deref()) {
            None => versions.with_no_client_auth(),
            Some((path, bytes)) => {
                let mut roots = RootCertStore::empty();
                for authority in certificates(path, bytes)? {
                    roots.add(authority)?;
                }
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
                versions.with_client_cert_verifier(verifier.build()?)
            }
        };
        Ok(TlsAcceptor::from(Arc::new(server.with_single_cert(chain, key)?)))
    }
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    std::fs::read(path).map_err(|source| TlsError::Read { path: path.to_owned(), source })
}

/// At least one.
fn certificates(path: &Path, bytes: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let wrong = |source| TlsError::Pem { path: path.to_owned(), what: "certificate", source };
    let all = CertificateDer::pem_slice_iter(bytes).collect::<Result<Vec<_>, _>>().map_err(wrong)?;
    if all.is_empty() { Err(wrong(pem::Error::NoItemsFound)) } else { Ok(all) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(dir: &Path, key: Option<&str>) -> TlsConfig {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".into()]).expect("a certificate");
        let config =
            TlsConfig { certificate: dir.join("cert.pem"), key: dir.join("key.pem"), client_ca: None };
        std::fs::write(&config.certificate, made.cert.pem()).expect("written");
        let key = key.map_or_else(|| made.signing_key.serialize_pem(), str::to_owned);
        std::fs::write(&config.key, key).expect("written");
        config
    }

    #[test]
    fn files_that_cannot_be_used_say_why() {
        let dir = tempfile::tempdir().expect("a directory");
        let config = written(dir.path(), None);
        let text = |config: &TlsConfig| TlsServer::load(config.clone()).err().expect("unusable").to_string();
        let missing = TlsConfig { key: dir.path().join("none"), ..config.clone() };
        assert!(text(&missing).contains("cannot read the TLS file"));
        let swapped = TlsConfig { certificate: config.key.clone(), ..config.clone() };
        assert!(text(&swapped).contains("no certificate"));
        let authority = TlsConfig { client_ca: Some(config.key.clone()), ..config.clone() };
        assert!(text(&authority).contains("no certificate"));
        let other = rcgen::generate_simple_self_signed(vec!["other".into()]).expect("a certificate");
        std::fs::write(&config.key, other.signing_key.serialize_pem()).expect("written");
        assert!(text(&config).contains("belongs to the key"));
    }

    #[test]
    fn files_replaced_one_after_the_other_count_once_they_fit() {
        let dir = tempfile::tempdir().expect("a directory");
        let config = written(dir.path(), None);
        let server = TlsServer::load(config.clone()).expect("usable");
        let used = |server: &TlsServer| server.loaded.lock().expect("the lock").files.certificate.clone();
        let first = used(&server);
        let key = std::fs::read_to_string(&config.key).expect("read");
        let second = written(dir.path(), Some(&key));
        server.current();
        assert_eq!(used(&server), first);
        written(dir.path(), None);
        server.current();
        assert_eq!(used(&server), std::fs::read(&second.certificate).expect("read"));
        assert_ne!(used(&server), first);
    }
}
