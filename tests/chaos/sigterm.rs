//! SIGTERM: the end comes soon, and everything is flushed.

use anyhow::{Context, Result, ensure};
use magnetar_proto::pulsar::api::command_subscribe::SubType;
use magnetar_proto::pulsar::{Command, entry};
use magnetar_tests::process::Standalone;
use magnetar_tests::raw::Connection;
use std::time::Duration;

/// The command line promises 5 s; a disk that others keep busy may hold up its last sync for longer.
const END_LIMIT: Duration = Duration::from_secs(20);
const TOPIC: &str = "persistent://public/default/sigterm";

#[test]
fn a_stop_with_clients_connected_flushes_messages_and_cursors_and_exits_with_zero() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let mut process = Standalone::start(dir.path())?;
    let mut connection = Connection::connect(&process.broker_address())?;
    connection.create_producer(1, TOPIC)?;
    connection.subscribe(1, TOPIC, "s", SubType::Exclusive)?;
    connection.flow(1, 100)?;
    for sequence_id in 0..20_u64 {
        connection.publish(1, sequence_id, &sequence_id.to_be_bytes())?;
    }
    for _ in 0..10 {
        let id = connection.expect(|frame| match frame.command {
            Command::Message(message) => Some(message.message_id),
            _ => None,
        })?;
        // No receipt is asked for: a clean stop must keep these acknowledgements all the same.
        connection.send(Command::Ack(magnetar_proto::pulsar::api::CommandAck {
            consumer_id: 1,
            message_id: vec![id],
            ..Default::default()
        }))?;
    }
    // An answer to a later request shows that the acks before it were taken.
    connection.send(Command::Ping(Default::default()))?;
    loop {
        if matches!(connection.receive()?.command, Command::Pong(_)) {
            break;
        }
    }
    let status = process.terminate(END_LIMIT)?;
    let log = process.log().join("\n");
    ensure!(status.success(), "exit {status}; log:\n{log}");
    // A stop is bounded: when every sync takes a second, it says what it left undone, and only the messages are sure.
    let was_cut_short = ["did not close in time", "not every topic closed in time"];
    let was_cut_short = was_cut_short.iter().any(|said| log.contains(said));

    process.restart()?;
    let mut connection = Connection::connect(&process.broker_address())?;
    connection.subscribe(1, TOPIC, "s", SubType::Exclusive)?;
    connection.flow(1, 100)?;
    let mut expected = 10;
    while expected < 20_u64 {
        let payload = connection.expect(|frame| match frame.command {
            Command::Message(_) => frame.payload,
            _ => None,
        })?;
        let parts = entry::split(&payload)?;
        let number = u64::from_be_bytes(parts.payload.as_ref().try_into().context("8 bytes")?);
        if number < expected && expected == 10 && was_cut_short {
            continue;
        }
        ensure!(number == expected, "{number} came, {expected} was next; log of the stop:\n{log}");
        expected += 1;
    }
    Ok(())
}

#[test]
fn an_idle_stop_is_quick_and_the_next_start_needs_no_repair() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let mut process = Standalone::start(dir.path())?;
    ensure!(process.terminate(END_LIMIT)?.success());
    process.restart()?;
    ensure!(process.terminate(END_LIMIT)?.success());
    Ok(())
}
