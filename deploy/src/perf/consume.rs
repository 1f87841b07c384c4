//! The receiving side: one task a consumer; acknowledges everything.
//!
//! Called by: `magnetar perf consume`.
//! Must never know: the publishing side, but for the time in a payload.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use magnetar_common::Environment;
use magnetar_common::clock::SharedClock;
use tokio::task::JoinSet;

use super::pace::unix_nanos;
use super::stats::Shared;
use super::{Limits, Target, age_ns, report};
use crate::client::{Consumer, SubType, Subscribe};

/// Acknowledgements are gathered this long; the official clients' default.
const ACK_DELAY: Duration = Duration::from_millis(100);

/// What to receive.
#[derive(Clone, Debug)]
pub(crate) struct ConsumeConfig {
    pub(crate) target: Target,
    pub(crate) limits: Limits,
    pub(crate) subscription: String,
    pub(crate) kind: SubType,
    pub(crate) from_earliest: bool,
    /// Of each topic.
    pub(crate) consumers: u32,
    /// Messages that may be on their way to each consumer.
    pub(crate) queue: u32,
}

/// Receives until a limit or a signal, then prints the summary.
pub(crate) async fn consume(config: ConsumeConfig) -> anyhow::Result<()> {
    let client = config.target.client()?;
    let clock = Environment::system().clock;
    let received = Arc::new(AtomicU64::new(0));
    let mut recorders = Vec::new();
    let mut workers = JoinSet::new();
    for topic in &config.target.topics {
        for partition in client.partitions(topic).await? {
            for _ in 0..config.consumers {
                let subscribe = Subscribe {
                    topic: partition.clone(),
                    subscription: config.subscription.clone(),
                    kind: config.kind,
                    from_earliest: config.from_earliest,
                    queue: config.queue,
                };
                let consumer = client.consumer(subscribe).await?;
                let recorder = Shared::new();
                recorders.push(recorder.clone());
                let wanted = config.limits.messages;
                workers.spawn(work(consumer, clock.clone(), recorder, received.clone(), wanted));
            }
        }
    }
    eprintln!("receiving");
    let figures = report::run(workers, &recorders, &clock, &config.target, config.limits).await?;
    report::print_summary(&config.target, "consume", &figures)
}

/// Receives until all workers together have `wanted` messages.
async fn work(
    mut consumer: Consumer,
    clock: SharedClock,
    recorder: Shared,
    received: Arc<AtomicU64>,
    wanted: Option<u64>,
) -> anyhow::Result<()> {
    let mut acks_due = clock.sleep(ACK_DELAY);
    while wanted.is_none_or(|wanted| received.load(Ordering::Relaxed) < wanted) {
        tokio::select! {
            entry = consumer.receive() => {
                let entry = entry?;
                let messages = entry.messages()?;
                let now_ns = unix_nanos();
                recorder.with(|into| {
                    for message in &messages {
                        into.record(message.payload.len() as u64, age_ns(&message.payload, now_ns));
                    }
                });
                consumer.ack(&entry);
                received.fetch_add(messages.len() as u64, Ordering::Relaxed);
            }
            () = &mut acks_due => {
                consumer.flush_acks();
                acks_due = clock.sleep(ACK_DELAY);
            }
        }
    }
    consumer.close().await?;
    Ok(())
}
