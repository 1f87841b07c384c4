//! Any two nodes of the cluster stop hearing each other, in one direction or both, and hear each other again.
//!
//! Each node has a network namespace of its own; the producers reach all of them all the time.

use super::{Run, figure};
use anyhow::{Result, ensure};
use hdrhistogram::Histogram;
use magnetar_common::clock::Clock;
use magnetar_tests::cluster::Layout;
use magnetar_tests::network::{self, Network, Place};
use std::time::Duration;

const NAME: &str = "cluster::partitions::nothing_is_lost_when_any_two_nodes_are_cut_apart";

const NODES: [&str; 6] = ["broker 0", "broker 1", "bookie 0", "bookie 1", "bookie 2", "etcd"];
const ETCD: usize = 5;

/// In CI: how long a cut lasts. Longer than a broker's lease.
const CUT_FOR_CI: Duration = Duration::from_secs(5);
/// In the full run cuts last from 5 to 20 s.
const SPREAD: u64 = 16;

/// Between two cuts of the full run: what is to be healed by then is connected again. Without it two bookies would be out of
/// reach at a time, which three copies of which two must answer do not stand.
const REST: Duration = Duration::from_secs(5);

/// After this long without a receipt the cluster has not healed; the figure to beat is printed.
const HEALED_MAX: Duration = Duration::from_secs(40);

/// `from` is not heard by `to`; in both directions if so.
#[derive(Clone, Copy, Debug)]
struct Cut {
    from: usize,
    to: usize,
    both: bool,
}

impl Cut {
    fn name(self) -> String {
        let arrow = if self.both { "<->" } else { "->" };
        format!("{} {arrow} {}", NODES[self.from], NODES[self.to])
    }

    /// The broker that cannot renew its lease meanwhile.
    fn lease(self) -> Option<usize> {
        let ends = [self.from, self.to];
        ends.contains(&ETCD).then(|| ends[0].min(ends[1])).filter(|broker| *broker < 2)
    }

    fn make(self, network: &Network) -> Result<()> {
        network.cut(self.from, self.to)?;
        if self.both { network.cut(self.to, self.from) } else { Ok(()) }
    }

    fn heal(self, network: &Network) -> Result<()> {
        network.heal(self.to)?;
        if self.both { network.heal(self.from) } else { Ok(()) }
    }
}

/// Every one-way and two-way cut between two nodes.
fn every_cut() -> Vec<Cut> {
    let pairs = (0..NODES.len()).flat_map(|a| (a + 1..NODES.len()).map(move |b| (a, b)));
    pairs
        .flat_map(|(a, b)| {
            let one_way = [(a, b), (b, a)].map(|(from, to)| Cut { from, to, both: false });
            one_way.into_iter().chain([Cut { from: a, to: b, both: true }])
        })
        .collect()
}

/// A lease lost, a record of a bookie's answers missing, two brokers that cannot agree.
fn cuts_for_ci() -> Vec<Cut> {
    vec![
        Cut { from: 0, to: ETCD, both: true },
        Cut { from: 2, to: 1, both: false },
        Cut { from: 0, to: 1, both: true },
    ]
}

/// `MAGNETAR_CHAOS_ROUNDS=45` makes every cut once.
#[test]
fn nothing_is_lost_when_any_two_nodes_are_cut_apart() -> Result<()> {
    // What runs in the namespace has no other test beside it.
    let turn = std::env::var_os(network::INSIDE).is_none().then(|| super::TURN.blocking_lock());
    let place = network::enter(NAME)?;
    drop(turn);
    match place {
        Place::Done => Ok(()),
        Place::None(reason) => {
            println!("SKIPPED chaos/partitions: {reason}");
            Ok(())
        }
        Place::Inside => tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()?
            .block_on(partitions()),
    }
}

async fn partitions() -> Result<()> {
    let network = Network::new(NODES.len())?;
    let sites = &network.sites;
    let layout = Layout {
        brokers: sites[..2].to_vec(),
        bookies: sites[2..ETCD].to_vec(),
        etcd: sites[ETCD..].to_vec(),
        bookie_flags: &[],
        broker_flags: &[],
    };
    let Some(mut run) = Run::start_as("partitions", &layout, 10).await? else { return Ok(()) };
    let rounds = figure("MAGNETAR_CHAOS_ROUNDS", 0);
    let cuts = if rounds == 0 { cuts_for_ci() } else { every_cut() };
    let mut healing = Histogram::<u64>::new(3)?;
    for (round, cut) in cuts.iter().cycle().take(rounds.max(cuts.len())).enumerate() {
        let length = match rounds {
            0 => CUT_FOR_CI,
            _ => CUT_FOR_CI + Duration::from_secs(round as u64 * 7 % SPREAD),
        };
        let leases_lost = |run: &Run| match cut.lease() {
            Some(broker) => {
                let log = run.cluster.brokers[broker].role.log();
                log.iter().filter(|line| line.contains("lease has ended")).count()
            }
            None => 0,
        };
        let lost_before = leases_lost(&run);
        let from = run.now();
        cut.make(&network)?;
        while run.now() < from + length {
            run.clock.sleep(Duration::from_millis(20)).await;
        }
        cut.heal(&network)?;
        let healed = run.now();
        run.all_publish(5).await;
        let until = run.now();
        let (mut gap, mut after) = (Duration::ZERO, Duration::ZERO);
        for publisher in &run.publishers {
            let log = publisher.log();
            let first = log.receipts.iter().map(|(_, at)| *at).find(|at| *at >= healed);
            let first = first.unwrap_or(until).saturating_sub(healed);
            healing.record(u64::try_from(first.as_millis())?)?;
            run.gaps.record(u64::try_from(log.longest_gap(from, until).as_millis())?)?;
            (gap, after) = (gap.max(log.longest_gap(from, until)), after.max(first));
        }
        println!(
            "chaos/partitions: {} for {length:?}: longest gap {gap:?}, after healing {after:?}",
            cut.name()
        );
        // That a cut was one shows where it must have had an effect.
        ensure!(cut.lease().is_none() || leases_lost(&run) > lost_before, "{} had no effect", cut.name());
        ensure!(after < HEALED_MAX, "{}: a topic went on only {after:?} after healing", cut.name());
        while rounds > 0 && run.now() < healed + REST {
            run.all_publish(5).await;
        }
    }
    println!(
        "chaos/partitions: publishing went on p50 {} ms, p99 {} ms, max {} ms after healing",
        healing.value_at_quantile(0.5),
        healing.value_at_quantile(0.99),
        healing.max()
    );
    run.finish().await.map(drop)
}
