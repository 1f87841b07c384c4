//! Messages that are given back too often go to a topic of another broker, while first that one and then their own is killed.
//!
//! What must hold: every message is among the dead letters, and none is left in the subscription. What may happen: a letter
//! is there twice, where a kill came between its storing and the acknowledgement.

use super::TURN;
use super::failover::unload;
use anyhow::{Result, ensure};
use magnetar_proto::pulsar::Command;
use magnetar_proto::pulsar::api::CommandRedeliverUnacknowledgedMessages;
use magnetar_proto::pulsar::api::command_subscribe::SubType;
use magnetar_tests::checker::{owner, read_all};
use magnetar_tests::cluster::{Broker, Cluster, Layout};
use magnetar_tests::raw::{Connection, metadata};
use magnetar_tests::{http, wait};
use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const TOPIC: &str = "persistent://public/default/returned";
const SUBSCRIPTION: &str = "s";
/// Before each of the two kills.
const MESSAGES: u64 = 3_000;
/// Permits of the consumer that gives everything back.
const QUEUE: u32 = 200;
const LIMIT: Duration = Duration::from_secs(90);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_dead_letter_arrives_at_another_broker_whichever_of_the_two_is_killed() -> Result<()> {
    let _turn = TURN.lock().await;
    let program = match magnetar_tests::etcd::program() {
        Ok(program) => program,
        Err(reason) => {
            println!("SKIPPED chaos/dead-letters: {reason}");
            return Ok(());
        }
    };
    // Of the two only those that are killed shall lose their lease.
    let layout = Layout { broker_flags: &["--lease", "8"], ..Layout::local(2) };
    let mut cluster = Cluster::start(program, &layout)?;
    let letters = apart(&cluster)?;
    serve(&cluster, TOPIC, 0).await?;
    serve(&cluster, &letters, 1).await?;
    let policy = serde_json::json!({"maxRedeliverCount": 1, "deadLetterTopic": letters});
    let url = format!("{}/subscription/{SUBSCRIPTION}/deadLetterPolicy", admin(&cluster.brokers[0], TOPIC));
    let answer = http::put(&url, Some(&policy))?;
    ensure!(answer.status < 300, "set the policy: {answer:?}");

    let (consumer, addresses) = (Consumer::default(), cluster.addresses());
    let runtime = tokio::runtime::Handle::current();
    std::thread::scope(|scope| {
        scope.spawn(|| consumer.give_everything_back(&addresses, &runtime));
        // However this ends, a failed assertion included: the scope waits for the consumer.
        let _ending = Ending(&consumer);
        tokio::task::block_in_place(|| runtime.block_on(kill_both(&mut cluster, &letters)))
    })?;

    let arrived = read_all(&cluster.brokers[0].address, &letters).await?;
    let distinct: BTreeSet<u64> = arrived.iter().copied().collect();
    let missing = (0..2 * MESSAGES).find(|number| !distinct.contains(number));
    ensure!(missing.is_none(), "message {missing:?} is neither here nor there");
    ensure!(distinct.len() as u64 == 2 * MESSAGES, "letters that nobody wrote");
    println!(
        "chaos/dead-letters: {} messages given back twice, all among the dead letters, {} of them again",
        distinct.len(),
        arrived.len() - distinct.len()
    );
    Ok(())
}

/// Kills the broker of the dead letters, then that of the topic they come from, each while letters are under way.
async fn kill_both(cluster: &mut Cluster, letters: &str) -> Result<()> {
    publish(&cluster.brokers[0], 0..MESSAGES)?;
    let arrived = wait_for_letters(&cluster.brokers[1], letters, MESSAGES / 10);
    println!("chaos/dead-letters: {arrived} of {MESSAGES} had arrived when their broker was killed");
    cluster.brokers[1].role.kill()?;
    let arrived = wait_for_letters(&cluster.brokers[0], letters, MESSAGES);
    cluster.brokers[1].role.restart()?;
    cluster.wait_for_brokers();
    serve(cluster, letters, 1).await?;

    publish(&cluster.brokers[0], MESSAGES..2 * MESSAGES)?;
    let arrived_now = wait_for_letters(&cluster.brokers[1], letters, arrived + MESSAGES / 10);
    println!("chaos/dead-letters: {arrived_now} of {} when that of the topic was", arrived + MESSAGES);
    cluster.brokers[0].role.kill()?;
    wait::until("nothing is left in the subscription", LIMIT, || {
        (backlog(&cluster.brokers[1], TOPIC, SUBSCRIPTION) == Some(0)).then_some(())
    });
    cluster.brokers[0].role.restart()?;
    cluster.wait_for_brokers();
    Ok(())
}

