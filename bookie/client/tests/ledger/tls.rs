//! TLS between the client and its bookies.

use crate::cluster::{Cluster, append, options, payloads, read_all};
use magnetar_common::Environment;
use magnetar_common::clock::{Clock, ManualClock, SystemClock};
use magnetar_common::metadata::Expect;
use magnetar_common::net::tls::{TlsClientConfig, TlsConfig, TlsIdentity};
use magnetar_ledger::replication::{AutoRecovery, Settings};
use magnetar_ledger::{Client, ClientConfig, LedgerError, LedgerOptions};
use magnetar_proto::bookkeeper::paths::ledger_path;
use magnetar_proto::ids::EntryId;
use std::path::Path;
use std::time::Duration;

/// Writes a certificate for 127.0.0.1 and its key.
fn certificate(dir: &Path, name: &str) -> TlsIdentity {
    let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".into()]).expect("a certificate");
    let (certificate, key) = (dir.join(format!("{name}.pem")), dir.join(format!("{name}.key")));
    std::fs::write(&certificate, made.cert.pem()).expect("written");
    std::fs::write(&key, made.signing_key.serialize_pem()).expect("written");
    TlsIdentity { certificate, key }
}

/// Bookies that serve nobody without TLS, and a client whose certificate they trust.
async fn secured(dir: &Path) -> (Cluster, TlsClientConfig) {
    let (server, client) = (certificate(dir, "server"), certificate(dir, "client"));
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
    (cluster, TlsClientConfig { ca: server.certificate, identity: Some(client) })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ledger_is_written_read_and_recovered_over_mutual_tls() {
    let dir = tempfile::tempdir().expect("a directory");
    let (cluster, trusted) = secured(dir.path()).await;
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

/// Their lists of entries are asked for as their free space is, each with a connection of its own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_bookies_hold_is_asked_for_over_tls_too() {
    let dir = tempfile::tempdir().expect("a directory");
    let (cluster, tls) = secured(dir.path()).await;
    let manual = ManualClock::new();
    let env = Environment { clock: manual.clone(), ..Environment::system() };
    let config = ClientConfig { tls: Some(tls), ..ClientConfig::default() };
    let client = Client::new(cluster.metadata.clone(), env, config).await.expect("a client");
    let two = LedgerOptions { ensemble: 2, write_quorum: 2, ..options() };
    let mut writer = client.create(two).await.expect("a ledger");
    append(&mut writer, 0..25).await;
    let ledger = writer.id();
    writer.close().await.expect("closed");
    // The record names a bookie that has nothing of it.
    let mut record = client.metadata(ledger).await.expect("metadata");
    let stranger = (0..3).map(Cluster::id).find(|id| !record.last_segment().1.contains(id)).expect("a third");
    record.segments.last_entry().expect("a segment").get_mut()[1] = stranger.clone();
    cluster.metadata.put(&ledger_path(ledger), record.encode(), Expect::Any).await.expect("put");
    let settings = Settings { integrity_interval: Duration::from_secs(60), ..Settings::default() };
    let recovery =
        AutoRecovery::start(client, stranger, settings, Box::new(Vec::new)).await.expect("started");
    let clock = SystemClock::default();
    let told = async {
        while !recovery.metrics().render().contains("bookie_integrity_LEDGERS_LACKING 1\n") {
            manual.advance(Duration::from_millis(100));
            clock.sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), told).await.expect("it tells that it has nothing");
    recovery.stop().await;
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
