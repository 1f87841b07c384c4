//! The entry that a dead-letter topic gets, and the way back. No IO.
//!
//! Key, payload and metadata stay as they were; added are properties under the names of Pulsar's clients (Java's
//! `RetryMessageUtil`) and the reason. Clients see the properties of a batch's messages only, so they go there; a batch
//! that cannot be opened (it is encrypted) carries them in the entry's own metadata.

use bytes::{Bytes, BytesMut};
use magnetar_common::topic_name::TopicName;
use magnetar_proto::ids::Position;
use magnetar_proto::pulsar::api::{CompressionType, KeyValue, MessageMetadata, SingleMessageMetadata};
use magnetar_proto::pulsar::{batch, entry};

use crate::topic::compression::deflate;
use crate::topic::contents::{messages, open};

const REAL_TOPIC: &str = "REAL_TOPIC";
const REAL_SUBSCRIPTION: &str = "REAL_SUBSCRIPTION";
const ORIGIN_MESSAGE_ID: &str = "ORIGIN_MESSAGE_ID";
/// No client has a name for it.
const REASON: &str = "DEAD_LETTER_REASON";

/// Where a dead letter comes from.
pub(super) struct Origin<'a> {
    pub(super) topic: &'a str,
    pub(super) subscription: &'a str,
    pub(super) position: Position,
    pub(super) partition: Option<i32>,
    pub(super) reason: &'a str,
}

/// The entry for the dead-letter topic. Of a batch it has the messages of `ack_set` (bit set = not acknowledged), or all
/// if that is empty. Its publish time is `now_ms`, so that it does not expire at once; it names no schema version,
/// because versions count for each topic.
pub(super) fn letter(
    stored: &Bytes,
    ack_set: &[u64],
    origin: &Origin<'_>,
    now_ms: u64,
) -> Result<Bytes, String> {
    let (mut metadata, payload) = open(stored)?;
    let position = origin.position;
    let id = format!("{}:{}:{}", position.ledger_id, position.entry_id, origin.partition.unwrap_or(-1));
    let notes = [
        (REAL_TOPIC, origin.topic),
        (REAL_SUBSCRIPTION, origin.subscription),
        (ORIGIN_MESSAGE_ID, id.as_str()),
        (REASON, origin.reason),
    ];
    fresh(&mut metadata, now_ms);
    if let Some(messages) = messages(&metadata, &payload) {
        let left = |index: usize| {
            ack_set.is_empty() || ack_set.get(index / 64).is_some_and(|word| word >> (index % 64) & 1 == 1)
        };
        let left =
            messages.into_iter().enumerate().filter(|(index, _)| left(*index)).map(|(_, message)| message);
        let mut left: Vec<_> = left.filter(|(single, _)| !single.compacted_out()).collect();
        left.iter_mut().for_each(|(single, _)| note(&mut single.properties, &notes));
        return closed_batch(metadata, &left).ok_or_else(|| "its batch could not be made anew".into());
    }
    note(&mut metadata.properties, &notes);
    Ok(entry::build(&metadata, &payload))
}

/// What goes back, each with its topic.
pub type Returned = Vec<(TopicName, Bytes)>;

/// A dead letter, of ours or of a client, as it was before: one entry for each message. `None` if one of its messages does
/// not say where it belongs.
pub fn returned(stored: &Bytes, now_ms: u64) -> Result<Option<Returned>, String> {
    let (mut metadata, payload) = open(stored)?;
    fresh(&mut metadata, now_ms);
    let Some(messages) = messages(&metadata, &payload) else {
        let topic = take_origin(&mut metadata.properties);
        return Ok(topic.map(|topic| vec![(topic, entry::build(&metadata, &payload))]));
    };
    Ok(messages
        .into_iter()
        .map(|(mut single, payload)| {
            let topic = take_origin(&mut single.properties)?;
            Some((topic, entry::build(&alone(&metadata, single, &payload), &payload)))
        })
        .collect())
}

fn fresh(metadata: &mut MessageMetadata, now_ms: u64) {
    metadata.publish_time = now_ms;
    metadata.schema_version = None;
    metadata.replicated_from = None;
    metadata.deliver_at_time = None;
}

/// A note of an earlier death says more of where the message belongs; only the reason is new.
fn note(properties: &mut Vec<KeyValue>, notes: &[(&str, &str)]) {
    for (key, value) in notes {
        match properties.iter_mut().find(|property| property.key == *key) {
            Some(property) if *key == REASON => property.value = (*value).to_owned(),
            Some(_) => {}
            None => properties.push(KeyValue { key: (*key).to_owned(), value: (*value).to_owned() }),
        }
    }
}

fn take_origin(properties: &mut Vec<KeyValue>) -> Option<TopicName> {
    let topic = properties.iter().find(|property| property.key == REAL_TOPIC)?.value.parse().ok()?;
    let ours = [REAL_TOPIC, REAL_SUBSCRIPTION, ORIGIN_MESSAGE_ID, REASON];
    properties.retain(|property| !ours.contains(&property.key.as_str()));
    Some(topic)
}

fn closed_batch(mut metadata: MessageMetadata, messages: &[(SingleMessageMetadata, Bytes)]) -> Option<Bytes> {
    let mut plain = BytesMut::new();
    batch::encode(messages.iter().map(|(single, payload)| (single.clone(), &payload[..])), &mut plain);
    metadata.num_messages_in_batch = Some(i32::try_from(messages.len()).ok()?);
    metadata.uncompressed_size = Some(u32::try_from(plain.len()).ok()?);
    metadata.compacted_batch_indexes.clear();
    let payload = deflate(metadata.compression(), plain.freeze())?;
    Some(entry::build(&metadata, &payload))
}

