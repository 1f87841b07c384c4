//! A network that loses packets between all processes, etcd included.
//!
//! The test runs in a network namespace of its own, whose loopback drops packets at random.

use super::load::{self, Load, compare, options};
use super::{Cluster, seconds};
use anyhow::{Result, ensure};
use magnetar_common::clock::{Clock, SystemClock};
use magnetar_ledger::Client;
use magnetar_proto::ids::LedgerId;
use magnetar_tests::network::{self, Place};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

const NAME: &str = "ledger::loss::a_ledger_goes_on_and_loses_nothing_while_a_third_of_all_packets_is_lost";
const PERCENT: u32 = 30;
const SAMPLE_SECONDS: u64 = 12;
const LOAD: Load = Load { window: 50, per_second: None };
/// How progress is told.
const PERIOD: Duration = Duration::from_secs(10);
/// Ledgers that may end before their time. An ended one has cost some seconds.
const LEDGERS_MAX: usize = 5;
/// What fails meanwhile is tried again so often.
const TRIES_MAX: usize = 10;

/// MAGNETAR_CHAOS_LOSS_SECONDS=120 is the full run.
#[test]
fn a_ledger_goes_on_and_loses_nothing_while_a_third_of_all_packets_is_lost() -> Result<()> {
    match network::enter(NAME)? {
        Place::Done => Ok(()),
        Place::None(reason) => {
            println!("SKIPPED chaos ledger loss: {reason}");
            Ok(())
        }
        Place::Inside => tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()?
            .block_on(lossy()),
    }
}

/// Writes one ledger after the other, as a topic does: when so many packets are lost, two of three bookies can be silent for
/// longer than a writer waits, and where there is no fourth one its ledger ends.
async fn lossy() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let span = seconds("MAGNETAR_CHAOS_LOSS_SECONDS", SAMPLE_SECONDS)?;
    let Some(cluster) = Cluster::start(dir.path(), 3, "loss")? else { return Ok(()) };
    let client = cluster.client().await?;
    let clock = SystemClock::default();
    let mut writer = client.create(options()).await?;
    network::lose_packets(PERCENT)?;
    let end = clock.now() + span;
    let mut ended = Vec::new();
    let seen = loop {
        let acknowledged = Arc::new(AtomicU64::new(0));
        let left = end.saturating_sub(clock.now()).max(Duration::from_secs(1));
        match load::write(&mut writer, LOAD, left, PERIOD, &acknowledged).await {
            Ok(seen) => break seen,
            Err(error) => println!("chaos ledger: {error}"),
        }
        ended.push((writer.id(), acknowledged.load(Ordering::Relaxed)));
        ensure!(ended.len() <= LEDGERS_MAX, "one ledger after the other ends: {ended:?}");
        writer = again(async || Ok(client.create(options()).await?)).await?;
    };
    println!(
        "chaos ledger: {PERCENT} % of all packets lost for {} s: {} entries acknowledged, in each 10 s {:?}; latency p50 {} ms, \
         p99 {} ms; longest gap {} ms; ledgers that ended before, with their entries: {ended:?}",
        span.as_secs(),
        seen.acknowledged,
        seen.per_period,
        seen.latency_ms.value_at_quantile(0.5),
        seen.latency_ms.value_at_quantile(0.99),
        seen.gaps_ms.max(),
    );
    again(async || compare(&writer.reader(), seen.acknowledged).await).await?;
    for (ledger, count) in ended {
        wait_for_all(&client, ledger, count).await?;
    }
    Ok(())
}

/// Takes the ledger over and reads it.
async fn wait_for_all(client: &Client, ledger: LedgerId, count: u64) -> Result<()> {
    again(async || compare(&client.recover(ledger, b"").await?, count).await).await
}

/// Tries what fails while bookies or the metadata are silent.
async fn again<T>(mut attempt: impl AsyncFnMut() -> Result<T>) -> Result<T> {
    let mut tries = 0;
    loop {
        match attempt().await {
            Err(_) if tries < TRIES_MAX => tries += 1,
            result => return result,
        }
    }
}
