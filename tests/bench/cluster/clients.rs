//! Producers of many topics on few connections, opened some at a time.

use anyhow::{Context, Result, bail};
use futures_util::future::try_join_all;
use magnetar_common::clock::{Clock, SystemClock};
use magnetar_proto::pulsar::Command;
use magnetar_proto::pulsar::api::CommandProducer;
use magnetar_proto::pulsar::api::command_lookup_topic_response::LookupType;
use magnetar_tests::publisher::Connection;
use std::collections::HashMap;
use std::time::Duration;

/// Each opens its topics one after the other, on connections of its own.
const WORKERS: usize = 64;
/// Between two tries of one topic, as clients begin.
const AGAIN: Duration = Duration::from_millis(100);
/// A topic that does not open by then is an error.
const OPEN_MAX: Duration = Duration::from_secs(60);
const REDIRECTS_MAX: usize = 20;

/// The producers.
pub(super) struct Clients {
    addresses: Vec<String>,
    workers: Vec<Worker>,
}

#[derive(Default)]
struct Worker {
    connections: HashMap<String, Connection>,
    /// Its topics, and where each was served last.
    owners: HashMap<usize, String>,
    /// How often each was opened.
    epochs: HashMap<usize, u64>,
}

impl Clients {
    pub(super) fn new(addresses: Vec<String>, topics: usize) -> Self {
        let mut workers: Vec<Worker> = (0..WORKERS).map(|_| Worker::default()).collect();
        for topic in 0..topics {
            workers[topic % WORKERS].owners.insert(topic, String::new());
        }
        Self { addresses, workers }
    }

    /// The brokers from now on.
    pub(super) fn set_addresses(&mut self, addresses: Vec<String>) {
        self.addresses = addresses;
    }

    /// Opens a producer on every topic, and has a message acknowledged by each.
    pub(super) async fn open_all(&mut self) -> Result<()> {
        let all = self.workers.iter().flat_map(|worker| worker.owners.keys().copied()).collect();
        self.open(all).await
    }

    /// Like [`Self::open_all`], for these topics.
    pub(super) async fn open(&mut self, topics: Vec<usize>) -> Result<()> {
        let addresses = &self.addresses;
        let opened = self.workers.iter_mut().enumerate().map(|(number, worker)| {
            let own = topics.iter().copied().filter(|topic| topic % WORKERS == number).collect::<Vec<_>>();
            async move {
                for topic in own {
                    worker.open(addresses, topic).await?;
                }
                anyhow::Ok(())
            }
        });
        try_join_all(opened).await.map(drop)
    }

    /// The topics that this broker served last.
    pub(super) fn at(&self, address: &str) -> Vec<usize> {
        let of = |worker: &Worker| {
            let here = worker.owners.iter().filter(|(_, owner)| *owner == address);
            here.map(|(topic, _)| *topic).collect::<Vec<_>>()
        };
        self.workers.iter().flat_map(of).collect()
    }

    /// Ends all connections.
    pub(super) fn leave(&mut self) {
        self.workers.iter_mut().for_each(|worker| worker.connections.clear());
    }
}

impl Worker {
    async fn open(&mut self, addresses: &[String], topic: usize) -> Result<()> {
        let clock = SystemClock::default();
        let end = clock.now() + OPEN_MAX;
        loop {
            match self.try_to_open(addresses, topic).await {
                Ok(()) => return Ok(()),
                Err(error) if clock.now() > end => return Err(error.context(format!("topic {topic}"))),
                Err(_) => {
                    // Whatever went wrong, a connection may be the cause.
                    self.connections.clear();
                    clock.sleep(AGAIN).await;
                }
            }
        }
    }

    async fn try_to_open(&mut self, addresses: &[String], topic: usize) -> Result<()> {
        let name = format!("persistent://public/default/many-{topic}");
        let owner = self.find(addresses, &name).await?;
        let epoch = self.epochs.entry(topic).or_default();
        *epoch += 1;
        let (producer_id, number) = (topic as u64, *epoch);
        let connection = self.connection(&owner).await?;
        let command = CommandProducer {
            topic: name,
            producer_id,
            request_id: 1,
            producer_name: Some(format!("many-{topic}")),
            epoch: Some(number),
            ..Default::default()
        };
        connection.open_producer(command).await?;
        connection.publish(producer_id, number).await?;
        loop {
            match connection.receive().await?.command {
                Command::SendReceipt(receipt) if receipt.producer_id == producer_id => break,
                Command::SendError(error) => bail!("SEND_ERROR {}", error.message),
                Command::CloseProducer(close) if close.producer_id == producer_id => bail!("CLOSE_PRODUCER"),
                Command::Ping(_) => connection.send(Command::Pong(Default::default())).await?,
                _ => {}
            }
        }
        self.owners.insert(topic, owner);
        Ok(())
    }

    async fn find(&mut self, addresses: &[String], topic: &str) -> Result<String> {
        let (mut address, mut authoritative) = (addresses.first().context("a broker")?.clone(), false);
        for _ in 0..REDIRECTS_MAX {
            let (owner, kind, decided) =
                self.connection(&address).await?.lookup(topic, authoritative).await?;
            if kind == LookupType::Connect {
                return Ok(owner);
            }
            (address, authoritative) = (owner, decided);
        }
        bail!("redirected in circles")
    }

    async fn connection(&mut self, address: &str) -> Result<&mut Connection> {
        if !self.connections.contains_key(address) {
            self.connections.insert(address.to_owned(), Connection::connect(address).await?);
        }
        self.connections.get_mut(address).context("a connection")
    }
}
