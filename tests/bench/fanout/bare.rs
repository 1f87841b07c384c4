//! What a server would cost that had nothing to do but to write: the same frames to as many consumers, by bare writes.
//!
//! The consumers are those of the measured server, on the same processors: over loopback it is they who decide how much of
//! the kernel's work is done in the sender's time, which makes several times as much of it as the copy itself. A sender and a
//! receiver alone, each on a processor of its own, are in each other's way all the time, and look far worse than a server.

use anyhow::{Context, Result};
use bytes::BytesMut;
use magnetar_proto::pulsar::api::{CommandMessage, MessageIdData};
use magnetar_proto::pulsar::{Command, entry, frame};
use magnetar_tests::raw::{Connection, metadata};
use magnetar_tests::usage;
use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::sync::Barrier;

/// As many as a server has for two processors.
const SENDERS: usize = 2;
/// Written at a time.
const WRITE_BYTES: usize = 64 << 10;

/// CPU seconds of the senders for each message of each consumer, over rounds of so many messages of `size` bytes.
pub(super) fn copy(size: usize, rounds: u64, messages: u64, consumers: usize) -> Result<f64> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?.to_string();
    let (mut sinks, mut sockets): (Vec<Connection>, Vec<Vec<TcpStream>>) = (Vec::new(), Vec::new());
    sockets.resize_with(SENDERS, Vec::new);
    for number in 0..consumers {
        sinks.push(Connection::open(&address)?);
        let (socket, _) = listener.accept()?;
        socket.set_nodelay(true)?;
        sockets[number % SENDERS].push(socket);
    }
    let frames = frames(size, messages);
    let barrier = Barrier::new(consumers + SENDERS);
    let cpu_seconds = std::thread::scope(|scope| -> Result<f64> {
        let (barrier, frames) = (&barrier, &frames);
        let drain = |mut sink: Connection| -> Result<()> {
            for _ in 0..rounds {
                barrier.wait();
                super::copies::drain(&mut sink, messages)?;
                barrier.wait();
            }
            Ok(())
        };
        let drains: Vec<_> = sinks.into_iter().map(|sink| scope.spawn(move || drain(sink))).collect();
        let send = |mut sockets: Vec<TcpStream>| -> Result<f64> {
            let mut cpu_seconds = 0.0;
            for _ in 0..rounds {
                barrier.wait();
                let before = usage::thread_scheduled_seconds()?;
                for chunk in frames.chunks(WRITE_BYTES) {
                    sockets.iter_mut().try_for_each(|socket| socket.write_all(chunk)).context("send")?;
                }
                cpu_seconds += usage::thread_scheduled_seconds()? - before;
                barrier.wait();
            }
            Ok(cpu_seconds)
        };
        let sends: Vec<_> = sockets.into_iter().map(|sockets| scope.spawn(move || send(sockets))).collect();
        let mut cpu_seconds = 0.0;
        for send in sends {
            cpu_seconds += send.join().expect("a sender")?;
        }
        drains.into_iter().try_for_each(|drain| drain.join().expect("a consumer"))?;
        Ok(cpu_seconds)
    })?;
    Ok(cpu_seconds / (rounds * messages * consumers as u64) as f64)
}

/// As the server's.
fn frames(size: usize, messages: u64) -> BytesMut {
    let (mut frames, payload) = (BytesMut::new(), vec![7; size]);
    for entry_id in 0..messages {
        let entry = entry::build(&metadata(entry_id), &payload);
        let command = CommandMessage {
            consumer_id: 1,
            message_id: MessageIdData { ledger_id: 100, entry_id, ..Default::default() },
            redelivery_count: Some(0),
            ..Default::default()
        };
        frame::encode_with_payload(Command::Message(command), entry.len(), &mut frames);
        frames.extend_from_slice(&entry);
    }
    frames
}
