//! `magnetar client`: publish and receive by hand.
//!
//! Called by: the command line.
//! Must never know: frames; it speaks to a broker through [`crate::client`].

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::PathBuf;

use anyhow::Context;
use bytes::Bytes;
use magnetar_common::Environment;

use crate::client::{Batching, Client, Consumer, Message, Producer, SubType, Subscribe};
use crate::standalone::StopSignals;

/// Messages in flight while publishing by hand.
const IN_FLIGHT_MAX: usize = 1000;
/// One batch at most; the official clients' defaults.
const BATCHING: Batching = Batching::UpTo { messages: 1000, bytes: 128 * 1024 };
/// Messages on their way to us while receiving by hand.
const QUEUE: u32 = 1000;

/// Flags of `magnetar client`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// Publish messages
    Produce(ProduceArgs),
    /// Receive, print and acknowledge messages, one line each
    Consume(ConsumeArgs),
}

#[derive(Debug, clap::Args)]
struct ProduceArgs {
    /// Topic, e.g. events or persistent://public/default/events
    topic: String,
    /// A message; may be given more than once
    #[arg(short, long = "messages", value_name = "TEXT", conflicts_with = "file")]
    messages: Vec<String>,
    /// Publish each line of a file; "-" reads standard input
    #[arg(short, long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// How often to publish all of it
    #[arg(short, long, default_value_t = 1, value_name = "COUNT")]
    num: u64,
    /// Key of every message
    #[arg(short, long)]
    key: Option<String>,
    /// Where the cluster is
    #[arg(long, default_value = "pulsar://127.0.0.1:6650", env = "MAGNETAR_CLIENT_SERVICE_URL")]
    service_url: String,
}

#[derive(Debug, clap::Args)]
struct ConsumeArgs {
    /// Topic, e.g. events or persistent://public/default/events
    topic: String,
    /// Name of the subscription; created when missing
    #[arg(short, long)]
    subscription: String,
    /// How many messages to receive before ending; 0 receives until interrupted
    #[arg(short, long, default_value_t = 1, value_name = "COUNT")]
    num: u64,
    /// How the subscription shares messages among its consumers
    #[arg(short = 't', long = "type", default_value = "exclusive")]
    kind: Kind,
    /// Where a new subscription begins
    #[arg(short, long, default_value = "latest")]
    position: Position,
    /// Where the cluster is
    #[arg(long, default_value = "pulsar://127.0.0.1:6650", env = "MAGNETAR_CLIENT_SERVICE_URL")]
    service_url: String,
}

/// A subscription type, as typed.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub(super) enum Kind {
    Exclusive,
    Shared,
    Failover,
    #[value(name = "key_shared", alias = "key-shared")]
    KeyShared,
}

impl From<Kind> for SubType {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Exclusive => SubType::Exclusive,
            Kind::Shared => SubType::Shared,
            Kind::Failover => SubType::Failover,
            Kind::KeyShared => SubType::KeyShared,
        }
    }
}

/// Where a new subscription begins, as typed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Position {
    Earliest,
    Latest,
}

/// Runs the verb to its end, or until a signal.
pub(crate) async fn run(args: Args) -> anyhow::Result<()> {
    match args.verb {
        Verb::Produce(args) => produce(args).await,
        Verb::Consume(args) => consume(args).await,
    }
}

async fn produce(args: ProduceArgs) -> anyhow::Result<()> {
    let payloads = payloads(&args)?;
    let client = Client::new(&args.service_url, Environment::system())?;
    let mut producers = Vec::new();
    for partition in client.partitions(&args.topic).await? {
        producers.push(client.producer::<()>(&partition, BATCHING).await?);
    }
    let mut sent = 0_usize;
    for _ in 0..args.num {
        for payload in &payloads {
            let chosen = partition_of(args.key.as_deref(), sent, producers.len());
            let producer = &mut producers[chosen];
            make_room(producer).await?;
            producer.send(Message { payload: payload.clone(), key: args.key.clone() }, ())?;
            sent += 1;
        }
    }
    let mut stored = 0;
    for producer in producers {
        let waiting = producer.outstanding();
        producer.close(drop).await?;
        stored += waiting;
    }
    tracing::debug!(stored, "the last messages are stored");
    println!("{sent} messages published to {}", args.topic);
    Ok(())
}

async fn make_room(producer: &mut Producer<()>) -> anyhow::Result<()> {
    while producer.outstanding() >= IN_FLIGHT_MAX {
        producer.flush();
        producer.receipt().await?;
    }
    Ok(())
}

/// Messages of one key go to one partition, chosen as the official clients do; the others take turns.
fn partition_of(key: Option<&str>, turn: usize, partitions: usize) -> usize {
    match key {
        Some(key) => {
            // The sign bit is cut off because Java's hash is a signed number.
            let hash = magnetar_proto::checksum::murmur3_32(key.as_bytes()) & 0x7fff_ffff;
            hash as usize % partitions
        }
        None => turn % partitions,
    }
}

