//! `magnetar perf`: the flags of the load generator.

use std::time::Duration;

use super::client::{Kind, Position};
use crate::client::Batching;
use crate::perf::{self, ConsumeConfig, Limits, ProduceConfig, Target};

/// Flags of `magnetar perf`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// Publish and measure throughput and publish latency
    Produce(ProduceArgs),
    /// Receive what `perf produce` publishes and measure throughput and end-to-end latency
    Consume(ConsumeArgs),
}

#[derive(Debug, clap::Args)]
struct Common {
    /// Topic; with --topics above 1 a prefix, to which -0, -1, ... are added
    topic: String,
    /// Number of topics
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    topics: u32,
    /// End after this many messages over all topics; 0 is no limit
    #[arg(long, default_value_t = 0)]
    messages: u64,
    /// End after this many seconds (without the warm-up); 0 is no limit
    #[arg(long, default_value_t = 0.0, value_name = "SECONDS", value_parser = seconds)]
    duration: f64,
    /// Leave the first seconds out of the figures
    #[arg(long, default_value_t = 0.0, value_name = "SECONDS", value_parser = seconds)]
    warmup: f64,
    /// Print the summary as one JSON object on standard output; the periodic lines go to standard error
    #[arg(long)]
    json: bool,
    /// Where the cluster is
    #[arg(long, default_value = "pulsar://127.0.0.1:6650", env = "MAGNETAR_CLIENT_SERVICE_URL")]
    service_url: String,
}

#[derive(Debug, clap::Args)]
struct ProduceArgs {
    #[command(flatten)]
    common: Common,
    /// Messages a second over all producers; 0 is flat-out. At a fixed rate latency counts from the time a message was
    /// due, so that a stall is charged to every message it delayed
    #[arg(long, default_value_t = 0.0, value_parser = seconds)]
    rate: f64,
    /// Payload bytes of a message, at least 8
    #[arg(long, default_value_t = 1024, value_parser = clap::value_parser!(u32).range(8..))]
    size: u32,
    /// Producers of each topic
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    producers: u32,
    /// A batch is sent at so many messages, at so many bytes, or so many milliseconds after its first message
    #[arg(long, value_name = "MESSAGES,BYTES,MS", default_value = "1000,131072,1", value_parser = batch_limits,
          conflicts_with = "no_batching")]
    batching: BatchLimits,
    /// Send every message on its own
    #[arg(long)]
    no_batching: bool,
    /// Messages of a producer that may wait for their receipt
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..))]
    max_outstanding: u32,
}

#[derive(Debug, clap::Args)]
struct ConsumeArgs {
    #[command(flatten)]
    common: Common,
    /// Name of the subscription
    #[arg(short, long, default_value = "perf")]
    subscription: String,
    /// How the subscription shares messages among its consumers
    #[arg(short = 't', long = "type", default_value = "exclusive")]
    kind: Kind,
    /// Where a new subscription begins
    #[arg(short, long, default_value = "latest")]
    position: Position,
    /// Consumers of each topic; more than one needs another type than exclusive
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    consumers: u32,
    /// Messages that may be on their way to each consumer
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..))]
    receiver_queue: u32,
}

/// When a batch is sent.
#[derive(Clone, Copy, Debug, PartialEq)]
struct BatchLimits {
    messages: usize,
    bytes: usize,
    delay: Duration,
}

fn batch_limits(text: &str) -> Result<BatchLimits, String> {
    /// The broker's frame limit and the official clients' habits end far below.
    const MOST: usize = 1 << 24;
    let whole = |text: &str| text.parse::<usize>().ok().filter(|number| (1..=MOST).contains(number));
    let parts = text.split(',').map(str::trim).collect::<Vec<_>>();
    let limits = match parts[..] {
        [messages, bytes, delay_ms] => whole(messages).zip(whole(bytes)).zip(seconds(delay_ms).ok()),
        _ => None,
    };
    match limits {
        Some(((messages, bytes), delay_ms)) if delay_ms <= 60_000.0 => {
            Ok(BatchLimits { messages, bytes, delay: Duration::from_secs_f64(delay_ms / 1e3) })
        }
        _ => Err("it must be MESSAGES,BYTES,MILLISECONDS, e.g. 1000,131072,1".into()),
    }
}

fn seconds(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(number) if number.is_finite() && (0.0..=1e9).contains(&number) => Ok(number),
        _ => Err("it must be a number from 0 to 1000000000".into()),
    }
}

/// Runs the measurement and prints its summary.
pub(crate) async fn run(args: Args) -> anyhow::Result<()> {
    match args.verb {
        Verb::Produce(args) => {
            let (target, limits) = split(&args.common);
            let (batching, batch_delay) = args.batching();
            perf::produce(ProduceConfig {
                target,
                limits,
                rate: args.rate,
                size: args.size as usize,
                producers: args.producers,
                batching,
                batch_delay,
                max_outstanding: args.max_outstanding as usize,
            })
            .await
        }
        Verb::Consume(args) => {
            let (target, limits) = split(&args.common);
            perf::consume(ConsumeConfig {
                target,
                limits,
                subscription: args.subscription,
                kind: args.kind.into(),
                from_earliest: args.position == Position::Earliest,
                consumers: args.consumers,
                queue: args.receiver_queue,
            })
            .await
        }
    }
}

fn split(common: &Common) -> (Target, Limits) {
    let topics = match common.topics {
        1 => vec![common.topic.clone()],
        count => (0..count).map(|number| format!("{}-{number}", common.topic)).collect(),
    };
    let limits = Limits {
        messages: (common.messages > 0).then_some(common.messages),
        duration: (common.duration > 0.0).then(|| Duration::from_secs_f64(common.duration)),
        warmup: Duration::from_secs_f64(common.warmup),
    };
    (Target { service_url: common.service_url.clone(), topics, json: common.json }, limits)
}

impl ProduceArgs {
    fn batching(&self) -> (Batching, Duration) {
        let BatchLimits { messages, bytes, delay } = self.batching;
        match self.no_batching {
            true => (Batching::Off, Duration::ZERO),
            false => (Batching::UpTo { messages, bytes }, delay),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batch_limits_are_three_numbers() {
        let limits = BatchLimits { messages: 10, bytes: 20, delay: Duration::from_micros(500) };
        assert_eq!(batch_limits("10,20,0.5"), Ok(limits));
        for bad in ["", "10", "10,20", "0,20,1", "10,0,1", "10,20,-1", "10,20,70000", "10,20,1,1", "a,b,c"] {
            assert!(batch_limits(bad).is_err(), "{bad}");
        }
    }
}
