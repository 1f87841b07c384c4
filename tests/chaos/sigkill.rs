//! SIGKILL in the middle of publishing and acknowledging, round after round over one data directory.
//!
//! What must hold after every round: each message whose receipt arrived is read back, in order; no message whose
//! acknowledgement was confirmed comes again; no message that was never acknowledged is skipped; the process starts
//! by itself. What may happen: a message whose receipt did not arrive exists, or does not.

use anyhow::{Context, Result, ensure};
use magnetar_proto::pulsar::api::command_subscribe::SubType;
use magnetar_proto::pulsar::{Command, entry};
use magnetar_tests::process::Standalone;
use magnetar_tests::raw::Connection;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

const ROUNDS: u64 = 20;
/// Sends that may be unanswered at once: keeps many group commits under way when the kill comes.
const WINDOW: u64 = 200;
const TOPIC: &str = "persistent://public/default/sigkill";
const PERMITS: u32 = 1_000_000;

/// What the clients of all rounds know. Message numbers are unique over all rounds and rise in publishing order.
#[derive(Default)]
struct History {
    /// Numbers whose receipt arrived.
    published: BTreeSet<u64>,
    /// Numbers for which an acknowledgement was sent, confirmed or not.
    acknowledged: BTreeSet<u64>,
    /// Numbers whose acknowledgement was confirmed.
    confirmed: BTreeSet<u64>,
}

fn number_of(frame_payload: &bytes::Bytes) -> Result<u64> {
    let parts = entry::split(frame_payload)?;
    Ok(u64::from_be_bytes(parts.payload.as_ref().try_into().context("a message of 8 bytes")?))
}

/// Publishes numbers from `first` on until the connection breaks.
fn publish(address: &str, first: u64, history: &Mutex<History>, receipts: &AtomicUsize) -> Result<()> {
    let mut connection = Connection::connect(address)?;
    connection.create_producer(1, TOPIC)?;
    let mut next = first;
    let mut unanswered = 0;
    loop {
        while unanswered < WINDOW {
            if connection.publish(1, next - first, &next.to_be_bytes()).is_err() {
                return Ok(());
            }
            next += 1;
            unanswered += 1;
        }
        let received = connection.expect(|frame| match frame.command {
            Command::SendReceipt(receipt) => Some(Ok(receipt.sequence_id)),
            Command::SendError(error) => Some(Err(error)),
            _ => None,
        });
        match received {
            Ok(Ok(sequence_id)) => {
                unanswered -= 1;
                history.lock().expect("history").published.insert(first + sequence_id);
                receipts.fetch_add(1, Ordering::Relaxed);
            }
            Ok(Err(error)) => anyhow::bail!("SEND_ERROR {} {}", error.error, error.message),
            Err(_) => return Ok(()),
        }
    }
}

/// Consumes and acknowledges every other message with a receipt until the connection breaks, and checks that nothing
/// confirmed earlier comes again.
fn consume(address: &str, history: &Mutex<History>) -> Result<()> {
    let mut connection = Connection::connect(address)?;
    connection.subscribe(1, TOPIC, "half", SubType::Shared)?;
    connection.flow(1, PERMITS)?;
    let mut waiting = BTreeMap::new();
    loop {
        let Ok(frame) = connection.receive() else { return Ok(()) };
        match frame.command {
            Command::Message(message) => {
                let number = number_of(&frame.payload.context("MESSAGE without payload")?)?;
                let mut history = history.lock().expect("history");
                ensure!(!history.confirmed.contains(&number), "{number} came again after its confirmed ack");
                if number % 2 == 0 {
                    history.acknowledged.insert(number);
                    drop(history);
                    match connection.ack_with_receipt(1, message.message_id) {
                        Ok(request_id) => waiting.insert(request_id, number),
                        Err(_) => return Ok(()),
                    };
                }
            }
            Command::AckResponse(response) => {
                ensure!(response.error.is_none(), "ACK_RESPONSE {:?}", response.message);
                let number =
                    response.request_id.and_then(|id| waiting.remove(&id)).context("an unknown ack")?;
                history.lock().expect("history").confirmed.insert(number);
            }
            Command::Ping(_) => connection.send(Command::Pong(Default::default()))?,
            _ => {}
        }
    }
}

