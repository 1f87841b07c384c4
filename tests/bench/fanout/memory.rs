//! What a broker's memory grows by with each producer, consumer, subscription and topic.

use anyhow::{Result, ensure};
use magnetar_proto::pulsar::api::command_subscribe::SubType;
use magnetar_tests::cluster::{Cluster, Layout};
use magnetar_tests::raw::Connection;
use magnetar_tests::{http, usage};

const COUNT: u64 = 10_000;
/// Clients share connections among their producers and consumers.
const CONNECTIONS: u64 = 10;
const TOPIC: &str = "persistent://public/default/memory";
/// As many as a topic may have.
const MANY_SUBSCRIPTIONS: &str = "persistent://public/default/memory-of-subscriptions";

pub(super) fn run() -> Result<()> {
    let program = magnetar_tests::etcd::program().map_err(anyhow::Error::msg)?;
    let cluster = Cluster::start(program, &Layout::local(1))?;
    let broker = &cluster.brokers[0];
    let rss = || usage::rss_mb(broker.role.pid());
    let mut connections = Vec::new();
    for _ in 0..CONNECTIONS {
        connections.push(Connection::connect(&broker.address)?);
    }
    let path = |topic: &str| format!("{}/admin/v2/{}", broker.http, topic.replace("://", "/"));
    let put = |path: &str| -> Result<()> {
        let answer = http::put(path, None)?;
        ensure!(answer.status < 300, "{answer:?}");
        Ok(())
    };
    // Created by REST, it is served by this broker from then on.
    put(&path(TOPIC))?;
    connections[0].create_producer(COUNT, TOPIC)?;
    connections[0].subscribe(COUNT, TOPIC, "first", SubType::Shared)?;

    println!("| {COUNT} more on a broker, resident memory of each | KiB |\n|---|---|");
    let mut before = rss()?;
    let mut print = |what: &str| -> Result<()> {
        let now = rss()?;
        println!("| {what} | {:.1} |", (now - before) * 1e6 / 1024.0 / COUNT as f64);
        before = now;
        Ok(())
    };
    for number in 0..COUNT {
        connections[(number % CONNECTIONS) as usize].create_producer(number, TOPIC)?;
    }
    print("producer")?;
    for number in 0..COUNT {
        connections[(number % CONNECTIONS) as usize].subscribe(number, TOPIC, "s", SubType::Shared)?;
    }
    print("consumer")?;
    put(&path(MANY_SUBSCRIPTIONS))?;
    for number in 0..COUNT {
        put(&format!("{}/subscription/s{number}", path(MANY_SUBSCRIPTIONS)))?;
    }
    print("subscription")?;
    // As it leaves memory by itself when nobody has used it for some minutes.
    for number in 0..COUNT {
        let topic = path(&format!("persistent://public/default/idle-{number}"));
        put(&topic)?;
        put(&format!("{topic}/unload"))?;
    }
    print("idle topic")?;
    for number in 0..COUNT {
        put(&path(&format!("persistent://public/default/unused-{number}")))?;
    }
    print("topic that has not left memory yet")?;
    println!();
    Ok(())
}
