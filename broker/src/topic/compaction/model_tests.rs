//! Compaction over random logs, against a map of what a reader would end up with.

use std::collections::BTreeMap;

use bytes::{Bytes, BytesMut};
use magnetar_proto::ids::{EntryId, LedgerId, Position};
use magnetar_proto::pulsar::api::{CompressionType, EncryptionKeys, MessageMetadata, SingleMessageMetadata};
use magnetar_proto::pulsar::{batch, entry};
use proptest::prelude::*;

use super::content::look;
use super::newest::{Kept, Newest, TooManyKeys};
use crate::topic::compression::{deflate, inflate};

type Log = Vec<(Position, Bytes)>;

/// A message: its key, and its value (`None` deletes the key).
#[derive(Clone, Debug)]
struct Message {
    key: Option<u8>,
    value: Option<u16>,
}

#[derive(Clone, Debug)]
enum Entry {
    Single(Message),
    Batch(Vec<Message>, CompressionType),
    Encrypted,
    Marker,
}

fn message() -> impl Strategy<Value = Message> {
    (proptest::option::weighted(0.9, 0..6_u8), proptest::option::weighted(0.75, any::<u16>()))
        .prop_map(|(key, value)| Message { key, value })
}

fn entry() -> impl Strategy<Value = Entry> {
    let compression = prop::sample::select(vec![
        CompressionType::None,
        CompressionType::Lz4,
        CompressionType::Zlib,
        CompressionType::Zstd,
        CompressionType::Snappy,
    ]);
    prop_oneof![
        8 => message().prop_map(Entry::Single),
        6 => (prop::collection::vec(message(), 1..6), compression).prop_map(|(all, with)| Entry::Batch(all, with)),
        1 => Just(Entry::Marker),
    ]
}

fn key(message: &Message) -> Option<String> {
    message.key.map(|key| format!("key-{key}"))
}

fn payload(message: &Message) -> Bytes {
    message.value.map_or(Bytes::new(), |value| format!("value-{value}").into())
}

fn metadata() -> MessageMetadata {
    MessageMetadata { producer_name: "p".into(), sequence_id: 1, publish_time: 1, ..Default::default() }
}

fn encode(content: &Entry) -> Bytes {
    match content {
        Entry::Single(message) => {
            entry::build(&MessageMetadata { partition_key: key(message), ..metadata() }, &payload(message))
        }
        Entry::Batch(messages, compression) => {
            let payloads: Vec<Bytes> = messages.iter().map(payload).collect();
            let all = messages.iter().zip(&payloads).map(|(message, payload)| {
                (SingleMessageMetadata { partition_key: key(message), ..Default::default() }, &payload[..])
            });
            let mut plain = BytesMut::new();
            batch::encode(all, &mut plain);
            let size = plain.len() as u32;
            let metadata = MessageMetadata {
                num_messages_in_batch: Some(messages.len() as i32),
                compression: Some(i32::from(*compression)),
                uncompressed_size: Some(size),
                ..metadata()
            };
            entry::build(&metadata, &deflate(*compression, plain.freeze()).unwrap())
        }
        Entry::Encrypted => {
            let encryption_keys =
                vec![EncryptionKeys { key: "k".into(), value: vec![1].into(), ..Default::default() }];
            let metadata = MessageMetadata { num_messages_in_batch: Some(3), encryption_keys, ..metadata() };
            entry::build(&metadata, b"nobody knows")
        }
        Entry::Marker => entry::build(&MessageMetadata { marker_type: Some(1), ..metadata() }, b""),
    }
}

fn log_of(entries: &[Entry], first: u64) -> Log {
    let at = |n: u64| Position::new(LedgerId(1 + n / 7), EntryId(n % 7));
    entries.iter().zip(first..).map(|(content, n)| (at(n), encode(content))).collect()
}

fn compact(log: &Log) -> Log {
    let mut newest = Newest::new(1 << 20);
    log.iter().for_each(|(position, bytes)| newest.see(*position, &look(bytes)).unwrap());
    let keep = |(position, bytes): &(Position, Bytes)| match newest.keep(*position, look(bytes)).0 {
        Kept::Nothing => None,
        Kept::Whole => Some((*position, bytes.clone())),
        Kept::Part(part) => Some((*position, part)),
    };
    log.iter().filter_map(keep).collect()
}

/// What a client gets: position, index in a batch, key, payload.
fn delivered(log: &Log) -> Vec<(Position, i32, Option<String>, Bytes)> {
    let mut messages = Vec::new();
    for (position, bytes) in log {
        entry::verify_checksum(bytes).unwrap();
        let parts = entry::split(bytes).unwrap();
        let metadata: MessageMetadata = prost::Message::decode(parts.metadata).unwrap();
        if metadata.marker_type.is_some() || !metadata.encryption_keys.is_empty() {
            continue;
        }
        let Some(count) = metadata.num_messages_in_batch else {
            messages.push((*position, -1, metadata.partition_key, parts.payload));
            continue;
        };
        let plain = inflate(metadata.compression(), &parts.payload, metadata.uncompressed_size()).unwrap();
        for (index, single) in batch::decode(plain, count as u32).enumerate() {
            let (single, payload) = single.unwrap();
            if !single.compacted_out() {
                messages.push((*position, index as i32, single.partition_key, payload));
            }
        }
    }
    messages
}

