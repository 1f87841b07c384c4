//! `bench cluster`: many topics over two brokers: how long they take to open and to fail over, and what each costs.
//!
//! Called by: the bench's main. Brokers, bookies and etcd are processes; the clients are in here.

mod clients;

use anyhow::{Context, Result, bail, ensure};
use magnetar_common::clock::{Clock, SystemClock};
use magnetar_tests::cluster::{Cluster, Layout};
use std::time::Duration;

use self::clients::Clients;
use magnetar_tests::usage;

const USAGE: &str = "usage: bench cluster [--topics N]
  --topics     topics over both brokers (default 10000)
Needs etcd: in PATH, or named by MAGNETAR_ETCD. MAGNETAR_BIN names a binary other than the one built here.";

const TOPICS: usize = 10_000;

/// Idle topics have left memory by then: two looks of a broker in five minutes each.
const IDLE_MAX: Duration = Duration::from_secs(11 * 60);
const LOOK: Duration = Duration::from_secs(5);

/// Runs `bench cluster` with these arguments.
pub(super) fn run(arguments: &[String]) -> Result<()> {
    let topics = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => TOPICS,
        ["--topics", number] => number.parse().context("--topics takes a whole number")?,
        _ => bail!("{USAGE}"),
    };
    let program = magnetar_tests::etcd::program().map_err(anyhow::Error::msg)?;
    let mut cluster = Cluster::start(program, &Layout::local(2))?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(measure(&mut cluster, topics))
}

async fn measure(cluster: &mut Cluster, topics: usize) -> Result<()> {
    let clock = SystemClock::default();
    println!("| {topics} topics, 2 brokers, 3 bookies, 1 etcd | |\n|---|---|");
    let empty = Sample::of(cluster)?;
    println!("| resident memory of a broker without topics | {:.0} MB |", empty.rss_mb / 2.0);
    let per_topic = |mb: f64| mb * 1e3 / topics as f64;

    let mut clients = Clients::new(cluster.addresses(), topics);
    let began = clock.now();
    clients.open_all().await.context("create the topics")?;
    let created = Sample::of(cluster)?;
    println!("| create, each with a producer and a message | {:.1} s |", (clock.now() - began).as_secs_f64());
    println!(
        "| etcd requests for that, a topic | {:.1} |",
        (created.requests - empty.requests) / topics as f64
    );
    println!("| etcd's database | {:.1} MB |", created.db_mb);
    println!("| memory of an active topic | {:.1} kB |", per_topic(created.rss_mb - empty.rss_mb));

    clients.leave();
    let began = clock.now();
    while loaded(cluster)? > 0 {
        ensure!(clock.now() < began + IDLE_MAX, "{} topics are still in memory", loaded(cluster)?);
        clock.sleep(LOOK).await;
    }
    let idle = Sample::of(cluster)?;
    println!("| memory that an idle topic leaves behind | {:.1} kB |", per_topic(idle.rss_mb - empty.rss_mb));

    let began = clock.now();
    clients.open_all().await.context("open the topics again")?;
    let opened = Sample::of(cluster)?;
    println!(
        "| open again, each with a producer and a message | {:.1} s |",
        (clock.now() - began).as_secs_f64()
    );
    println!(
        "| etcd requests for that, a topic | {:.1} |",
        (opened.requests - idle.requests) / topics as f64
    );
    // What was left behind is used again, unless it is lost.
    println!("| memory of a topic then | {:.1} kB |", per_topic(opened.rss_mb - empty.rss_mb));

    let dying = cluster.brokers.remove(0);
    let orphans = clients.at(&dying.address);
    let began = clock.now();
    drop(dying);
    clients.set_addresses(cluster.addresses());
    clients.open(orphans.clone()).await.context("fail over")?;
    println!(
        "| SIGKILL of a broker: until each of its {} topics has acknowledged again | {:.1} s |",
        orphans.len(),
        (clock.now() - began).as_secs_f64()
    );
    Ok(())
}

fn loaded(cluster: &Cluster) -> Result<usize> {
    let mut loaded = 0;
    for broker in &cluster.brokers {
        let answer = magnetar_tests::http::get(&format!("{}/metrics/", broker.http))?;
        let mut lines = answer.body.lines().filter(|line| line.starts_with("pulsar_broker_topics_count"));
        let count = lines.next().and_then(|line| line.rsplit(' ').next());
        loaded += count.context("a count of topics")?.parse::<f64>()? as usize;
    }
    Ok(loaded)
}

/// What the processes cost now.
struct Sample {
    /// Of the brokers.
    rss_mb: f64,
    requests: f64,
    db_mb: f64,
}

impl Sample {
    fn of(cluster: &Cluster) -> Result<Self> {
        let mut rss_mb = 0.0;
        for broker in &cluster.brokers {
            rss_mb += usage::rss_mb(broker.role.pid())?;
        }
        Ok(Self {
            rss_mb,
            requests: cluster.etcd.metric("grpc_server_started_total"),
            db_mb: cluster.etcd.metric("etcd_mvcc_db_total_size_in_bytes") / 1e6,
        })
    }
}
