//! Every other message of a topic acknowledged, one by one, with SIGKILLs among the acknowledgements.
//!
//! What must hold: no acknowledgement that was confirmed is ever undone, every message that was not acknowledged comes, and
//! the broker counts both right. What may happen: an acknowledgement that was sent and not confirmed is kept, or is not.
//!
//! `MAGNETAR_CHAOS_HOLES=1000000` makes so many, with twenty kills.

use anyhow::{Context, Result, ensure};
use magnetar_proto::pulsar::api::MessageIdData;
use magnetar_proto::pulsar::api::command_subscribe::SubType;
use magnetar_proto::pulsar::{Command, entry};
use magnetar_tests::counters::{self, Known};
use magnetar_tests::process::Standalone;
use magnetar_tests::raw::{Connection, metadata};
use magnetar_tests::{http, usage};
use std::ops::Range;
use std::time::{Duration, Instant};

const TOPIC: &str = "persistent://public/default/holes";
const SUBSCRIPTION: &str = "holed";
/// Sends or acknowledgements that may be unanswered at once.
const WINDOW: u64 = 10_000;
/// Of these, so many go out in one write.
const BURST: u64 = 500;
/// Messages looked at after each restart.
const SAMPLE: usize = 2_000;

struct Plan {
    holes: u64,
    kills: u64,
}

