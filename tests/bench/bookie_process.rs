//! One bookie as a process of its own, for `bench bookie`: real directories, the production configuration, and its
//! metadata in an embedded store beside them, so that it needs no other process and can be restarted.
//!
//! Called by: the bench, as `bench_bookie DIRECTORY`. Prints `bench_bookie ready ADDRESS` when it serves; SIGTERM stops it
//! in order. Must never set what a user could not: its figures are those of a bookie.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use magnetar_bookie::{Bookie, Config};
use magnetar_common::Environment;
use magnetar_common::metadata::EmbeddedStore;
use magnetar_proto::bookkeeper::BookieId;
use tokio::signal::unix::{SignalKind, signal};

/// No ledger of the bench is in the metadata: garbage collection must not begin while it runs.
const GC_INTERVAL: Duration = Duration::from_secs(24 * 60 * 60);

fn main() -> Result<()> {
    let directory = std::env::args_os().nth(1).map(PathBuf::from).context("usage: bench_bookie DIRECTORY")?;
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(serve(&directory))
}

async fn serve(directory: &Path) -> Result<()> {
    let (journal, ledgers, metadata) =
        (directory.join("journal"), directory.join("ledgers"), directory.join("metadata"));
    for directory in [&journal, &ledgers, &metadata] {
        std::fs::create_dir_all(directory)?;
    }
    let config = Config {
        bookie_id: Some(BookieId::new("bench-bookie").context("bookie id")?),
        gc_interval: GC_INTERVAL,
        ..Config::new(journal, vec![ledgers])
    };
    let mut terminated = signal(SignalKind::terminate())?;
    let metadata = Arc::new(EmbeddedStore::open(&metadata)?);
    let bookie = Bookie::start(config, metadata, Environment::system()).await?;
    println!("bench_bookie ready {}", bookie.local_addr());
    tokio::select! {
        _ = terminated.recv() => {}
        failure = bookie.failed() => bail!("the bookie failed: {failure}"),
    }
    bookie.shutdown().await?;
    Ok(())
}
