//! One more subscription on a cached tail, beside a bare copy of the same bytes over loopback.
//!
//! The server's CPU time with seventeen subscriptions, less that with one, is what sixteen copies cost it. A round of messages is as
//! large as the tail cache holds easily, and the next one begins when all consumers have it: nothing is read from bookies.

use anyhow::{Context, Result};
use magnetar_proto::pulsar::Command;
use magnetar_proto::pulsar::api::command_subscribe::SubType;
use magnetar_tests::raw::{Connection, metadata};
use magnetar_tests::usage;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Barrier;

use super::{WINDOW, address, receipt};
use crate::server::Server;

const FEW: usize = 1;
const MANY: usize = 17;
const ROUND_BYTES: u64 = 4 << 20;
const TOTAL_BYTES: u64 = 128 << 20;
const TOTAL_MESSAGES: u64 = 200_000;
/// What a bare copy writes at a time.
const WRITE_BYTES: usize = 64 << 10;
/// Per copied byte little is measured unless there are many.
const BARE_BYTES: u64 = 4 << 30;

struct Found {
    cpu_seconds: f64,
    /// On the wire to one consumer.
    bytes: u64,
}

pub(super) fn run(server: &Server) -> Result<()> {
    let bare = bare_copy()?;
    println!("a bare copy over loopback: {:.3} ns of CPU a byte, sender", bare * 1e9);
    println!("| one more subscription | ns of CPU a message | of a bare copy |\n|---|---|---|");
    for size in [128, 1 << 10, 16 << 10, 128 << 10] {
        let messages = TOTAL_MESSAGES.min(TOTAL_BYTES / size as u64);
        measure(server, size, messages / 10, FEW, "warm-up")?;
        let few = measure(server, size, messages, FEW, "few")?;
        let many = measure(server, size, messages, MANY, "many")?;
        let copies = (MANY - FEW) as f64 * messages as f64;
        let seconds = (many.cpu_seconds - few.cpu_seconds) / copies;
        let bare_seconds = bare * many.bytes as f64 / messages as f64;
        println!("| {size} bytes | {:.0} | {:.2} × |", seconds * 1e9, seconds / bare_seconds);
    }
    println!();
    Ok(())
}

fn measure(server: &Server, size: usize, messages: u64, consumers: usize, phase: &str) -> Result<Found> {
    let topic = format!("persistent://public/default/copies-{size}-{phase}");
    let mut producer = Connection::connect(address(server))?;
    producer.create_producer(1, &topic)?;
    let mut sinks = Vec::new();
    for number in 0..consumers {
        let mut sink = Connection::connect(address(server))?;
        sink.subscribe(1, &topic, &format!("s{number}"), SubType::Exclusive)?;
        sink.flow(1, u32::MAX)?;
        sinks.push(sink);
    }
    let round = (ROUND_BYTES / size as u64).min(messages);
    let barrier = Barrier::new(consumers + 1);
    let payload = vec![7; size];
    let before = server.cpu_seconds()?;
    let bytes = std::thread::scope(|scope| -> Result<u64> {
        let drain = |mut sink: Connection| -> Result<u64> {
            let began = sink.bytes_received();
            for number in 1..=messages {
                sink.expect(|frame| matches!(frame.command, Command::Message(_)).then_some(()))?;
                if number % round == 0 {
                    barrier.wait();
                }
            }
            Ok(sink.bytes_received() - began)
        };
        let drains: Vec<_> = sinks.into_iter().map(|sink| scope.spawn(move || drain(sink))).collect();
        let (mut sent, mut answered) = (0, 0);
        while sent < messages {
            let burst = sent..(sent + 100.min(round - sent % round)).min(messages);
            producer.publish_all(1, burst.clone().map(|number| (metadata(number), &payload)))?;
            sent = burst.end;
            let is_full = sent % round == 0 || sent == messages;
            while sent - answered > if is_full { 0 } else { WINDOW } {
                receipt(&mut producer)?;
                answered += 1;
            }
            if sent % round == 0 {
                barrier.wait();
            }
        }
        let mut bytes = 0;
        for drain in drains {
            bytes = drain.join().expect("a consumer")?;
        }
        Ok(bytes)
    })?;
    Ok(Found { cpu_seconds: server.cpu_seconds()? - before, bytes })
}

/// CPU seconds that a thread takes to send a byte to another one over loopback.
fn bare_copy() -> Result<f64> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let mut sender = TcpStream::connect(listener.local_addr()?)?;
    let (mut receiver, _) = listener.accept()?;
    let receiving = std::thread::spawn(move || {
        let mut chunk = vec![0; WRITE_BYTES];
        while receiver.read(&mut chunk).is_ok_and(|read| read > 0) {}
    });
    let sending = std::thread::spawn(move || -> Result<f64> {
        let chunk = vec![7; WRITE_BYTES];
        let before = usage::thread_cpu_seconds()?;
        for _ in 0..BARE_BYTES / WRITE_BYTES as u64 {
            sender.write_all(&chunk)?;
        }
        Ok(usage::thread_cpu_seconds()? - before)
    });
    let seconds = sending.join().expect("the sender").context("send")?;
    receiving.join().expect("the receiver");
    Ok(seconds / BARE_BYTES as f64)
}
