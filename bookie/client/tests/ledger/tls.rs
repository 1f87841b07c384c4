//! TLS between the client and its bookies.

use crate::cluster::{Cluster, append, options, payloads, read_all};
use magnetar_common::net::tls::{TlsClientConfig, TlsConfig, TlsIdentity};
use magnetar_ledger::{ClientConfig, LedgerError};
use magnetar_proto::ids::EntryId;
use std::path::Path;

/// Writes a certificate for 127.0.0.1 and its key.
fn certificate(dir: &Path, name: &str) -> TlsIdentity {
    let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".into()]).expect("a certificate");
    let (certificate, key) = (dir.join(format!("{name}.pem")), dir.join(format!("{name}.key")));
    std::fs::write(&certificate, made.cert.pem()).expect("written");
    std::fs::write(&key, made.signing_key.serialize_pem()).expect("written");
    TlsIdentity { certificate, key }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ledger_is_written_read_and_recovered_over_mutual_tls() {
    let dir = tempfile::tempdir().expect("a directory");
    let (server, client) = (certificate(dir.path(), "server"), certificate(dir.path(), "client"));
    let tls = TlsConfig {
        certificate: server.certificate.clone(),
        key: server.key.clone(),
        client_ca: Some(client.certificate.clone()),
    };
    let cluster = Cluster::start_with(3, move |config| {
        config.tls = Some(tls.clone());
        config.tls_required = true;
    })
    .await;
    let trusted = TlsClientConfig { ca: server.certificate, identity: Some(client) };
    let config = ClientConfig { tls: Some(trusted.clone()), ..ClientConfig::default() };
    let client = Cluster::client_with(&cluster.metadata, config).await;
    let mut writer = client.create(options()).await.expect("a ledger");
    append(&mut writer, 0..1_000).await;
    assert_eq!(read_all(&writer.reader(), 999).await, payloads(1_000));
    let id = writer.id();
    drop(writer);
    let reader = client.recover(id, b"").await.expect("recovered");
    assert_eq!(read_all(&reader, 999).await, payloads(1_000));

    // In clear nobody gets in, nor without the right certificate.
    let stranger = TlsClientConfig { identity: None, ..trusted };
    let stranger = ClientConfig { tls: Some(stranger), ..ClientConfig::default() };
    for config in [ClientConfig::default(), stranger] {
        let client = Cluster::client_with(&cluster.metadata, config).await;
        let error = client.open(id, b"").await.expect("closed").read(EntryId(0), EntryId(0), 1).await.err();
        assert!(matches!(error, Some(LedgerError::Unreadable { .. })), "{error:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_wants_tls_never_speaks_in_clear() {
    let dir = tempfile::tempdir().expect("a directory");
    let cluster = Cluster::start(3).await;
    let tls = TlsClientConfig { ca: certificate(dir.path(), "server").certificate, identity: None };
    let config = ClientConfig { tls: Some(tls), ..ClientConfig::default() };
    let client = Cluster::client_with(&cluster.metadata, config).await;
    let mut writer = client.create(options()).await.expect("a ledger");
    writer.append("secret".into()).expect("open");
    let error = crate::cluster::failure(&mut writer).await;
    assert!(matches!(error, LedgerError::NotEnoughBookies { .. }), "{error:?}");
    for bookie in 0..3 {
        assert!(!cluster.holds(bookie, writer.id(), 0).await);
    }
}
