//! A cluster of processes: brokers that die, leave, sleep past their lease; bundles that move; etcd that goes away.
//!
//! Each test prints the distribution of the publish gap: for each topic, the longest time without a receipt around an event.
//! `MAGNETAR_CHAOS_ROUNDS` sets the rounds and `MAGNETAR_CHAOS_TOPICS` the topics; without them a few rounds show that it
//! works, within CI's time.

mod bookies;
mod dead_letters;
mod etcd_outage;
mod failover;
mod moves;
mod partitions;
mod script;
mod zombie;

use anyhow::{Context, Result};
use hdrhistogram::Histogram;
use magnetar_common::clock::{Clock, SystemClock};
use magnetar_tests::checker::{Verdict, check};
use magnetar_tests::cluster::{Cluster, Layout};
use magnetar_tests::publisher::Publisher;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Mutex, MutexGuard};

/// One cluster at a time: they would take each other's processor.
static TURN: Mutex<()> = Mutex::const_new(());

/// Messages a second over all topics.
const RATE: u32 = 2_000;

/// A cluster under load, and what its producers know.
struct Run {
    cluster: Cluster,
    clock: Arc<SystemClock>,
    publishers: Vec<Publisher>,
    gaps: Histogram<u64>,
    name: &'static str,
    _turn: MutexGuard<'static, ()>,
}

/// The figure that the environment names, or the one for CI.
fn figure(name: &str, for_ci: usize) -> usize {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(for_ci)
}

fn rounds(for_ci: usize) -> usize {
    figure("MAGNETAR_CHAOS_ROUNDS", for_ci)
}

impl Run {
    /// With two brokers on loopback. `None` after telling why there is no etcd.
    async fn start(name: &'static str, topics_for_ci: usize) -> Result<Option<Self>> {
        Self::start_as(name, &Layout::local(2), topics_for_ci).await
    }

    async fn start_as(name: &'static str, layout: &Layout, topics_for_ci: usize) -> Result<Option<Self>> {
        let turn = TURN.lock().await;
        let etcd = match magnetar_tests::etcd::program() {
            Ok(program) => program,
            Err(reason) => {
                println!("SKIPPED chaos/{name}: {reason}");
                return Ok(None);
            }
        };
        let cluster = Cluster::start(etcd, layout)?;
        let clock = Arc::new(SystemClock::default());
        let topics = figure("MAGNETAR_CHAOS_TOPICS", topics_for_ci);
        let rate = (RATE / u32::try_from(topics)?).clamp(1, 100);
        let publisher = |number| {
            let topic = format!("persistent://public/default/{name}-{number}");
            Publisher::start(clock.clone(), cluster.addresses(), topic, rate)
        };
        let publishers = (0..topics).map(publisher).collect();
        let gaps = Histogram::new(3)?;
        let run = Self { cluster, clock, publishers, gaps, name, _turn: turn };
        run.all_publish(20).await;
        Ok(Some(run))
    }

    fn now(&self) -> Duration {
        self.clock.now()
    }

    /// Waits until every producer has had `more` further receipts.
    async fn all_publish(&self, more: usize) {
        let before: Vec<usize> = self.publishers.iter().map(Publisher::receipts).collect();
        let end = self.now() + Duration::from_secs(60);
        let behind = || {
            let mut behind = self.publishers.iter().zip(&before);
            behind
                .find(|(publisher, before)| publisher.receipts() < **before + more)
                .map(|(publisher, _)| publisher)
        };
        while let Some(publisher) = behind() {
            assert!(
                self.now() < end,
                "{} does not get on: {:?}",
                publisher.topic,
                publisher.log().troubles.iter().rev().take(3).collect::<Vec<_>>()
            );
            self.clock.sleep(Duration::from_millis(20)).await;
        }
    }

    /// Records the gaps of the producers that had trouble since `from`; gives how many had.
    fn record_gaps(&mut self, from: Duration) -> Result<usize> {
        let now = self.now();
        let mut disturbed = 0;
        for publisher in &self.publishers {
            let log = publisher.log();
            if log.troubles.iter().any(|(at, _)| *at >= from) {
                disturbed += 1;
                self.gaps.record(u64::try_from(log.longest_gap(from, now).as_millis())?)?;
            }
        }
        Ok(disturbed)
    }

    /// Stops the producers, reads everything back, and prints what was found. Gives the gap's p50 and p99 in ms.
    async fn finish(self) -> Result<(u64, u64)> {
        let address = self.cluster.brokers.first().context("a broker")?.address.clone();
        let mut total = Verdict::default();
        for publisher in self.publishers {
            let topic = publisher.topic.clone();
            let log = publisher.finish().await?;
            let verdict = check(&address, &topic, &log).await?;
            total.acknowledged += verdict.acknowledged;
            total.read += verdict.read;
            total.repeated += verdict.repeated;
        }
        let (p50, p99) = (self.gaps.value_at_quantile(0.5), self.gaps.value_at_quantile(0.99));
        println!(
            "chaos/{}: gap p50 {p50} ms, p99 {p99} ms, max {} ms over {} moves of a topic; {} acknowledged, {} read back, \
             {} of them again, 0 lost, 0 reordered",
            self.name,
            self.gaps.max(),
            self.gaps.len(),
            total.acknowledged,
            total.read,
            total.repeated,
        );
        Ok((p50, p99))
    }
}