fn payloads(args: &ProduceArgs) -> anyhow::Result<Vec<Bytes>> {
    let Some(file) = &args.file else {
        if args.messages.is_empty() {
            anyhow::bail!("nothing to publish: give -m TEXT or --file FILE");
        }
        return Ok(args.messages.iter().map(|text| Bytes::from(text.clone())).collect());
    };
    if file.as_os_str() == "-" {
        return lines(std::io::stdin().lock()).context("standard input");
    }
    let source = std::fs::File::open(file).with_context(|| format!("file {}", file.display()))?;
    lines(source).with_context(|| format!("file {}", file.display()))
}

/// One payload a line, without its line end.
fn lines(source: impl Read) -> std::io::Result<Vec<Bytes>> {
    let mut source = BufReader::new(source);
    let mut payloads = Vec::new();
    loop {
        let mut line = Vec::new();
        if source.read_until(b'\n', &mut line)? == 0 {
            return Ok(payloads);
        }
        if line.last() == Some(&b'\n') {
            line.pop();
        }
        payloads.push(Bytes::from(line));
    }
}

async fn consume(args: ConsumeArgs) -> anyhow::Result<()> {
    let client = Client::new(&args.service_url, Environment::system())?;
    let mut consumers = VecDeque::new();
    for topic in client.partitions(&args.topic).await? {
        let subscribe = Subscribe {
            topic,
            subscription: args.subscription.clone(),
            kind: args.kind.into(),
            from_earliest: args.position == Position::Earliest,
            queue: QUEUE,
        };
        consumers.push_back(client.consumer(subscribe).await?);
    }
    let mut signals = StopSignals::install()?;
    let outcome = tokio::select! {
        outcome = receive(&mut consumers, args.num) => outcome,
        () = signals.received() => Ok(()),
    };
    for consumer in consumers {
        consumer.close().await?;
    }
    outcome
}

/// Prints and acknowledges until `wanted` messages (0: without end) have come. What is left of a batch then stays in the
/// subscription.
async fn receive(consumers: &mut VecDeque<Consumer>, wanted: u64) -> anyhow::Result<()> {
    let mut received = 0;
    while wanted == 0 || received < wanted {
        let (index, entry) = next_entry(consumers).await?;
        match entry.messages() {
            Ok(messages) => {
                let room = if wanted == 0 { u64::MAX } else { wanted - received };
                let taken = messages.len().min(usize::try_from(room).unwrap_or(usize::MAX));
                for message in &messages[..taken] {
                    print(message.key.as_deref(), &message.payload)?;
                }
                received += taken as u64;
                if taken < messages.len() {
                    consumers[index].ack_first(&entry, taken);
                    consumers[index].flush_acks();
                    break;
                }
            }
            Err(error) => {
                eprintln!("magnetar: {error}");
                received += 1;
            }
        }
        consumers[index].ack(&entry);
        consumers[index].flush_acks();
    }
    Ok(())
}

/// Whatever partition has an entry first; cancel-safe because receiving is.
async fn next_entry(consumers: &mut VecDeque<Consumer>) -> anyhow::Result<(usize, crate::client::Entry)> {
    // One partition stays first only until it has delivered, so that a busy one does not starve the rest.
    consumers.rotate_left(1);
    let mut waiting = consumers.iter_mut().map(|consumer| Box::pin(consumer.receive())).collect::<Vec<_>>();
    let (index, entry) = std::future::poll_fn(|context| {
        for (index, future) in waiting.iter_mut().enumerate() {
            if let std::task::Poll::Ready(entry) = future.as_mut().poll(context) {
                return std::task::Poll::Ready((index, entry));
            }
        }
        std::task::Poll::Pending
    })
    .await;
    Ok((index, entry?))
}

/// `key<TAB>payload`, or the payload alone.
fn print(key: Option<&str>, payload: &[u8]) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    if let Some(key) = key {
        write!(out, "{key}\t")?;
    }
    out.write_all(payload)?;
    out.write_all(b"\n")?;
    out.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_stick_to_a_partition_and_the_rest_takes_turns() {
        assert_eq!(partition_of(Some("a"), 0, 7), partition_of(Some("a"), 5, 7));
        assert_eq!((0..4).map(|turn| partition_of(None, turn, 3)).collect::<Vec<_>>(), [0, 1, 2, 0]);
    }

    #[test]
    fn each_line_is_a_payload() {
        let payloads = lines(&b"a\n\nb"[..]).unwrap();
        assert_eq!(payloads, [&b"a"[..], b"", b"b"]);
    }
}
