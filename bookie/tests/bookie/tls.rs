//! Connections that are upgraded to TLS, as both kinds of clients do it.

use std::path::Path;
use std::sync::Arc;

use magnetar_bookie::{Bookie, Config};
use magnetar_common::bookies::BookieDirectory;
use magnetar_common::metadata::SharedMetadata;
use magnetar_common::net::tls::TlsConfig;
use magnetar_proto::bookkeeper::Code;
use magnetar_proto::bookkeeper::metadata_format::BookieServiceInfoFormat;
use magnetar_proto::bookkeeper::v2::Response;
use magnetar_proto::bookkeeper::v3::{self, OperationType, ReadRequest, request_header};
use prost::Message;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use crate::support::*;

/// A certificate authority, in a directory for what it issues.
struct Authority {
    dir: tempfile::TempDir,
    issuer: CertifiedIssuer<'static, KeyPair>,
}

/// A certificate and its key.
struct Identity {
    certificate: CertificateDer<'static>,
    key: PrivateKeyDer<'static>,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        Authority { dir: tempfile::tempdir().unwrap(), issuer }
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.dir.path().join(name)
    }

    fn issue(&self) -> (rcgen::Certificate, KeyPair) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["localhost".into()]).unwrap();
        (params.signed_by(&key, &self.issuer).unwrap(), key)
    }

    fn client(&self) -> Identity {
        let (certificate, key) = self.issue();
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        Identity { certificate: certificate.der().clone(), key }
    }

    /// Writes the files of a server.
    fn server_files(&self, mutual: bool) -> TlsConfig {
        let (certificate, key) = self.issue();
        let files = TlsConfig {
            certificate: self.path("server.pem"),
            key: self.path("server.key"),
            client_ca: mutual.then(|| self.path("ca.pem")),
        };
        write(&files.key, &key.serialize_pem());
        write(&files.certificate, &certificate.pem());
        write(&self.path("ca.pem"), &self.issuer.pem());
        files
    }

    /// How a client that trusts this authority connects.
    fn trusting(&self, identity: Option<Identity>) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(self.issuer.der().clone()).unwrap();
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        Arc::new(match identity {
            None => builder.with_no_client_auth(),
            Some(own) => builder.with_client_auth_cert(vec![own.certificate], own.key).unwrap(),
        })
    }
}

fn write(path: &Path, text: &str) {
    std::fs::write(path, text).unwrap();
}

fn config(world: &World, files: TlsConfig) -> Config {
    let mut config = world.config();
    config.tls = Some(files);
    config
}

fn start_tls() -> v3::Request {
    v3::Request { header: request_header(OperationType::StartTls, 7), ..Default::default() }
}

/// Asks for TLS and does the handshake.
async fn upgraded(bookie: &Bookie, tls: Arc<ClientConfig>) -> std::io::Result<Client> {
    let mut client = Client::connect(bookie).await;
    let response = client.v3(start_tls()).await;
    assert_eq!((response.status, response.header.txn_id), (0, 7));
    assert!(response.start_tls_response.is_some());
    client.encrypted(tls).await
}

async fn adds(client: &mut Client, entry: u64) -> bool {
    client.try_send_v2(&add(1, entry)).await;
    let Some(frame) = client.frame().await else { return false };
    let answer = magnetar_proto::bookkeeper::v2::decode_response(frame).unwrap();
    matches!(answer, Response::Add { code: Code::Ok, .. })
}

#[tokio::test]
async fn clients_of_both_versions_go_on_over_tls() {
    let (world, authority) = (World::new(), Authority::new());
    let bookie = world.start_with(config(&world, authority.server_files(false))).await.unwrap();
    let mut v2 = upgraded(&bookie, authority.trusting(None)).await.unwrap();
    for entry in 0..100 {
        v2.send_v2(&add(1, entry)).await;
    }
    for entry in 0..100 {
        assert!(
            matches!(v2.next_v2().await, Response::Add { code: Code::Ok, entry_id, .. } if entry_id.0 == entry)
        );
    }
    let large = body_with(1, 100, &vec![5; 3_000_000]);
    let stored = v2.v2(add_with(KEY, Default::default(), large.clone(), 1, 100)).await;
    assert!(matches!(stored, Response::Add { code: Code::Ok, .. }));
    assert!(
        matches!(v2.v2(read(1, Some(100))).await, Response::Read { body: Some(found), .. } if found == large)
    );

    let mut v3 = upgraded(&bookie, authority.trusting(None)).await.unwrap();
    let read = ReadRequest { ledger_id: 1, entry_id: 3, ..Default::default() };
    let request = v3::Request {
        header: request_header(OperationType::ReadEntry, 8),
        read_request: Some(read),
        ..Default::default()
    };
    assert_eq!(v3.v3(request).await.read_response.unwrap().body, Some(body(1, 3)));
    // It is encrypted already.
    assert_eq!(v3.v3(start_tls()).await.status, Code::BadRequest.to_v3() as i32);
    // Whoever does not ask for it is served as before.
    assert!(adds(&mut Client::connect(&bookie).await, 101).await);
    bookie.shutdown().await.unwrap();
}

