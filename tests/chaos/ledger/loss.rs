//! A network that loses packets between all processes, etcd included.
//!
//! The test runs in a network namespace of its own, whose loopback drops packets at random.

use super::load::{self, Load, compare, options};
use super::{Cluster, seconds};
use anyhow::{Result, ensure};
use magnetar_tests::network::{self, Place};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

const NAME: &str = "ledger::loss::a_ledger_goes_on_and_loses_nothing_while_a_third_of_all_packets_is_lost";
const PERCENT: u32 = 30;
const SAMPLE_SECONDS: u64 = 12;
const LOAD: Load = Load { window: 50, per_second: None };
/// In each of these something must be acknowledged.
const PERIOD: Duration = Duration::from_secs(10);

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

async fn lossy() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let span = seconds("MAGNETAR_CHAOS_LOSS_SECONDS", SAMPLE_SECONDS)?;
    let Some(cluster) = Cluster::start(dir.path(), 3, "loss")? else { return Ok(()) };
    let client = cluster.client().await?;
    let mut writer = client.create(options()).await?;
    network::lose_packets(PERCENT)?;
    let acknowledged = Arc::new(AtomicU64::new(0));
    let seen = load::write(&mut writer, LOAD, span, PERIOD, &acknowledged).await?;
    println!(
        "chaos ledger: {PERCENT} % of all packets lost for {} s: {} entries acknowledged, in each 10 s {:?}; latency p50 {} ms, \
         p99 {} ms; longest gap {} ms",
        span.as_secs(),
        seen.acknowledged,
        seen.per_period,
        seen.latency_ms.value_at_quantile(0.5),
        seen.latency_ms.value_at_quantile(0.99),
        seen.gaps_ms.max(),
    );
    ensure!(seen.per_period.iter().all(|count| *count > 0), "a window without progress");
    compare(&writer.reader(), seen.acknowledged).await
}