/// The metadata of a batch's message that is sent by itself, uncompressed.
fn alone(batch: &MessageMetadata, single: SingleMessageMetadata, payload: &Bytes) -> MessageMetadata {
    MessageMetadata {
        sequence_id: single.sequence_id.unwrap_or(batch.sequence_id),
        highest_sequence_id: None,
        properties: single.properties,
        partition_key: single.partition_key,
        partition_key_b64_encoded: single.partition_key_b64_encoded,
        ordering_key: single.ordering_key,
        event_time: single.event_time,
        null_value: single.null_value,
        null_partition_key: single.null_partition_key,
        num_messages_in_batch: None,
        compression: Some(CompressionType::None as i32),
        uncompressed_size: u32::try_from(payload.len()).ok(),
        compacted_batch_indexes: Vec::new(),
        ..batch.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use magnetar_proto::ids::{EntryId, LedgerId};

    const TOPIC: &str = "persistent://public/default/t";

    fn origin() -> Origin<'static> {
        let position = Position { ledger_id: LedgerId(3), entry_id: EntryId(7) };
        Origin { topic: TOPIC, subscription: "s", position, partition: None, reason: "why" }
    }

    fn property(key: &str, value: &str) -> KeyValue {
        KeyValue { key: key.into(), value: value.into() }
    }

    fn notes() -> Vec<KeyValue> {
        let pairs =
            [(REAL_TOPIC, TOPIC), (REAL_SUBSCRIPTION, "s"), (ORIGIN_MESSAGE_ID, "3:7:-1"), (REASON, "why")];
        pairs.map(|(key, value)| property(key, value)).to_vec()
    }

    fn single(key: &str) -> (SingleMessageMetadata, Bytes) {
        let properties = vec![property("own", key)];
        let partition_key = Some(key.to_owned());
        let metadata = SingleMessageMetadata {
            properties,
            partition_key,
            payload_size: key.len() as i32,
            ..Default::default()
        };
        (metadata, Bytes::copy_from_slice(key.as_bytes()))
    }

    #[test]
    fn a_message_keeps_what_it_was_and_tells_where_it_came_from_and_goes_back_as_it_was() {
        let before = MessageMetadata {
            producer_name: "p".into(),
            sequence_id: 5,
            publish_time: 1,
            event_time: Some(9),
            partition_key: Some("k".into()),
            properties: vec![property("own", "x")],
            schema_version: Some(Bytes::from_static(b"12345678")),
            ..Default::default()
        };
        let dead = letter(&entry::build(&before, b"payload"), &[], &origin(), 77).expect("a letter");
        let (metadata, payload) = open(&dead).expect("an entry");
        assert_eq!(&payload[..], b"payload");
        let properties = [vec![property("own", "x")], notes()].concat();
        let expected =
            MessageMetadata { publish_time: 77, properties, schema_version: None, ..before.clone() };
        assert_eq!(metadata, expected);

        let back = returned(&dead, 88).expect("an entry").expect("an origin");
        let [(topic, entry)] = &back[..] else { panic!("not one: {back:?}") };
        let (metadata, _) = open(entry).expect("an entry");
        assert_eq!(topic.as_str(), TOPIC);
        assert_eq!(metadata, MessageMetadata { publish_time: 88, schema_version: None, ..before });
        assert_eq!(returned(entry, 99), Ok(None), "it does not say so any more");
    }

    #[test]
    fn of_a_batch_the_messages_not_acknowledged_depart_in_whatever_compression() {
        for compression in [CompressionType::None, CompressionType::Lz4, CompressionType::Zstd] {
            let metadata =
                MessageMetadata { compression: Some(compression as i32), ..MessageMetadata::default() };
            let stored = closed_batch(metadata, &["a", "b", "c"].map(single)).expect("a batch");
            let dead = letter(&stored, &[0b101], &origin(), 77).expect("a letter");
            let (metadata, payload) = open(&dead).expect("an entry");
            assert_eq!((metadata.num_messages_in_batch, metadata.compression()), (Some(2), compression));
            let left = messages(&metadata, &payload).expect("a batch");
            let texts: Vec<&[u8]> = left.iter().map(|(_, payload)| &payload[..]).collect();
            assert_eq!(texts, [b"a", b"c"]);
            assert_eq!(left[1].0.properties, [vec![property("own", "c")], notes()].concat());

            let back = returned(&dead, 88).expect("an entry").expect("an origin");
            let keys = back.iter().map(|(_, entry)| open(entry).expect("an entry").0.partition_key);
            assert_eq!(keys.collect::<Vec<_>>(), [Some("a".to_owned()), Some("c".to_owned())]);
        }
    }

    #[test]
    fn a_batch_that_cannot_be_opened_departs_as_a_whole() {
        let metadata = MessageMetadata {
            num_messages_in_batch: Some(2),
            encryption_keys: vec![Default::default()],
            ..Default::default()
        };
        let dead = letter(&entry::build(&metadata, b"???"), &[0b01], &origin(), 77).expect("a letter");
        let (metadata, payload) = open(&dead).expect("an entry");
        assert_eq!((metadata.num_messages_in_batch, &payload[..]), (Some(2), b"???".as_slice()));
        assert_eq!(metadata.properties, notes());
    }

    #[test]
    fn what_is_no_entry_is_an_error() {
        assert!(letter(&Bytes::from_static(b"no"), &[], &origin(), 1).is_err());
        assert!(returned(&Bytes::from_static(b"no"), 1).is_err());
    }
}
