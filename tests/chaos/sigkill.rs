//! SIGKILL in the middle of publishing and acknowledging, round after round over one data directory.
//!
//! What must hold after every round: each message whose receipt arrived is read back, in order; no message whose
//! acknowledgement was confirmed comes again; no message that was never acknowledged is skipped; the process starts
//! by itself. What may happen: a message whose receipt did not arrive exists, or does not.
//!
//! A topic is used for twenty rounds, so that reading it back takes no longer in a long run; all are read at the end.

use crate::rounds;
use anyhow::{Context, Result, ensure};
use magnetar_proto::pulsar::api::command_subscribe::SubType;
use magnetar_proto::pulsar::{Command, entry};
use magnetar_tests::counters::{self, Known};
use magnetar_tests::process::Standalone;
use magnetar_tests::raw::Connection;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

const ROUNDS_PER_TOPIC: u64 = 20;
/// Sends that may be unanswered at once: keeps many group commits under way when the kill comes.
const WINDOW: u64 = 200;
const PERMITS: u32 = 1_000_000;

fn topic(round: u64) -> String {
    format!("persistent://public/default/sigkill-{}", round / ROUNDS_PER_TOPIC)
}

/// What the clients of all rounds over one topic know. Message numbers are unique over all rounds and rise in publishing order.
#[derive(Default)]
struct History {
    /// Numbers whose receipt arrived.
    published: BTreeSet<u64>,
    /// Numbers for which an acknowledgement was sent, confirmed or not.
    acknowledged: BTreeSet<u64>,
    /// Numbers whose acknowledgement was confirmed.
    confirmed: BTreeSet<u64>,
    /// What the subscription `half` still owed after the last round.
    owed: BTreeSet<u64>,
}

fn number_of(frame_payload: &bytes::Bytes) -> Result<u64> {
    let parts = entry::split(frame_payload)?;
    Ok(u64::from_be_bytes(parts.payload.as_ref().try_into().context("a message of 8 bytes")?))
}

/// Publishes numbers from `first` on until the connection breaks.
fn publish(
    address: &str,
    topic: &str,
    first: u64,
    history: &Mutex<History>,
    receipts: &AtomicUsize,
) -> Result<()> {
    let mut connection = Connection::connect(address)?;
    connection.create_producer(1, topic)?;
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
fn consume(address: &str, topic: &str, history: &Mutex<History>, is_there: &AtomicBool) -> Result<()> {
    let mut connection = Connection::connect(address)?;
    connection.subscribe(1, topic, "half", SubType::Shared)?;
    connection.flow(1, PERMITS)?;
    is_there.store(true, Ordering::Relaxed);
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
                let number =
                    response.request_id.and_then(|id| waiting.remove(&id)).context("an unknown ack")?;
                // One that a slow disk could not make durable in time is refused, and may be kept or not.
                if response.error.is_none() {
                    history.lock().expect("history").confirmed.insert(number);
                }
            }
            Command::Ping(_) if connection.send(Command::Pong(Default::default())).is_err() => return Ok(()),
            _ => {}
        }
    }
}

