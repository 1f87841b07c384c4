//! etcd is gone for longer than any lease: topics that are open go on.

use super::{Run, figure};
use anyhow::{Result, ensure};
use std::time::Duration;

/// Longer than a lease, and than an operation waits for etcd.
const OUTAGE_FOR_CI: usize = 12;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn open_topics_take_messages_while_etcd_is_down_and_everything_resumes() -> Result<()> {
    let Some(mut run) = Run::start("etcd-down", 10).await? else { return Ok(()) };
    let outage = Duration::from_secs(u64::try_from(figure("MAGNETAR_CHAOS_OUTAGE_S", OUTAGE_FOR_CI))?);
    let from = run.now();
    run.cluster.etcd.kill()?;
    while run.now() < from + outage {
        run.all_publish(20).await;
    }
    let during = run.now();
    run.cluster.etcd.restart()?;
    run.cluster.wait_for_brokers();
    run.all_publish(20).await;
    let mut longest = Duration::ZERO;
    for publisher in &run.publishers {
        let log = publisher.log();
        longest = longest.max(log.longest_gap(from, during));
        let trouble = log.troubles.iter().find(|(at, _)| *at >= from && *at < during);
        ensure!(trouble.is_none(), "{}: {trouble:?} while etcd was down", publisher.topic);
    }
    println!("chaos/etcd-down: {outage:?} without etcd, longest time without a receipt {longest:?}");
    run.record_gaps(from)?;
    run.finish().await.map(drop)
}