#[tokio::test]
async fn the_registration_tells_that_tls_is_offered() {
    let (world, authority) = (World::new(), Authority::new());
    let extensions = async |metadata: &SharedMetadata| {
        let key = format!("{}/bookie-1", magnetar_common::layout::BOOKIES);
        let record = metadata.get(&key).await.unwrap().expect("a registration");
        BookieServiceInfoFormat::decode(record.bytes).unwrap().endpoints[0].extensions.clone()
    };
    let bookie = world.start_with(config(&world, authority.server_files(false))).await.unwrap();
    assert_eq!(extensions(&world.metadata).await, ["tls"]);
    assert!(BookieDirectory::follow(world.metadata.clone()).await.unwrap().resolve(bookie.id()).is_some());
    bookie.shutdown().await.unwrap();
    let bookie = world.start().await.unwrap();
    assert!(extensions(&world.metadata).await.is_empty());
    bookie.shutdown().await.unwrap();
}

#[tokio::test]
async fn with_authorities_for_clients_only_their_clients_are_served() {
    let (world, authority, foreign) = (World::new(), Authority::new(), Authority::new());
    let mut config = config(&world, authority.server_files(true));
    config.tls_required = true;
    let bookie = world.start_with(config).await.unwrap();
    let mut good = upgraded(&bookie, authority.trusting(Some(authority.client()))).await.unwrap();
    assert!(adds(&mut good, 0).await);
    for identity in [None, Some(foreign.client())] {
        // In TLS 1.3 a client learns with its first read that its certificate was refused.
        let refused = match upgraded(&bookie, authority.trusting(identity)).await {
            Ok(mut client) => !adds(&mut client, 1).await,
            Err(_) => true,
        };
        assert!(refused);
    }
    assert!(!adds(&mut Client::connect(&bookie).await, 1).await);
    assert!(adds(&mut good, 1).await);
    bookie.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_client_that_does_not_trust_the_bookie_harms_nobody() {
    let (world, authority, foreign) = (World::new(), Authority::new(), Authority::new());
    let bookie = world.start_with(config(&world, authority.server_files(false))).await.unwrap();
    assert!(upgraded(&bookie, foreign.trusting(None)).await.is_err());
    assert!(adds(&mut upgraded(&bookie, authority.trusting(None)).await.unwrap(), 0).await);
    bookie.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_replaced_certificate_counts_from_the_next_connection_on() {
    let (world, first, second) = (World::new(), Authority::new(), Authority::new());
    let files = first.server_files(false);
    let bookie = world.start_with(config(&world, files.clone())).await.unwrap();
    let mut before = upgraded(&bookie, first.trusting(None)).await.unwrap();
    assert!(adds(&mut before, 0).await);
    let new = second.server_files(false);
    std::fs::copy(new.key, files.key).unwrap();
    std::fs::copy(new.certificate, files.certificate).unwrap();
    assert!(upgraded(&bookie, first.trusting(None)).await.is_err());
    assert!(adds(&mut upgraded(&bookie, second.trusting(None)).await.unwrap(), 1).await);
    assert!(adds(&mut before, 2).await);
    bookie.shutdown().await.unwrap();
}

/// What is sent in plain text before the handshake could have been slipped in by anybody on the way.
#[tokio::test]
async fn requests_sent_along_with_the_one_for_tls_end_the_connection() {
    let (world, authority) = (World::new(), Authority::new());
    let bookie = world.start_with(config(&world, authority.server_files(false))).await.unwrap();
    let mut client = Client::connect(&bookie).await;
    let mut bytes = bytes::BytesMut::new();
    v3::encode(&start_tls(), &mut bytes);
    magnetar_proto::bookkeeper::v2::encode_request(&add(1, 0), &mut bytes);
    client.send(&bytes).await;
    while client.frame().await.is_some() {}
    let mut other = Client::connect(&bookie).await;
    assert!(matches!(other.v2(read(1, Some(0))).await, Response::Read { code: Code::NoLedger, .. }));
    bookie.shutdown().await.unwrap();
}