/// What a table over the keys ends up with: where the newest message of each is, and what it says.
fn table(log: &Log) -> BTreeMap<String, (Position, i32, Bytes)> {
    let mut table = BTreeMap::new();
    for (position, index, key, payload) in delivered(log) {
        let Some(key) = key else { continue };
        match payload.is_empty() {
            true => drop(table.remove(&key)),
            false => drop(table.insert(key, (position, index, payload))),
        }
    }
    table
}

proptest! {
    #[test]
    fn what_stays_is_the_newest_of_each_key_where_it_was(entries in prop::collection::vec(entry(), 0..40)) {
        let log = log_of(&entries, 0);
        let compacted = compact(&log);
        prop_assert_eq!(table(&compacted), table(&log));
        let left = delivered(&compacted);
        prop_assert_eq!(left.len(), table(&log).len(), "one message a key: {:?}", left);
        prop_assert!(compacted.is_sorted_by(|a, b| a.0 < b.0));
        prop_assert_eq!(compact(&compacted), compacted);
    }

    #[test]
    fn compacting_step_by_step_ends_where_one_step_does(
        before in prop::collection::vec(entry(), 0..20),
        after in prop::collection::vec(entry(), 0..20),
    ) {
        let first = log_of(&before, 0);
        let second = log_of(&after, before.len() as u64);
        let step_by_step = compact(&[compact(&first), second.clone()].concat());
        let at_once = compact(&[first, second].concat());
        prop_assert_eq!(delivered(&step_by_step), delivered(&at_once));
    }

    #[test]
    fn an_encrypted_batch_stays_and_what_is_deleted_behind_it_stays_deleted(
        before in prop::collection::vec(entry(), 0..10),
        after in prop::collection::vec(entry(), 0..10),
    ) {
        let entries = [before, vec![Entry::Encrypted], after.clone()].concat();
        let log = log_of(&entries, 0);
        let compacted = compact(&log);
        let is_encrypted = |bytes: &Bytes| *bytes == encode(&Entry::Encrypted);
        prop_assert_eq!(compacted.iter().filter(|(_, bytes)| is_encrypted(bytes)).count(), 1);
        prop_assert_eq!(table(&compacted), table(&log));
        // It may hold any key, so the last word on each key that was spoken behind it must be there.
        let last_word = |log: &Log| -> BTreeMap<String, Bytes> {
            delivered(log).into_iter().filter_map(|(_, _, key, payload)| Some((key?, payload))).collect()
        };
        let behind = last_word(&log_of(&after, 0));
        let said = last_word(&compacted);
        prop_assert!(behind.iter().all(|(key, word)| said.get(key) == Some(word)), "{:?} {:?}", behind, said);
    }
}

fn chunk(key: &str, uuid: &str, id: i32, total: i32) -> Bytes {
    let metadata = MessageMetadata {
        partition_key: Some(key.into()),
        uuid: Some(uuid.into()),
        chunk_id: Some(id),
        num_chunks_from_msg: Some(total),
        ..metadata()
    };
    entry::build(&metadata, format!("{uuid}-{id}").as_bytes())
}

#[test]
fn a_message_in_chunks_stays_or_goes_as_a_whole() {
    let single = |n: u16| Entry::Single(Message { key: Some(1), value: Some(n) });
    let chunks = [
        chunk("a", "old", 0, 2),
        chunk("a", "old", 1, 2),
        chunk("key-1", "gone", 0, 2),
        chunk("a", "new", 0, 2),
        chunk("key-1", "gone", 1, 2),
        chunk("b", "half", 0, 2),
        encode(&single(7)),
        chunk("a", "new", 1, 2),
    ];
    let log: Log = chunks
        .into_iter()
        .zip(0..)
        .map(|(bytes, n)| (Position::new(LedgerId(1), EntryId(n)), bytes))
        .collect();
    let left: Vec<u64> = compact(&log).iter().map(|(position, _)| position.entry_id.0).collect();
    assert_eq!(
        left,
        [3, 5, 6, 7],
        "the newest of `a` with both its chunks, the unfinished one, the newest of key-1"
    );
}

#[test]
fn more_keys_than_fit_are_refused_with_their_number() {
    let mut newest = Newest::new(1_000);
    let see = |newest: &mut Newest, n: u8| {
        let bytes = encode(&Entry::Single(Message { key: Some(n), value: Some(1) }));
        newest.see(Position::new(LedgerId(1), EntryId(u64::from(n))), &look(&bytes))
    };
    let refused = (0..=255).find_map(|n| see(&mut newest, n).err()).expect("too many");
    assert_eq!(refused, TooManyKeys { keys: 9, bytes_max: 1_000 });
    let known = (0..9).all(|n| see(&mut newest, n).is_ok());
    assert!(known, "keys that are there cost nothing more");
}