fn admin(broker: &Broker, topic: &str) -> String {
    format!("{}/admin/v2/{}", broker.http, topic.replace("://", "/"))
}

/// As its owner has it; `None` from others.
fn backlog(broker: &Broker, topic: &str, subscription: &str) -> Option<u64> {
    let stats = http::get(&format!("{}/stats", admin(broker, topic))).ok()?.json().ok()?;
    stats["subscriptions"][subscription]["msgBacklog"].as_u64()
}

/// Those that came again are counted as well.
fn wait_for_letters(broker: &Broker, letters: &str, count: u64) -> u64 {
    wait::until("letters arrive", LIMIT, || {
        backlog(broker, letters, "dead-letters").filter(|arrived| *arrived >= count)
    })
}

fn bundle(cluster: &Cluster, topic: &str) -> Result<String> {
    let name = topic.replace("://", "/");
    let answer = http::get(&format!("{}/lookup/v2/topic/{name}/bundle", cluster.brokers[0].http))?;
    ensure!(answer.status == 200, "the bundle of {topic}: {answer:?}");
    Ok(format!("public/default/{}", answer.body.trim_matches('"')))
}

/// A topic in another bundle than [`TOPIC`].
fn apart(cluster: &Cluster) -> Result<String> {
    let own = bundle(cluster, TOPIC)?;
    for number in 0..100 {
        let letters = format!("persistent://public/default/letters-{number}");
        if bundle(cluster, &letters)? != own {
            return Ok(letters);
        }
    }
    anyhow::bail!("all topics are in one bundle")
}

/// Has the topic served by that broker.
async fn serve(cluster: &Cluster, topic: &str, by: usize) -> Result<()> {
    let (from, to) = (&cluster.brokers[1 - by], &cluster.brokers[by]);
    for _ in 0..10 {
        if owner(&from.address, topic).await? == to.address {
            return Ok(());
        }
        unload(from, &bundle(cluster, topic)?, to)?;
    }
    anyhow::bail!("{topic} is not where it was sent")
}

fn publish(broker: &Broker, numbers: Range<u64>) -> Result<()> {
    let mut connection = Connection::connect(&broker.address)?;
    connection.create_producer(1, TOPIC)?;
    connection.publish_all(1, numbers.clone().map(|number| (metadata(number), number.to_be_bytes())))?;
    for _ in numbers {
        connection.expect(|frame| matches!(frame.command, Command::SendReceipt(_)).then_some(()))?;
    }
    Ok(())
}

/// Gives back whatever it gets, over and over.
#[derive(Default)]
struct Consumer {
    is_over: AtomicBool,
    /// The same as it is waiting on.
    connection: Mutex<Option<Connection>>,
}

/// Ends the consumer when dropped.
struct Ending<'a>(&'a Consumer);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        let Consumer { is_over, connection } = self.0;
        is_over.store(true, Ordering::SeqCst);
        if let Ok(connection) = connection.lock()
            && let Some(connection) = connection.as_ref()
        {
            let _ = connection.shutdown();
        }
    }
}

impl Consumer {
    /// Connects anew, wherever the topic is, whenever its connection ends.
    fn give_everything_back(&self, addresses: &[String], runtime: &tokio::runtime::Handle) {
        for address in addresses.iter().cycle() {
            if self.is_over.load(Ordering::SeqCst) {
                return;
            }
            let owner = runtime.block_on(owner(address, TOPIC));
            let _ = owner.and_then(|owner| self.give_back_at(&owner));
            wait::pause(Duration::from_millis(20));
        }
    }

    fn give_back_at(&self, address: &str) -> Result<()> {
        let mut connection = Connection::connect(address)?;
        *self.connection.lock().expect("no panic") = Some(connection.try_clone()?);
        connection.subscribe(1, TOPIC, SUBSCRIPTION, SubType::Shared)?;
        connection.flow(1, QUEUE)?;
        while !self.is_over.load(Ordering::SeqCst) {
            let id = connection.expect(|frame| match frame.command {
                Command::Message(message) => Some(message.message_id),
                _ => None,
            })?;
            connection.flow(1, 1)?;
            connection.send(CommandRedeliverUnacknowledgedMessages {
                consumer_id: 1,
                message_ids: vec![id],
                ..Default::default()
            })?;
        }
        Ok(())
    }
}
