//! Key_Shared beside Shared: one producer, four consumers that acknowledge, a thousand keys.

use anyhow::Result;
use magnetar_proto::pulsar::Command;
use magnetar_proto::pulsar::api::command_subscribe::SubType;
use magnetar_proto::pulsar::api::{CommandAck, MessageMetadata, command_ack};
use magnetar_tests::raw::{Connection, metadata};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use super::{WINDOW, address, receipt};
use crate::server::Server;

const MESSAGES: u64 = 300_000;
const CONSUMERS: usize = 4;
const KEYS: u64 = 1_000;
const ROUNDS: usize = 3;
/// Messages acknowledged by one command, as clients group them, and permits given with it.
const GROUP: usize = 100;
const QUEUE: u32 = 1_000;

struct Found {
    per_second: f64,
    cpu_seconds: f64,
}

pub(super) fn run(server: &Server) -> Result<()> {
    println!(
        "| 128-byte messages, {CONSUMERS} consumers, median of {ROUNDS} | msg/s | server CPU-s per 10^6 |\n|---|---|---|"
    );
    measure(server, SubType::Shared, MESSAGES / 10, "warm-up")?;
    let (mut shared, mut keyed) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        shared.push(measure(server, SubType::Shared, MESSAGES, &format!("shared-{round}"))?);
        keyed.push(measure(server, SubType::KeyShared, MESSAGES, &format!("keyed-{round}"))?);
    }
    let [shared, keyed] = [shared, keyed].map(|found| {
        let median = |of: fn(&Found) -> f64| {
            let mut all: Vec<f64> = found.iter().map(of).collect();
            all.sort_by(f64::total_cmp);
            all[ROUNDS / 2]
        };
        Found { per_second: median(|f| f.per_second), cpu_seconds: median(|f| f.cpu_seconds) }
    });
    for (name, found) in [("Shared", &shared), ("Key_Shared", &keyed)] {
        println!("| {name} | {:.0} | {:.1} |", found.per_second, found.cpu_seconds / MESSAGES as f64 * 1e6);
    }
    println!(
        "| Key_Shared over Shared | {:.2} | {:.2} |\n",
        keyed.per_second / shared.per_second,
        keyed.cpu_seconds / shared.cpu_seconds
    );
    Ok(())
}

#[expect(clippy::disallowed_methods, reason = "a bench measures the real time")]
fn measure(server: &Server, kind: SubType, messages: u64, phase: &str) -> Result<Found> {
    let topic = format!("persistent://public/default/sharing-{phase}");
    let mut producer = Connection::connect(address(server))?;
    producer.create_producer(1, &topic)?;
    let mut consumers = Vec::new();
    for _ in 0..CONSUMERS {
        let mut consumer = Connection::connect(address(server))?;
        consumer.subscribe(1, &topic, "s", kind)?;
        consumer.flow(1, QUEUE)?;
        consumers.push(consumer);
    }
    let (before, began, came) = (server.cpu_seconds()?, Instant::now(), AtomicU64::new(0));
    std::thread::scope(|scope| -> Result<()> {
        let came = &came;
        let consume = move |mut consumer: Connection| -> Result<()> {
            let mut group = Vec::with_capacity(GROUP);
            // The last message ends every consumer: their connections are asked in turn.
            while came.load(Ordering::Relaxed) < messages {
                let frame = consumer.receive()?;
                let Command::Message(message) = frame.command else { continue };
                came.fetch_add(1, Ordering::Relaxed);
                group.push(message.message_id);
                if group.len() == GROUP {
                    consumer.flow(1, GROUP as u32)?;
                    consumer.send(Command::Ack(CommandAck {
                        consumer_id: 1,
                        ack_type: command_ack::AckType::Individual as i32,
                        message_id: std::mem::take(&mut group),
                        ..Default::default()
                    }))?;
                }
            }
            Ok(())
        };
        let ends: Vec<_> = consumers.iter().map(Connection::try_clone).collect::<Result<_>>()?;
        for consumer in consumers {
            scope.spawn(move || consume(consumer));
        }
        let (mut sent, mut answered) = (0, 0);
        while answered < messages {
            if sent < messages && sent - answered + 100 <= WINDOW {
                let burst = sent..(sent + 100).min(messages);
                producer.publish_all(1, burst.clone().map(keyed))?;
                sent = burst.end;
                continue;
            }
            receipt(&mut producer)?;
            answered += 1;
        }
        magnetar_tests::wait::until("all messages", std::time::Duration::from_secs(60), || {
            (came.load(Ordering::Relaxed) >= messages).then_some(())
        });
        // Those who wait for more are sent home.
        ends.iter().try_for_each(Connection::shutdown)
    })?;
    let seconds = began.elapsed().as_secs_f64();
    Ok(Found { per_second: messages as f64 / seconds, cpu_seconds: server.cpu_seconds()? - before })
}

fn keyed(number: u64) -> (MessageMetadata, [u8; 128]) {
    let key = Some(format!("key-{}", number % KEYS));
    (MessageMetadata { partition_key: key, ..metadata(number) }, [7; 128])
}
