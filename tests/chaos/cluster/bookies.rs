//! A bookie dies with its disks, under load; a fourth takes its place.

use super::Run;
use anyhow::{Context, Result, ensure};
use magnetar_common::clock::SystemClock;
use magnetar_common::metadata::{EtcdConfig, EtcdStore, SharedMetadata};
use magnetar_ledger::replication::status;
use magnetar_tests::cluster::Layout;
use magnetar_tests::site::Site;
use std::sync::Arc;
use std::time::Duration;

/// Bookies that give nobody much time.
const IMPATIENT: &[&str] =
    &["--session-timeout", "2", "--lost-bookie-delay", "1", "--open-ledger-grace", "1"];

/// For copying what a test has written, on a busy machine.
const COPIED_MAX: Duration = Duration::from_secs(90);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_wiped_bookie_held_is_copied_while_everybody_publishes() -> Result<()> {
    let layout = Layout { bookie_flags: IMPATIENT, ..Layout::local(2) };
    let Some(mut run) = Run::start_as("bookie-wiped", &layout, 20).await? else { return Ok(()) };
    let config = EtcdConfig::parse(&run.cluster.etcd.url())?;
    let clock = Arc::new(SystemClock::default());
    let metadata: SharedMetadata = Arc::new(EtcdStore::connect(&config, clock).await?);
    let lost = run.cluster.bookies[0].told("id").context("an id")?.to_owned();

    let from = run.now();
    run.cluster.bookies[0].kill()?;
    std::fs::remove_dir_all(run.cluster.bookie_dir(0))?;
    // Two of three: every message still has two copies.
    run.all_publish(50).await;
    run.cluster.add_bookie(&Site::local())?;
    let added = run.now();
    let naming = || ledgers_naming(&metadata, &lost);
    while naming().await? > 0 || !status(&metadata).await?.marked.is_empty() {
        ensure!(
            run.now() < added + COPIED_MAX,
            "{} ledgers still name {lost}; {:?}",
            naming().await?,
            status(&metadata).await?.marked
        );
        run.all_publish(5).await;
    }
    let copied = run.now() - added;
    run.all_publish(50).await;
    run.record_gaps(from)?;
    let longest = run.publishers.iter().map(|publisher| publisher.log().longest_gap(from, run.now())).max();
    println!(
        "chaos/bookie-wiped: everything had its copies again {copied:?} after a fourth bookie came; longest time without a \
         receipt {longest:?}"
    );
    // One more goes: what it shared with the lost one is on the newcomer. Everybody goes on with two: no open ledger is taken
    // from its topic while there is no third bookie for the next one.
    run.cluster.bookies[1].kill()?;
    run.all_publish(50).await;
    run.finish().await.map(drop)
}

/// How many ledgers have this bookie in an ensemble.
async fn ledgers_naming(metadata: &SharedMetadata, bookie: &str) -> Result<usize> {
    let mut count = 0;
    let mut after: Option<String> = None;
    loop {
        let page = metadata.scan("/ledgers/", after.as_deref(), 1_000).await?;
        let Some((last, _)) = page.last() else { return Ok(count) };
        after = Some(last.clone());
        // Ledgers' records are text, or protobuf that holds the names as they are.
        let names = |value: &[u8]| value.windows(bookie.len()).any(|window| window == bookie.as_bytes());
        count += page.iter().filter(|(key, value)| key.contains("/L") && names(&value.bytes)).count();
    }
}
