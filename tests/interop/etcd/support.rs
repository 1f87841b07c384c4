//! What the tests share: etcd or a skip, stores over it, and a client that looks past the store.

use anyhow::Result;
use bytes::Bytes;
use magnetar_common::clock::{Clock, SystemClock};
use magnetar_common::metadata::{EtcdConfig, EtcdStore, WatchEvent};
use magnetar_tests::etcd::{Etcd, program};
use std::sync::Arc;
use std::time::Duration;

/// Bounds what should take milliseconds, on a busy machine.
pub(crate) const SOON: Duration = Duration::from_secs(60);

/// For one operation among thousands at once, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A cluster of this test's own, or `None` after telling why not.
pub(crate) fn etcd() -> Result<Option<Etcd>> {
    match program() {
        Ok(program) => Etcd::start(program).map(Some),
        Err(reason) => {
            println!("SKIPPED interop/etcd: {reason}");
            Ok(None)
        }
    }
}

/// Tells that a test ran.
pub(crate) fn ran(test: &str) {
    println!("RAN interop/etcd: {test}");
}

pub(crate) fn clock() -> Arc<SystemClock> {
    Arc::new(SystemClock::default())
}

/// A store over the cluster at `host:port`.
pub(crate) async fn store(address: &str) -> EtcdStore {
    let config = EtcdConfig::parse(&format!("etcd://{address}")).expect("a URL");
    let config = EtcdConfig { limit: PATIENCE, ..config };
    EtcdStore::connect(&config, clock()).await.expect("a store")
}

/// A client without our store between.
pub(crate) async fn raw(etcd: &Etcd) -> etcd_client::Client {
    etcd_client::Client::connect([etcd.address()], None).await.expect("a client")
}

pub(crate) fn bytes(text: &'static str) -> Bytes {
    Bytes::from_static(text.as_bytes())
}

/// What comes of a future that must not take long.
pub(crate) async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(SOON, future).await {
        Ok(outcome) => outcome,
        Err(_) => panic!("{what}: not within {SOON:?}"),
    }
}

/// Asks until the answer is `true`.
pub(crate) async fn until<F: Future<Output = bool>>(what: &str, mut holds: impl FnMut() -> F) {
    soon(what, async {
        while !holds().await {
            clock().sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
}

/// An event as one word, for comparing a whole history.
pub(crate) fn told(event: Option<WatchEvent>) -> String {
    match event {
        Some(WatchEvent::Changed { key, created, .. }) => format!("{}{key}", if created { "+" } else { "" }),
        Some(WatchEvent::Deleted { key }) => format!("-{key}"),
        Some(WatchEvent::Resync) => "resync".into(),
        None => "end".into(),
    }
}
