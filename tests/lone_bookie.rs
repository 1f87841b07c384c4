//! One bookie as a process, in its production configuration, with metadata of its own in a file: for a client that brings
//! its own list of bookies, and for measurements that need no other process.
//!
//! Called by the Java suites, `bench bookie` and `bench peer`. It must never set what a user could not, and never know
//! ledgers: the client's metadata are elsewhere, so what this bookie would collect as garbage is everything, and it is told
//! never to finish doing so.
//!
//! `lone_bookie DIR [PORT [JOURNAL_BYTES]]` serves on 127.0.0.1:PORT, or on any free port, over DIR/journal, DIR/ledgers and
//! DIR/metadata, prints one line when it is ready, and stops in order on SIGTERM. JOURNAL_BYTES of journal start a
//! checkpoint, and its segments are an eighth of that: for a test that wants many of them. With LONE_BOOKIE_TLS=FILES in
//! the environment it takes requests over TLS only, from clients whose certificate the authority in FILES/ca.pem signed;
//! its own is FILES/bookie.pem with FILES/bookie.key.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use magnetar_bookie::{Bookie, Config};
use magnetar_common::Environment;
use magnetar_common::metadata::EmbeddedStore;
use magnetar_common::net::tls::TlsConfig;
use tokio::signal::unix::{SignalKind, signal};

/// Longer than any test or measurement. A sweep runs at every start; what keeps its finds is the grace.
const NO_COLLECTION: Duration = Duration::from_secs(30 * 24 * 3600);

#[tokio::main]
async fn main() -> Result<()> {
    magnetar_common::telemetry::init();
    let mut arguments = std::env::args_os().skip(1);
    let dir = PathBuf::from(arguments.next().context("usage: lone_bookie DIR [PORT [JOURNAL_BYTES]]")?);
    let port = match arguments.next() {
        Some(port) => port.to_string_lossy().parse::<u16>().context("PORT")?,
        None => 0,
    };
    let journal_bytes = arguments.next().map(|bytes| bytes.to_string_lossy().parse::<u64>()).transpose();
    let journal_bytes = journal_bytes.context("JOURNAL_BYTES")?;
    let tls = std::env::var_os("LONE_BOOKIE_TLS").map(PathBuf::from).map(|files| TlsConfig {
        certificate: files.join("bookie.pem"),
        key: files.join("bookie.key"),
        client_ca: Some(files.join("ca.pem")),
    });
    let metadata = dir.join("metadata");
    std::fs::create_dir_all(&metadata)?;
    let metadata = EmbeddedStore::open(&metadata).context("metadata")?;
    let defaults = Config::new(dir.join("journal"), vec![dir.join("ledgers")]);
    let config = Config {
        journal_bytes: journal_bytes.unwrap_or(defaults.journal_bytes),
        segment_bytes: journal_bytes.map_or(defaults.segment_bytes, |bytes| bytes / 8),
        bind: SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
        gc_interval: NO_COLLECTION,
        gc_grace: NO_COLLECTION,
        tls_required: tls.is_some(),
        tls,
        ..defaults
    };
    let mut terminated = signal(SignalKind::terminate())?;
    let bookie = Bookie::start(config, Arc::new(metadata), Environment::system()).await?;
    println!("lone_bookie ready {}", bookie.local_addr());
    tokio::select! {
        _ = terminated.recv() => Ok(bookie.shutdown().await?),
        failure = bookie.failed() => Err(failure.into()),
    }
}
