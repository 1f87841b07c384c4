//! Reads topics back and compares them with what their producers know: nothing lost, nothing invented, nothing reordered.

use crate::publisher::{Connection, Log};
use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use magnetar_proto::pulsar::api::{
    CommandFlow, CommandGetLastMessageId, CommandSubscribe, command_lookup_topic_response::LookupType,
    command_subscribe,
};
use magnetar_proto::pulsar::{Command, entry};

/// What was found over all topics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Messages with a receipt.
    pub acknowledged: usize,
    /// Messages read back, repetitions included.
    pub read: usize,
    /// Messages that came again after a lost receipt: allowed without deduplication.
    pub repeated: usize,
}

/// Reads the topic from its first message to the last one there is now, and checks it against the record.
pub async fn check(address: &str, topic: &str, log: &Log) -> Result<Verdict> {
    let numbers = read_all(address, topic).await.with_context(|| format!("read {topic} back"))?;
    let mut seen = vec![false; usize::try_from(log.sent)?];
    let (mut next_new, mut repeated) = (0, 0);
    for number in &numbers {
        let place = seen.get_mut(usize::try_from(*number)?);
        let place = place.with_context(|| format!("{topic}: {number} was never sent"))?;
        if std::mem::replace(place, true) {
            repeated += 1;
            continue;
        }
        ensure!(*number >= next_new, "{topic}: {number} came after {next_new}: reordered");
        next_new = number + 1;
    }
    let lost: Vec<u64> = log
        .receipts
        .iter()
        .map(|(number, _)| *number)
        .filter(|number| !seen.get(usize::try_from(*number).unwrap_or(usize::MAX)).copied().unwrap_or(false))
        .collect();
    ensure!(
        lost.is_empty(),
        "{topic}: {} acknowledged messages lost, the first {:?}",
        lost.len(),
        lost.first()
    );
    Ok(Verdict { acknowledged: log.receipts.len(), read: numbers.len(), repeated })
}

/// `host:port` of the broker that serves the topic, found from any broker.
pub async fn owner(address: &str, topic: &str) -> Result<String> {
    let (mut address, mut authoritative) = (address.to_owned(), false);
    for _ in 0..20 {
        let mut connection = Connection::connect(&address).await?;
        let (owner, kind, decided) = connection.lookup(topic, authoritative).await?;
        if kind == LookupType::Connect {
            return Ok(owner);
        }
        (address, authoritative) = (owner, decided);
    }
    bail!("redirected in circles")
}

/// The numbers in the topic, from its first message to the last one there is now.
pub async fn read_all(address: &str, topic: &str) -> Result<Vec<u64>> {
    let mut numbers = Vec::new();
    read_each(address, topic, |_, entry| {
        let parts = entry::split(entry)?;
        numbers.push(u64::from_be_bytes(parts.payload.as_ref().try_into().context("8 bytes")?));
        Ok(())
    })
    .await?;
    Ok(numbers)
}

/// Every entry of the topic with its ledger and number, headers included, from the first one to the last there is now.
pub async fn read_each(
    address: &str,
    topic: &str,
    mut take: impl FnMut((u64, u64), &Bytes) -> Result<()>,
) -> Result<()> {
    let mut connection = Connection::connect(&owner(address, topic).await?).await?;
    connection
        .send(CommandSubscribe {
            topic: topic.to_owned(),
            subscription: "checker".into(),
            sub_type: command_subscribe::SubType::Exclusive as i32,
            consumer_id: 1,
            request_id: 1,
            durable: Some(false),
            initial_position: Some(command_subscribe::InitialPosition::Earliest as i32),
            start_message_id: Some(magnetar_proto::pulsar::api::MessageIdData {
                ledger_id: u64::MAX,
                entry_id: u64::MAX,
                ..Default::default()
            }),
            ..Default::default()
        })
        .await?;
    // `Some(None)`: the topic is empty.
    let mut last: Option<Option<(u64, u64)>> = None;
    loop {
        if last == Some(None) {
            return Ok(());
        }
        match parts_of(connection.receive().await?) {
            (Command::Error(error), _) => bail!("{}", error.message),
            (Command::Success(_), _) => {
                connection.send(CommandGetLastMessageId { consumer_id: 1, request_id: 2 }).await?;
            }
            (Command::GetLastMessageIdResponse(answer), _) => {
                let id = answer.last_message_id;
                let there = (id.entry_id != u64::MAX).then_some((id.ledger_id, id.entry_id));
                last = Some(there);
                // Permits count messages, of which an entry may have many; what is under way is bounded by the socket.
                connection.send(CommandFlow { consumer_id: 1, message_permits: i32::MAX as u32 }).await?;
            }
            (Command::Message(message), payload) => {
                let id = (message.message_id.ledger_id, message.message_id.entry_id);
                take(id, &payload.context("MESSAGE without payload")?)?;
                if last.flatten().is_some_and(|last| id >= last) {
                    return Ok(());
                }
            }
            (Command::Ping(_), _) => connection.send(Command::Pong(Default::default())).await?,
            _ => {}
        }
    }
}

fn parts_of(frame: magnetar_proto::pulsar::frame::Frame) -> (Command, Option<Bytes>) {
    (frame.command, frame.payload)
}
