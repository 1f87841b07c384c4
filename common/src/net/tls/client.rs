//! The client's side of TLS on connections that are established already.

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use super::{TlsError, certificates, read};
use crate::net::Stream;

/// Whom a client trusts, and who it is. The files are read again for each handshake, like a server's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsClientConfig {
    /// PEM file with the authorities of servers' certificates. No other is trusted.
    pub ca: PathBuf,
    /// PEM files with the client's own certificate and its private key, for servers that ask for one.
    pub identity: Option<TlsIdentity>,
}

/// A certificate and its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsIdentity {
    /// PEM file with the certificate and those between it and its authority.
    pub certificate: PathBuf,
    /// PEM file with the certificate's private key.
    pub key: PathBuf,
}

/// Upgrades connections to servers. Shared by all connections of a client.
pub struct TlsClient {
    config: TlsClientConfig,
    loaded: Mutex<Loaded>,
}

struct Loaded {
    files: Files,
    connector: TlsConnector,
}

/// What the files held.
#[derive(PartialEq, Eq)]
struct Files {
    ca: Vec<u8>,
    identity: Option<(Vec<u8>, Vec<u8>)>,
}

impl TlsClient {
    /// Reads the files; an error tells what to correct. Blocks for as long as the file system does.
    pub fn load(config: TlsClientConfig) -> Result<Self, TlsError> {
        let files = Files::read(&config)?;
        let connector = files.connector(&config)?;
        Ok(Self { config, loaded: Mutex::new(Loaded { files, connector }) })
    }

    /// Does the handshake as the client. `address` is `host:port`, and the server's certificate must be for that host. No
    /// timeout of its own; dropping it closes the connection.
    pub async fn connect(&self, stream: Stream, address: &str) -> io::Result<Stream> {
        let name = server_name(address)?;
        let connector = self.current();
        let Stream { reader, writer, peer } = stream;
        let tls = connector.connect(name, tokio::io::join(reader, writer)).await?;
        let (reader, writer) = tokio::io::split(tls);
        Ok(Stream { reader: Box::new(reader), writer: Box::new(writer), peer })
    }

    /// The connector for the files as they are; those that cannot be used leave the last good ones in force. Some small
    /// files, and a connection to a server is made once in a long while: not worth a thread.
    fn current(&self) -> TlsConnector {
        let files = Files::read(&self.config);
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        let changed = match files {
            Ok(files) if files == loaded.files => return loaded.connector.clone(),
            Ok(files) => files.connector(&self.config).map(|connector| Loaded { files, connector }),
            Err(error) => Err(error),
        };
        match changed {
            Ok(changed) => *loaded = changed,
            Err(error) => tracing::warn!(%error, "keeping the TLS files used so far"),
        }
        loaded.connector.clone()
    }
}

impl Files {
    fn read(config: &TlsClientConfig) -> Result<Self, TlsError> {
        let identity = match &config.identity {
            Some(identity) => Some((read(&identity.certificate)?, read(&identity.key)?)),
            None => None,
        };
        Ok(Self { ca: read(&config.ca)?, identity })
    }

    fn connector(&self, config: &TlsClientConfig) -> Result<TlsConnector, TlsError> {
        let mut roots = RootCertStore::empty();
        for authority in certificates(&config.ca, &self.ca)? {
            roots.add(authority)?;
        }
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots);
        let client = match config.identity.as_ref().zip(self.identity.as_ref()) {
            None => builder.with_no_client_auth(),
            Some((paths, (certificate, key))) => {
                let chain = certificates(&paths.certificate, certificate)?;
                let key = PrivateKeyDer::from_pem_slice(key).map_err(|source| TlsError::Pem {
                    path: paths.key.clone(),
                    what: "private key",
                    source,
                })?;
                builder.with_client_auth_cert(chain, key)?
            }
        };
        Ok(TlsConnector::from(Arc::new(client)))
    }
}

/// The host of `host:port`, as certificates name it; an IPv6 address stands in brackets.
fn server_name(address: &str) -> io::Result<ServerName<'static>> {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    ServerName::try_from(host.to_owned()).map_err(|error| {
        io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("{host} is no name that a certificate can have: {error}"),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::super::{TlsConfig, TlsServer};
    use super::*;
    use crate::net::{Network, TcpNetwork};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    /// What the server reads of five bytes from a client that trusts `ca` and believes to talk to `host`.
    async fn exchange(server: TlsConfig, ca: PathBuf, host: &str) -> io::Result<[u8; 5]> {
        let server = Arc::new(TlsServer::load(server).expect("usable"));
        let client = TlsClient::load(TlsClientConfig { ca, identity: None }).expect("usable");
        let listener = TcpNetwork.bind("127.0.0.1:0".parse().expect("an address")).await.expect("a port");
        let address = listener.local_addr().to_string();
        let accepting = async {
            let mut stream = server.accept(listener.accept().await?).await?;
            let mut bytes = [0; 5];
            stream.reader.read_exact(&mut bytes).await?;
            Ok::<_, io::Error>(bytes)
        };
        let connecting = async {
            let stream = TcpNetwork.connect(&address).await?;
            let mut stream = client.connect(stream, &format!("{host}:3181")).await?;
            stream.writer.write_all(b"hello").await?;
            stream.writer.flush().await?;
            Ok::<_, io::Error>(stream)
        };
        let (accepted, connected) = tokio::join!(accepting, connecting);
        connected?;
        accepted
    }

    #[tokio::test]
    async fn only_a_server_with_a_trusted_certificate_of_its_own_name_is_spoken_to() {
        let dir = tempfile::tempdir().expect("a directory");
        let made = rcgen::generate_simple_self_signed(vec!["bookie".into()]).expect("a certificate");
        let other = rcgen::generate_simple_self_signed(vec!["bookie".into()]).expect("a certificate");
        let path = |name: &str| dir.path().join(name);
        std::fs::write(path("cert.pem"), made.cert.pem()).expect("written");
        std::fs::write(path("key.pem"), made.signing_key.serialize_pem()).expect("written");
        std::fs::write(path("other.pem"), other.cert.pem()).expect("written");
        let server = TlsConfig { certificate: path("cert.pem"), key: path("key.pem"), client_ca: None };
        let bytes = exchange(server.clone(), path("cert.pem"), "bookie").await.expect("trusted");
        assert_eq!(&bytes, b"hello");
        exchange(server.clone(), path("other.pem"), "bookie").await.expect_err("another authority");
        exchange(server, path("cert.pem"), "another").await.expect_err("another host");
    }

    #[test]
    fn the_host_of_an_address_is_what_stands_before_its_port() {
        for (address, host) in
            [("bookie-0.example:3181", "bookie-0.example"), ("[::1]:3181", "::1"), ("10.0.0.1:1", "10.0.0.1")]
        {
            assert_eq!(server_name(address).expect(address).to_str(), host);
        }
        assert!(server_name("not a name:1").is_err());
    }
}