/// Reads the whole topic from the start up to a message published now, and gives all earlier numbers in order.
fn read_back(address: &str, topic: &str, subscription: &str, marker: u64) -> Result<Vec<u64>> {
    let mut connection = Connection::connect(address)?;
    connection.create_producer(1, topic)?;
    connection.publish(1, 0, &marker.to_be_bytes())?;
    connection.expect(|frame| matches!(frame.command, Command::SendReceipt(_)).then_some(()))?;
    connection.subscribe(1, topic, subscription, SubType::Exclusive)?;
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
fn still_owed(address: &str, topic: &str, marker: u64) -> Result<BTreeSet<u64>> {
    let mut connection = Connection::connect(address)?;
    connection.subscribe(1, topic, "half", SubType::Shared)?;
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

/// The subscription exists before the first message, so that it owes every one.
fn subscribe(address: &str, topic: &str) -> Result<()> {
    Connection::connect(address)?.subscribe(1, topic, "half", SubType::Shared)
}

#[test]
fn kills_lose_no_acknowledged_message_and_no_cursor_position() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let mut process = Standalone::start(dir.path())?;
    let (mut published, mut confirmed) = (0, 0);
    let mut histories: Vec<History> = Vec::new();
    let rounds = rounds();
    for first in (0..rounds).step_by(usize::try_from(ROUNDS_PER_TOPIC)?) {
        let history = Mutex::new(History::default());
        subscribe(&process.broker_address(), &topic(first))?;
        for round in first..rounds.min(first + ROUNDS_PER_TOPIC) {
            kill_once(&mut process, round, &history).with_context(|| format!("round {round}"))?;
        }
        let history = history.into_inner().expect("history");
        published += history.published.len();
        confirmed += history.confirmed.len();
        histories.push(history);
    }
    for (number, history) in (0..).zip(&histories) {
        let round = number * ROUNDS_PER_TOPIC;
        let marker = u64::MAX - number;
        let numbers = read_back(&process.broker_address(), &topic(round), "last-reader", marker)?;
        let found: BTreeSet<u64> = numbers.into_iter().collect();
        ensure!(history.published.is_subset(&found), "{}: lost acknowledged messages", topic(round));
        // The readers of the rounds, and this one, have acknowledged nothing.
        let readers = (round..rounds.min(round + ROUNDS_PER_TOPIC)).map(|round| format!("reader-{round}"));
        let readers: Vec<String> = readers.chain(["last-reader".to_owned()]).collect();
        let reader = |name| Known { subscription: name, is_left: &|_| true, unacked: 0 };
        let is_owed = |payload: &[u8]| match payload.try_into().map(u64::from_be_bytes) {
            Ok(number) => number == marker || history.owed.contains(&number),
            Err(_) => false,
        };
        let half = Known { subscription: "half", is_left: &is_owed, unacked: 0 };
        let known: Vec<Known<'_>> = readers.iter().map(|name| reader(name)).chain([half]).collect();
        counters::check_blocking(&process.broker_address(), &process.http_url(), &topic(round), &known)?;
    }
    println!(
        "{rounds} kills: {published} messages published and read back, {confirmed} acknowledgements confirmed and kept"
    );
    // Some hundreds: a round begins with what the ones before it left, and may be over before much is acknowledged.
    ensure!(confirmed > 0, "no acknowledgement was confirmed in any round");
    Ok(())
}

/// One round of publishing and consuming, a kill, and the check of everything that the topic has seen so far.
fn kill_once(process: &mut Standalone, round: u64, history: &Mutex<History>) -> Result<()> {
    let (first, topic) = ((round + 1) << 32, &topic(round));
    let address = &process.broker_address();
    let (receipts, is_there) = (&AtomicUsize::new(0), &AtomicBool::new(false));
    // Every round dies after another amount of work: from the first receipts to some thousands.
    let step = usize::try_from(round % ROUNDS_PER_TOPIC)?;
    let enough = 10 + step * step * 12;
    std::thread::scope(|scope| -> Result<()> {
        let publisher = scope.spawn(|| publish(address, topic, first, history, receipts));
        let consumer = scope.spawn(|| consume(address, topic, history, is_there));
        let came = magnetar_tests::wait::holds_within(std::time::Duration::from_secs(300), || {
            let is_under_way = is_there.load(Ordering::Relaxed) && receipts.load(Ordering::Relaxed) >= enough;
            is_under_way || publisher.is_finished() || consumer.is_finished()
        });
        // In any case: the two end only with it.
        process.kill()?;
        publisher.join().expect("publisher")?;
        consumer.join().expect("consumer")?;
        ensure!(came, "{enough} receipts: not in time");
        Ok(())
    })?;
    process.restart().context("start")?;

    let address = &process.broker_address();
    let marker = first + (1 << 31);
    let numbers = read_back(address, topic, &format!("reader-{round}"), marker)?;
    let mut history = history.lock().expect("history");
    ensure!(numbers.is_sorted_by(|a, b| a < b), "out of order, or twice");
    let found: BTreeSet<u64> = numbers.into_iter().collect();
    let lost: Vec<_> = history.published.difference(&found).take(5).collect();
    ensure!(lost.is_empty(), "lost acknowledged messages {lost:?}");

    let owed = still_owed(address, topic, marker)?;
    let again: Vec<_> = history.confirmed.intersection(&owed).take(5).collect();
    ensure!(again.is_empty(), "{again:?} came again after their confirmed acks");
    let skipped: Vec<_> = history
        .published
        .iter()
        .filter(|number| !history.acknowledged.contains(number) && !owed.contains(number))
        .take(5)
        .collect();
    ensure!(skipped.is_empty(), "{skipped:?} were never acknowledged and are not owed");
    history.owed = owed;
    Ok(())
}