impl Plan {
    fn told() -> Self {
        match std::env::var("MAGNETAR_CHAOS_HOLES").ok() {
            Some(text) => Self { holes: text.parse().expect("MAGNETAR_CHAOS_HOLES is a number"), kills: 20 },
            None => Self { holes: 20_000, kills: 3 },
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Ack {
    /// Odd messages never are.
    Unsent,
    Sent,
    Confirmed,
}

/// Messages are numbered from 0 in the order of the log.
struct History {
    ids: Vec<MessageIdData>,
    acks: Vec<Ack>,
}

impl History {
    fn count(&self, what: Ack) -> u64 {
        self.acks.iter().filter(|ack| **ack == what).count() as u64
    }

    /// What the subscription may deliver: the number is that of a message which comes next, after those in front of it.
    fn ensure_owed(&self, number: u64) -> Result<()> {
        let ack = self.acks.get(usize::try_from(number)?).context("it was never published")?;
        ensure!(*ack != Ack::Confirmed, "{number} came again after its confirmed ack");
        Ok(())
    }
}

fn number_of(entry: &bytes::Bytes) -> Result<u64> {
    let parts = entry::split(entry)?;
    number_in(&parts.payload).context("a message of 8 bytes")
}

fn number_in(payload: &[u8]) -> Option<u64> {
    payload.try_into().ok().map(u64::from_be_bytes)
}

fn publish(address: &str, count: u64) -> Result<Vec<MessageIdData>> {
    let mut connection = Connection::connect(address)?;
    connection.create_producer(1, TOPIC)?;
    let (mut ids, mut sent) = (Vec::new(), 0);
    while (ids.len() as u64) < count {
        if sent < count && sent - (ids.len() as u64) + BURST <= WINDOW {
            let burst = sent..(sent + BURST).min(count);
            connection
                .publish_all(1, burst.clone().map(|number| (metadata(number), number.to_be_bytes())))?;
            sent = burst.end;
            continue;
        }
        let receipt = connection.expect(|frame| match frame.command {
            Command::SendReceipt(receipt) => Some(receipt),
            _ => None,
        })?;
        ensure!(receipt.sequence_id == ids.len() as u64, "receipts in order");
        ids.push(receipt.message_id.context("a receipt with an id")?);
    }
    Ok(ids)
}

/// Acknowledges even messages of the range, and those before it that were not confirmed, until `enough` of them are: the
/// others may be under way.
fn acknowledge(address: &str, history: &mut History, range: Range<u64>, enough: u64) -> Result<()> {
    let mut connection = Connection::connect(address)?;
    connection.subscribe(1, TOPIC, SUBSCRIPTION, SubType::Shared)?;
    let open = |number: &u64| history.acks[*number as usize] != Ack::Confirmed;
    let todo: Vec<u64> = (0..range.end).step_by(2).filter(open).collect();
    let (mut sent, mut answered, mut first_request) = (0, 0, None);
    while answered < enough.min(todo.len() as u64) {
        if sent < todo.len() && sent as u64 - answered + BURST <= WINDOW {
            let burst = &todo[sent..todo.len().min(sent + BURST as usize)];
            burst.iter().for_each(|number| history.acks[*number as usize] = Ack::Sent);
            let requests =
                connection.ack_each(1, burst.iter().map(|number| history.ids[*number as usize].clone()))?;
            first_request.get_or_insert(requests.start);
            sent += burst.len();
            continue;
        }
        let response = connection.expect(|frame| match frame.command {
            Command::AckResponse(response) => Some(response),
            _ => None,
        })?;
        ensure!(response.error.is_none(), "ACK_RESPONSE {:?}", response.message);
        let index = response.request_id.zip(first_request).map(|(id, first)| (id - first) as usize);
        let number = index.and_then(|index| todo.get(index)).context("an unknown ack")?;
        history.acks[*number as usize] = Ack::Confirmed;
        answered += 1;
    }
    Ok(())
}

/// What comes first after a restart: the lowest messages that are not acknowledged, none of them confirmed.
fn look(address: &str, history: &History) -> Result<()> {
    let mut connection = Connection::connect(address)?;
    connection.subscribe(1, TOPIC, SUBSCRIPTION, SubType::Shared)?;
    connection.flow(1, u32::try_from(SAMPLE)?)?;
    let mut from = 0;
    for _ in 0..SAMPLE.min(history.acks.len() / 4) {
        let number = number_of(&next_message(&mut connection)?.1)?;
        history.ensure_owed(number)?;
        let skipped = (from..number).find(|n| history.acks[*n as usize] == Ack::Unsent);
        ensure!(skipped.is_none(), "{number} came, but not {skipped:?}, which was never acknowledged");
        from = number + 1;
    }
    Ok(())
}

fn next_message(connection: &mut Connection) -> Result<(MessageIdData, bytes::Bytes)> {
    connection.expect(|frame| match frame.command {
        Command::Message(message) => frame.payload.map(|payload| (message.message_id, payload)),
        _ => None,
    })
}

/// Takes and acknowledges everything that is owed: each message that was not acknowledged, once, and nothing else.
fn drain(address: &str, history: &History) -> Result<u64> {
    let mut connection = Connection::connect(address)?;
    connection.subscribe(1, TOPIC, SUBSCRIPTION, SubType::Shared)?;
    let owed = history.count(Ack::Unsent);
    let mut came = vec![false; history.acks.len()];
    let (mut left, mut batch, mut last_request) = (owed, Vec::new(), None);
    connection.flow(1, u32::try_from(WINDOW)?)?;
    while left > 0 {
        let (id, payload) = next_message(&mut connection)?;
        let number = number_of(&payload)?;
        history.ensure_owed(number)?;
        ensure!(!std::mem::replace(&mut came[number as usize], true), "{number} came twice");
        batch.push(id);
        left -= 1;
        if batch.len() as u64 == BURST || left == 0 {
            connection.flow(1, u32::try_from(batch.len())?)?;
            last_request = connection.ack_each(1, batch.drain(..))?.last();
        }
    }
    connection.expect(|frame| match frame.command {
        Command::AckResponse(response) => (response.request_id == last_request).then_some(()),
        _ => None,
    })?;
    Ok(owed)
}

#[test]
#[expect(clippy::disallowed_methods, reason = "the time it took is printed")]
fn holes_survive_kills_and_no_confirmed_acknowledgement_is_undone() -> Result<()> {
    let Plan { holes, kills } = Plan::told();
    let dir = tempfile::tempdir()?;
    let mut process = Standalone::start(dir.path())?;
    Connection::connect(&process.broker_address())?.subscribe(1, TOPIC, SUBSCRIPTION, SubType::Shared)?;
    let began = Instant::now();
    let ids = publish(&process.broker_address(), 2 * holes)?;
    let mut history = History { acks: vec![Ack::Unsent; ids.len()], ids };
    println!("{} messages published, {:.1} s", 2 * holes, began.elapsed().as_secs_f64());
    let began = Instant::now();
    let (mut rss_mb, mut written_mb, mut longest) = (0_f64, 0_f64, Duration::ZERO);
    for kill in 0..kills {
        let of = |kill: u64| 2 * (holes * kill / kills);
        let range = of(kill)..of(kill + 1);
        // A tenth is under way when the kill comes, but for the last one: then it is known what is owed.
        let piece = (range.end - range.start) / 2;
        let enough = if kill + 1 == kills { u64::MAX } else { piece - piece / 10 };
        acknowledge(&process.broker_address(), &mut history, range, enough)
            .with_context(|| format!("before kill {kill}"))?;
        rss_mb = rss_mb.max(usage::rss_mb(process.pid())?);
        written_mb += usage::disk_bytes(process.pid())?.1 as f64 / 1e6;
        process.kill()?;
        let restart = Instant::now();
        process.restart().context("start")?;
        look(&process.broker_address(), &history).with_context(|| format!("after kill {kill}"))?;
        longest = longest.max(restart.elapsed());
    }
    let (address, http_url) = (process.broker_address(), process.http_url());
    let found = history.count(Ack::Confirmed);
    ensure!(found == holes, "{found} of {holes} acknowledgements were confirmed");
    println!(
        "{kills} kills among {holes} acknowledgements, {:.1} s; {longest:.1?} at most from a kill to the first {SAMPLE} messages; \
         {rss_mb:.0} MB resident and {written_mb:.0} MB written at most",
        began.elapsed().as_secs_f64(),
    );
    let ranges = "nonContiguousDeletedMessagesRanges";
    let stats = http::get(&format!("{http_url}/admin/v2/{}/stats", TOPIC.replace("://", "/")))?.json()?;
    // The first one is no hole: it is before everything that is left.
    ensure!(stats[ranges] == holes - 1, "{holes} acknowledgements, but {ranges} {}", stats[ranges]);
    let is_left = |payload: &[u8]| number_in(payload).is_some_and(|number| number % 2 == 1);
    let known = Known { subscription: SUBSCRIPTION, is_left: &is_left, unacked: 0 };
    counters::check_blocking(&address, &http_url, TOPIC, &[known])?;
    let began = Instant::now();
    let owed = drain(&address, &history)?;
    counters::check_blocking(&address, &http_url, TOPIC, &[Known::done(SUBSCRIPTION)])?;
    println!(
        "all {owed} messages that were not acknowledged came once, and none of the {holes} others; {:.1} s",
        began.elapsed().as_secs_f64()
    );
    Ok(())
}
