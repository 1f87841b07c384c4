//! One more subscription, beside a bare copy of its bytes to the same consumers over loopback.
//!
//! The server's CPU time with seventeen subscriptions, less that with one, is what sixteen copies cost it; a bookie that
//! still moves what was published to entry logs is left out, as it would count for longer with seventeen. A round of messages is as
//! large as the tail cache holds easily, and the next one begins when all consumers have it: nothing is read from bookies.
//! *Cached*: a round is durable before its consumers let it come, and nothing but its delivery is measured. *Live*: it comes
//! while it is published, in whatever pieces become durable together; that publishing is the same for one and for seventeen
//! is all but certain, so that there some tens of nanoseconds are noise. All figures are medians.

use anyhow::Result;
use magnetar_proto::pulsar::Command;
use magnetar_proto::pulsar::api::command_subscribe::SubType;
use magnetar_tests::raw::{Connection, metadata};
use std::sync::Barrier;

use super::{WINDOW, address, bare, receipt};
use crate::server::Server;

const FEW: usize = 1;
const MANY: usize = 17;
const ROUND_BYTES: u64 = 4 << 20;
/// Messages of a round that are small: their entries take twice the bytes.
const ROUND_MESSAGES_MAX: u64 = 30_000;
const ROUNDS: u64 = 8;
const REPETITIONS: usize = 5;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Tail {
    Cached,
    Live,
}

pub(super) fn run(server: &Server) -> Result<()> {
    println!(
        "| one more subscription, ns of CPU a message | bare copy | cached | | live | |\n|---|---|---|---|---|---|"
    );
    for size in [128, 1 << 10, 16 << 10, 128 << 10] {
        let round = (ROUND_BYTES / size as u64).min(ROUND_MESSAGES_MAX);
        let mut found = [const { Vec::new() }; 3];
        for repetition in 0..REPETITIONS {
            found[0].push(bare::copy(size, ROUNDS, round, MANY - FEW)?);
            for (tail, found) in [Tail::Cached, Tail::Live].into_iter().zip(&mut found[1..]) {
                let few = measure(server, size, round, FEW, tail, repetition)?;
                let many = measure(server, size, round, MANY, tail, repetition)?;
                found.push((many - few) / ((MANY - FEW) as u64 * ROUNDS * round) as f64);
            }
        }
        let [bare, cached, live] = found.map(|mut all| {
            all.sort_by(f64::total_cmp);
            all[REPETITIONS / 2] * 1e9
        });
        println!(
            "| {size} bytes | {bare:.0} | {cached:.0} | {:.2} × | {live:.0} | {:.2} × |",
            cached / bare,
            live / bare
        );
    }
    println!();
    Ok(())
}

/// The server's CPU seconds, without those of its bookie's threads.
fn measure(
    server: &Server,
    size: usize,
    round: u64,
    consumers: usize,
    tail: Tail,
    repetition: usize,
) -> Result<f64> {
    let name = if tail == Tail::Cached { "cached" } else { "live" };
    let topic = format!("persistent://public/default/copies-{name}-{size}-{consumers}-{repetition}");
    let mut producer = Connection::connect(address(server))?;
    producer.create_producer(1, &topic)?;
    let mut sinks = Vec::new();
    for number in 0..consumers {
        let mut sink = Connection::connect(address(server))?;
        sink.subscribe(1, &topic, &format!("s{number}"), SubType::Exclusive)?;
        sinks.push(sink);
    }
    let barrier = Barrier::new(consumers + 1);
    let payload = vec![7; size];
    std::thread::scope(|scope| -> Result<f64> {
        let barrier = &barrier;
        let consume = move |mut sink: Connection| -> Result<()> {
            for _ in 0..ROUNDS {
                barrier.wait();
                sink.flow(1, round as u32)?;
                drain(&mut sink, round)?;
                barrier.wait();
            }
            Ok(())
        };
        let drains: Vec<_> = sinks.into_iter().map(|sink| scope.spawn(move || consume(sink))).collect();
        let mut cpu_seconds = 0.0;
        for number in 0..ROUNDS {
            let messages = number * round..(number + 1) * round;
            if tail == Tail::Cached {
                publish(&mut producer, messages.clone(), &payload)?;
            }
            let before = server.cpu_seconds_beside_bookie()?;
            barrier.wait();
            if tail == Tail::Live {
                publish(&mut producer, messages, &payload)?;
            }
            barrier.wait();
            cpu_seconds += server.cpu_seconds_beside_bookie()? - before;
        }
        drains.into_iter().try_for_each(|drain| drain.join().expect("a consumer"))?;
        Ok(cpu_seconds)
    })
}

/// Receives so many messages.
pub(super) fn drain(sink: &mut Connection, messages: u64) -> Result<()> {
    (0..messages)
        .try_for_each(|_| sink.expect(|frame| matches!(frame.command, Command::Message(_)).then_some(())))
}

/// Returns when all are durable.
fn publish(producer: &mut Connection, messages: std::ops::Range<u64>, payload: &[u8]) -> Result<()> {
    let (mut sent, mut answered) = (messages.start, messages.start);
    while answered < messages.end {
        if sent < messages.end && sent - answered < WINDOW {
            let burst = sent..(sent + 100).min(messages.end);
            producer.publish_all(1, burst.clone().map(|number| (metadata(number), payload)))?;
            sent = burst.end;
        } else {
            receipt(producer)?;
            answered += 1;
        }
    }
    Ok(())
}
