//! The `pulsar` crate, a client with its own implementation of the protocol (version 12, no feature flags), against a
//! real standalone.

mod delivery;
mod subscriptions;

use anyhow::{Context, Result};
use futures_util::TryStreamExt;
use magnetar_tests::process::Standalone;
use pulsar::consumer::{ConsumerOptions, InitialPosition};
use pulsar::{Consumer, Producer, ProducerOptions, Pulsar, SubType, TokioExecutor};
use std::time::Duration;
use tempfile::TempDir;

/// A message that has not come by then is missing.
const RECEIVE_LIMIT: Duration = Duration::from_secs(20);
/// How long silence must last to be believed.
const SILENCE: Duration = Duration::from_millis(300);

type Bytes = Vec<u8>;

/// A running standalone and a client connected to it.
struct Fixture {
    client: Pulsar<TokioExecutor>,
    process: Standalone,
    _data: TempDir,
}

impl Fixture {
    async fn new() -> Result<Self> {
        let data = tempfile::tempdir()?;
        let process = Standalone::start(data.path())?;
        let client = Pulsar::builder(process.service_url(), TokioExecutor).build().await?;
        println!("RAN interop rust/pulsar-crate");
        Ok(Self { client, process, _data: data })
    }

    async fn producer(&self, topic: &str, options: ProducerOptions) -> Result<Producer<TokioExecutor>> {
        Ok(self.client.producer().with_topic(topic).with_options(options).build().await?)
    }

    async fn consumer(
        &self,
        topic: &str,
        kind: SubType,
        name: &str,
    ) -> Result<Consumer<Bytes, TokioExecutor>> {
        let options = ConsumerOptions::default().with_initial_position(InitialPosition::Earliest);
        Ok(self
            .client
            .consumer()
            .with_topic(topic)
            .with_subscription("s")
            .with_subscription_type(kind)
            .with_consumer_name(name)
            .with_options(options)
            .build()
            .await?)
    }
}

fn batched() -> ProducerOptions {
    ProducerOptions {
        batch_size: Some(10),
        batch_timeout: Some(Duration::from_millis(5)),
        block_queue_if_full: true,
        ..Default::default()
    }
}

fn unbatched() -> ProducerOptions {
    ProducerOptions { block_queue_if_full: true, ..Default::default() }
}

/// Sends every text and waits for every receipt.
async fn send_all(producer: &mut Producer<TokioExecutor>, texts: &[String]) -> Result<()> {
    let mut receipts = Vec::with_capacity(texts.len());
    for text in texts {
        receipts.push(producer.send_non_blocking(text.clone()).await?);
    }
    if producer.options().batch_size.is_some() {
        producer.send_batch().await?;
    }
    for receipt in receipts {
        receipt.await?;
    }
    Ok(())
}

async fn receive(consumer: &mut Consumer<Bytes, TokioExecutor>) -> Result<pulsar::consumer::Message<Bytes>> {
    tokio::time::timeout(RECEIVE_LIMIT, consumer.try_next())
        .await
        .context("no message came")??
        .context("the consumer ended")
}

async fn receive_soon(
    consumer: &mut Consumer<Bytes, TokioExecutor>,
) -> Option<pulsar::consumer::Message<Bytes>> {
    tokio::time::timeout(SILENCE, consumer.try_next()).await.ok()?.ok()?
}

fn text(message: &pulsar::consumer::Message<Bytes>) -> String {
    String::from_utf8_lossy(&message.payload.data).into_owned()
}

fn texts(count: usize) -> Vec<String> {
    (0..count).map(|number| number.to_string()).collect()
}

async fn drain(consumer: &mut Consumer<Bytes, TokioExecutor>, count: usize) -> Result<Vec<String>> {
    let mut all = Vec::with_capacity(count);
    for _ in 0..count {
        let message = receive(consumer).await?;
        all.push(text(&message));
        consumer.ack(&message).await?;
    }
    Ok(all)
}
