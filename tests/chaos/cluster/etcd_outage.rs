//! etcd is gone for longer than any lease, or keeps losing its leader: topics that are open go on.

use super::{Run, figure};
use anyhow::{Context, Result, ensure};
use magnetar_proto::pulsar::Command;
use magnetar_proto::pulsar::api::{CommandLookupTopic, ServerError};
use magnetar_tests::cluster::Layout;
use magnetar_tests::raw::Connection;
use magnetar_tests::site::Site;
use magnetar_tests::wait;
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
    for broker in &run.cluster.brokers {
        let refused = lookup_of_a_new_topic(&broker.address)?;
        let retried = refused == Some(ServerError::MetadataError);
        ensure!(retried, "a lookup without etcd: {refused:?}");
    }
    run.all_publish(20).await;
    let during = run.now();
    run.cluster.etcd.restart()?;
    run.cluster.wait_for_brokers();
    run.all_publish(20).await;
    let longest = undisturbed(&run, from, during)?;
    println!("chaos/etcd-down: {outage:?} without etcd, longest time without a receipt {longest:?}");
    for broker in &run.cluster.brokers {
        let answer = lookup_of_a_new_topic(&broker.address)?;
        ensure!(answer.is_none(), "a lookup after etcd has come back: {answer:?}");
    }
    run.record_gaps(from)?;
    run.finish().await.map(drop)
}

/// The longest time that any producer was without a receipt; an error if one had to start again.
fn undisturbed(run: &Run, from: Duration, until: Duration) -> Result<Duration> {
    let mut longest = Duration::ZERO;
    for publisher in &run.publishers {
        let log = publisher.log();
        longest = longest.max(log.longest_gap(from, until));
        let trouble = log.troubles.iter().find(|(at, _)| *at >= from && *at < until);
        ensure!(trouble.is_none(), "{}: {trouble:?} without etcd's leader", publisher.topic);
    }
    Ok(longest)
}

/// The error that a client is told, if any.
fn lookup_of_a_new_topic(address: &str) -> Result<Option<ServerError>> {
    let mut connection = Connection::connect(address)?;
    connection.send(CommandLookupTopic {
        topic: "persistent://public/default/never-seen-before".into(),
        request_id: 1,
        ..Default::default()
    })?;
    connection.expect(|frame| match frame.command {
        Command::LookupTopicResponse(answer) => Some(answer.error.map(|_| answer.error())),
        _ => None,
    })
}

/// Kills of the leader for CI, and the time between two.
const KILLS_FOR_CI: usize = 2;
const APART_FOR_CI: Duration = Duration::from_secs(6);
/// In the full run: `MAGNETAR_CHAOS_ROUNDS=10` takes five minutes.
const APART: Duration = Duration::from_secs(30);

/// An election takes etcd about a second.
const ELECTION_MAX: Duration = Duration::from_secs(30);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn open_topics_take_messages_while_etcd_loses_its_leader_again_and_again() -> Result<()> {
    let layout = Layout { etcd: vec![Site::local(); 3], ..Layout::local(2) };
    let Some(mut run) = Run::start_as("etcd-leader", &layout, 10).await? else { return Ok(()) };
    let rounds = figure("MAGNETAR_CHAOS_ROUNDS", 0);
    let (kills, apart) = if rounds == 0 { (KILLS_FOR_CI, APART_FOR_CI) } else { (rounds, APART) };
    let from = run.now();
    for _ in 0..kills {
        let began = run.now();
        let leader = wait::until("a leader", ELECTION_MAX, || run.cluster.etcd.leader());
        run.cluster.etcd.kill_member(leader)?;
        let next = wait::until("another leader", ELECTION_MAX, || run.cluster.etcd.leader());
        ensure!(next != leader, "the dead leads");
        run.cluster.etcd.restart_member(leader)?;
        while run.now() < began + apart {
            run.all_publish(20).await;
        }
    }
    let until = run.now();
    let longest = undisturbed(&run, from, until)?;
    println!(
        "chaos/etcd-leader: {kills} leaders killed in {:?}, longest time without a receipt {longest:?}",
        until - from
    );
    run.cluster.wait_for_brokers();
    let known = run.cluster.brokers.first().context("a broker")?;
    let answer = lookup_of_a_new_topic(&known.address)?;
    ensure!(answer.is_none(), "a lookup after all of that: {answer:?}");
    run.finish().await.map(drop)
}