/// Reads the whole topic from the start up to a message published now, and gives all earlier numbers in order.
fn read_back(address: &str, subscription: &str, marker: u64) -> Result<Vec<u64>> {
    let mut connection = Connection::connect(address)?;
    connection.create_producer(1, TOPIC)?;
    connection.publish(1, 0, &marker.to_be_bytes())?;
    connection.expect(|frame| matches!(frame.command, Command::SendReceipt(_)).then_some(()))?;
    connection.subscribe(1, TOPIC, subscription, SubType::Exclusive)?;
    connection.flow(1, PERMITS)?;
    let mut numbers = Vec::new();
    loop {
        let payload = connection.expect(|frame| match frame.command {
            Command::Message(_) => frame.payload,
            _ => None,
        })?;
        match number_of(&payload)? {
            number if number == marker => return Ok(numbers),
            number => numbers.push(number),
        }
    }
}

/// The numbers the subscription `half` still owes: what it delivers until `marker` comes.
fn still_owed(address: &str, marker: u64) -> Result<BTreeSet<u64>> {
    let mut connection = Connection::connect(address)?;
    connection.subscribe(1, TOPIC, "half", SubType::Shared)?;
    connection.flow(1, PERMITS)?;
    let mut numbers = BTreeSet::new();
    while !numbers.contains(&marker) {
        let payload = connection.expect(|frame| match frame.command {
            Command::Message(_) => frame.payload,
            _ => None,
        })?;
        numbers.insert(number_of(&payload)?);
    }
    Ok(numbers)
}

#[test]
fn twenty_kills_lose_no_acknowledged_message_and_no_cursor_position() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let history = Mutex::new(History::default());
    let mut process = Standalone::start(dir.path())?;
    {
        // The subscription exists before the first message, so that it owes every one.
        let mut connection = Connection::connect(&process.broker_address())?;
        connection.subscribe(1, TOPIC, "half", SubType::Shared)?;
    }
    let mut markers = BTreeSet::new();
    for round in 0..ROUNDS {
        let first = (round + 1) << 32;
        let address = process.broker_address();
        let receipts = AtomicUsize::new(0);
        // Every round dies after another amount of work: from the first receipts to some thousands.
        let enough = 10 + usize::try_from(round * round * 12)?;
        std::thread::scope(|scope| -> Result<()> {
            let publisher = scope.spawn(|| publish(&address, first, &history, &receipts));
            let consumer = scope.spawn(|| consume(&address, &history));
            magnetar_tests::wait::until("receipts", std::time::Duration::from_secs(60), || {
                (receipts.load(Ordering::Relaxed) >= enough
                    || publisher.is_finished()
                    || consumer.is_finished())
                .then_some(())
            });
            process.kill()?;
            publisher.join().expect("publisher")?;
            consumer.join().expect("consumer")
        })
        .with_context(|| format!("round {round}"))?;
        process.restart().with_context(|| format!("start after round {round}"))?;

        let marker = first + (1 << 31);
        let numbers = read_back(&process.broker_address(), &format!("reader-{round}"), marker)?;
        let history = history.lock().expect("history");
        ensure!(numbers.is_sorted_by(|a, b| a < b), "round {round}: out of order, or twice");
        let found: BTreeSet<u64> = numbers.into_iter().collect();
        let lost: Vec<_> = history.published.difference(&found).take(5).collect();
        ensure!(lost.is_empty(), "round {round}: lost acknowledged messages {lost:?}");

        let owed = still_owed(&process.broker_address(), marker)?;
        let again: Vec<_> = history.confirmed.intersection(&owed).take(5).collect();
        ensure!(again.is_empty(), "round {round}: {again:?} came again after their confirmed acks");
        let skipped: Vec<_> = history
            .published
            .iter()
            .filter(|number| !history.acknowledged.contains(number) && !owed.contains(number))
            .take(5)
            .collect();
        ensure!(skipped.is_empty(), "round {round}: {skipped:?} were never acknowledged and are not owed");
        markers.insert(marker);
    }
    let history = history.lock().expect("history");
    println!(
        "{ROUNDS} kills: {} messages published and read back, {} acknowledgements confirmed and kept",
        history.published.len(),
        history.confirmed.len()
    );
    ensure!(history.confirmed.len() > 100, "the rounds acknowledged next to nothing");
    Ok(())
}
