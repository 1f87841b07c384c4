//! The publishing side: one task a producer, each with a share of the rate.
//!
//! Called by: `magnetar perf produce`.
//! Must never know: the consuming side.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use magnetar_common::Environment;
use tokio::task::JoinSet;

use super::pace::{Schedule, Timer, unix_nanos};
use super::stats::{Recorder, Shared};
use super::{Limits, Target, report, stamp};
use crate::client::{Batching, Message, Producer, Receipt};

/// What to publish.
#[derive(Clone, Debug)]
pub(crate) struct ProduceConfig {
    pub(crate) target: Target,
    pub(crate) limits: Limits,
    /// Messages a second over all producers; 0 is flat-out.
    pub(crate) rate: f64,
    /// Payload bytes, at least 8.
    pub(crate) size: usize,
    /// Of each topic.
    pub(crate) producers: u32,
    pub(crate) batching: Batching,
    /// How long after its first message a batch is sent at the latest.
    pub(crate) batch_delay: Duration,
    /// Of each producer.
    pub(crate) max_outstanding: usize,
}

/// Publishes until a limit or a signal, then prints the summary.
pub(crate) async fn produce(config: ProduceConfig) -> anyhow::Result<()> {
    let client = config.target.client()?;
    let left = Arc::new(AtomicU64::new(config.limits.messages.unwrap_or(u64::MAX)));
    let mut producers = Vec::new();
    for topic in &config.target.topics {
        for partition in client.partitions(topic).await? {
            for _ in 0..config.producers {
                producers.push(client.producer::<u64>(&partition, config.batching).await?);
            }
        }
    }
    let count = producers.len() as f64;
    let start_ns = unix_nanos();
    let mut recorders = Vec::new();
    let mut workers = JoinSet::new();
    for (number, producer) in producers.into_iter().enumerate() {
        // Producers take turns within one interval of the whole rate.
        let pace = (config.rate > 0.0).then(|| {
            let turn_ns = (number as f64 * 1e9 / config.rate) as u64;
            Schedule::new(start_ns + turn_ns, config.rate / count)
        });
        let recorder = Shared::new();
        recorders.push(recorder.clone());
        let worker = Worker {
            producer,
            pace,
            left: left.clone(),
            template: filler(config.size),
            recorder,
            batch_due_ns: None,
            batch_delay_ns: u64::try_from(config.batch_delay.as_nanos()).unwrap_or(u64::MAX),
            max_outstanding: config.max_outstanding,
        };
        workers.spawn(worker.run());
    }
    let clock = Environment::system().clock;
    let figures = report::run(workers, &recorders, &clock, &config.target, config.limits).await?;
    report::print_summary(&config.target, "produce", &figures)
}

/// Bytes without much repetition, so that nothing on the way can be cheap by compressing them.
fn filler(size: usize) -> BytesMut {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    (0..size)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state as u8
        })
        .collect()
}

/// One producer with its share of the rate.
struct Worker {
    /// The token of a message is the time it was due.
    producer: Producer<u64>,
    /// None: flat-out.
    pace: Option<Schedule>,
    /// Messages that may still be sent, shared by all workers.
    left: Arc<AtomicU64>,
    template: BytesMut,
    recorder: Shared,
    /// When the open batch must go; None while there is none.
    batch_due_ns: Option<u64>,
    batch_delay_ns: u64,
    max_outstanding: usize,
}

impl Worker {
    async fn run(mut self) -> anyhow::Result<()> {
        let timer = Timer::new()?;
        while self.send_what_is_due()? {
            while let Some(receipt) = self.producer.try_receipt() {
                self.record(receipt?);
            }
            let Some(wake_ns) = self.next_wake_ns() else {
                let receipt = self.producer.receipt().await?;
                self.record(receipt);
                continue;
            };
            let delay = Duration::from_nanos(wake_ns.saturating_sub(unix_nanos()));
            tokio::select! {
                receipt = self.producer.receipt() => self.record(receipt?),
                waited = timer.wait(delay) => waited?,
            }
        }
        let Self { producer, recorder, template, .. } = self;
        let size = template.len() as u64;
        producer.close(|receipt| recorder.with(|into| count(into, &receipt, size))).await?;
        Ok(())
    }

    /// Sends every message that is due and fits; false once the last one was sent.
    fn send_what_is_due(&mut self) -> anyhow::Result<bool> {
        let now_ns = unix_nanos();
        while self.has_room() {
            let due_ns = match &mut self.pace {
                None => now_ns,
                Some(pace) if pace.next_due_ns() > now_ns => break,
                Some(pace) => pace.take(now_ns).unwrap_or(now_ns),
            };
            let claimed =
                self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
            if claimed.is_err() {
                return Ok(false);
            }
            let message = Message { payload: self.payload(due_ns), key: None };
            self.producer.send(message, due_ns)?;
            if self.producer.waiting() == 0 {
                self.batch_due_ns = None;
            } else if self.batch_due_ns.is_none() || self.producer.waiting() == 1 {
                self.batch_due_ns = Some(now_ns.saturating_add(self.batch_delay_ns));
            }
        }
        // With no room left nothing more can join the batch: waiting longer would only stall.
        if self.batch_due_ns.is_some_and(|due_ns| due_ns <= now_ns || !self.has_room()) {
            self.producer.flush();
            self.batch_due_ns = None;
        }
        Ok(true)
    }

    fn has_room(&self) -> bool {
        self.producer.outstanding() < self.max_outstanding
    }

    /// When to look again though no receipt has come; None: only a receipt can change anything.
    fn next_wake_ns(&self) -> Option<u64> {
        let send_ns = match &self.pace {
            Some(pace) if self.has_room() => Some(pace.next_due_ns()),
            _ => None,
        };
        match (send_ns, self.batch_due_ns) {
            (Some(send_ns), Some(batch_ns)) => Some(send_ns.min(batch_ns)),
            (one, other) => one.or(other),
        }
    }

    fn payload(&mut self, due_ns: u64) -> Bytes {
        stamp(&mut self.template, due_ns);
        Bytes::copy_from_slice(&self.template)
    }

    fn record(&self, receipt: Receipt<u64>) {
        let size = self.template.len() as u64;
        self.recorder.with(|into| count(into, &receipt, size));
    }
}

/// Latency counts from when each message was due to now.
fn count(into: &mut Recorder, receipt: &Receipt<u64>, size: u64) {
    let now_ns = unix_nanos();
    for due_ns in &receipt.tokens {
        into.record(size, Some(now_ns.saturating_sub(*due_ns)));
    }
}
