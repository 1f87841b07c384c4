//! Arbitrary well-formed values.

use bytes::Bytes;
use magnetar_proto::ids::{EntryId, LedgerId};
use magnetar_proto::pulsar::Command;
use magnetar_proto::pulsar::api::*;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

pub(crate) fn bytes(max_len: usize) -> impl Strategy<Value = Bytes> {
    vec(any::<u8>(), 0..=max_len).prop_map(Bytes::from)
}

pub(crate) fn ledger_id() -> impl Strategy<Value = LedgerId> {
    (0..=i64::MAX as u64).prop_map(LedgerId)
}

pub(crate) fn entry_id() -> impl Strategy<Value = EntryId> {
    (0..=i64::MAX as u64).prop_map(EntryId)
}

fn key_values() -> impl Strategy<Value = Vec<KeyValue>> {
    vec(any::<(String, String)>().prop_map(|(key, value)| KeyValue { key, value }), 0..3)
}

fn message_id() -> impl Strategy<Value = MessageIdData> {
    (any::<(u64, u64, Option<i32>, Option<i32>, Option<i32>)>(), vec(any::<i64>(), 0..3)).prop_map(
        |((ledger_id, entry_id, partition, batch_index, batch_size), ack_set)| MessageIdData {
            ledger_id,
            entry_id,
            partition,
            batch_index,
            ack_set,
            batch_size,
            first_chunk_message_id: None,
        },
    )
}

/// The commands of the data path, and some large ones.
pub(crate) fn command() -> impl Strategy<Value = Command> {
    prop_oneof![
        Just(CommandPing {}.into()),
        any::<(u64, u64, Option<i32>, Option<u64>, Option<bool>)>().prop_map(
            |(producer_id, sequence_id, num_messages, highest_sequence_id, is_chunk)| CommandSend {
                producer_id,
                sequence_id,
                num_messages,
                highest_sequence_id,
                is_chunk,
                ..Default::default()
            }
            .into()
        ),
        (any::<(u64, u64, Option<u64>)>(), option::of(message_id())).prop_map(
            |((producer_id, sequence_id, highest_sequence_id), message_id)| CommandSendReceipt {
                producer_id,
                sequence_id,
                message_id,
                highest_sequence_id,
            }
            .into()
        ),
        (any::<(u64, Option<u32>)>(), message_id()).prop_map(
            |((consumer_id, redelivery_count), message_id)| {
                CommandMessage { consumer_id, message_id, redelivery_count, ..Default::default() }.into()
            }
        ),
        (any::<(u64, Option<u64>)>(), 0..2i32, vec(message_id(), 0..5)).prop_map(
            |((consumer_id, request_id), ack_type, message_id)| CommandAck {
                consumer_id,
                ack_type,
                message_id,
                request_id,
                ..Default::default()
            }
            .into()
        ),
        any::<(u64, u32)>().prop_map(|(consumer_id, message_permits)| CommandFlow {
            consumer_id,
            message_permits
        }
        .into()),
        (any::<(String, String, u64, u64)>(), key_values(), option::of(message_id())).prop_map(
            |((topic, subscription, consumer_id, request_id), metadata, start_message_id)| CommandSubscribe {
                topic,
                subscription,
                consumer_id,
                request_id,
                metadata,
                start_message_id,
                ..Default::default()
            }
            .into()
        ),
        (any::<(String, Option<i32>)>(), option::of(bytes(40))).prop_map(
            |((client_version, protocol_version), auth_data)| CommandConnect {
                client_version,
                protocol_version,
                auth_data,
                ..Default::default()
            }
            .into()
        ),
    ]
}

/// Metadata of which any optional field may be missing.
pub(crate) fn message_metadata() -> impl Strategy<Value = MessageMetadata> {
    let required = any::<(String, u64, u64)>();
    let keys = (option::of("[a-zA-Z0-9+/]{0,12}=?=?"), option::of(bytes(12)), any::<Option<bool>>());
    let numbers = any::<(Option<i32>, Option<i64>, Option<i32>, Option<u64>, Option<u64>, Option<u64>)>();
    let chunk = any::<(Option<String>, Option<i32>, Option<i32>, Option<i32>)>();
    let skipped = (key_values(), option::of(bytes(9)), any::<Option<u64>>(), vec(any::<i32>(), 0..3));
    let rest = any::<(Option<i32>, Option<u32>, Option<bool>, Option<String>)>();
    (required, keys, numbers, chunk, skipped, rest).prop_map(
        |(required, keys, numbers, chunk, skipped, rest)| MessageMetadata {
            producer_name: required.0,
            sequence_id: required.1,
            publish_time: required.2,
            properties: skipped.0,
            replicated_from: rest.3,
            partition_key: keys.0,
            compression: rest.0,
            uncompressed_size: rest.1,
            num_messages_in_batch: numbers.0,
            event_time: skipped.2,
            schema_version: skipped.1,
            partition_key_b64_encoded: keys.2,
            ordering_key: keys.1,
            deliver_at_time: numbers.1,
            marker_type: numbers.2,
            txnid_least_bits: numbers.3,
            txnid_most_bits: numbers.4,
            highest_sequence_id: numbers.5,
            null_value: rest.2,
            uuid: chunk.0,
            num_chunks_from_msg: chunk.1,
            total_chunk_msg_size: chunk.2,
            chunk_id: chunk.3,
            compacted_batch_indexes: skipped.3,
            ..Default::default()
        },
    )
}
