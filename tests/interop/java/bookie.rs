//! One bookie as a process, with metadata of its own in a file: for a client that brings its own list of bookies.
//!
//! Called by the Java suites and by `bench peer`. It must never know ledgers: the client's metadata are elsewhere, so what
//! this bookie would collect as garbage is everything, and it is told never to look.
//!
//! `lone_bookie DIR PORT` serves on 127.0.0.1:PORT over DIR/journal, DIR/ledgers and DIR/metadata until it is killed, and
//! prints one line when it is ready.

use anyhow::{Context, Result};
use magnetar_bookie::{Bookie, Config};
use magnetar_common::Environment;
use magnetar_common::metadata::EmbeddedStore;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// Longer than any test or measurement.
const NO_COLLECTION: Duration = Duration::from_secs(30 * 24 * 3600);

#[tokio::main]
async fn main() -> Result<()> {
    magnetar_common::telemetry::init();
    let mut arguments = std::env::args().skip(1);
    let dir = PathBuf::from(arguments.next().context("usage: lone_bookie DIR PORT")?);
    let port = arguments.next().context("usage: lone_bookie DIR PORT")?.parse::<u16>().context("PORT")?;
    let metadata = dir.join("metadata");
    std::fs::create_dir_all(&metadata)?;
    let metadata = EmbeddedStore::open(&metadata).context("metadata")?;
    let config = Config {
        bind: SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
        gc_interval: NO_COLLECTION,
        ..Config::new(dir.join("journal"), vec![dir.join("ledgers")])
    };
    let bookie = Bookie::start(config, Arc::new(metadata), Environment::system()).await?;
    println!("lone_bookie ready {}", bookie.local_addr());
    Err(bookie.failed().await.into())
}
