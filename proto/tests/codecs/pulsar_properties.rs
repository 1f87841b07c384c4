//! Entries, message metadata and batches: what was put in comes out, and noise is a value or an error.

use bytes::{Bytes, BytesMut};
use magnetar_proto::pulsar::api::*;
use magnetar_proto::pulsar::message::{Chunk, MetadataError, Summary, summarize, summarize_entry};
use magnetar_proto::pulsar::{batch, entry};
use proptest::collection::vec;
use proptest::prelude::*;
use prost::Message;

use crate::strategies::{bytes, message_metadata};

/// What the scanner must find, taken from a full decode.
fn expected_summary(metadata: &MessageMetadata, partition_key: Option<Bytes>) -> Summary {
    let chunk = match (&metadata.uuid, metadata.chunk_id, metadata.num_chunks_from_msg) {
        (Some(uuid), Some(id), Some(total)) => Some(Chunk { uuid: uuid.clone().into(), id, total }),
        _ => None,
    };
    Summary {
        producer_name: metadata.producer_name.clone().into(),
        sequence_id: metadata.sequence_id,
        highest_sequence_id: metadata.highest_sequence_id,
        publish_time: metadata.publish_time,
        partition_key,
        ordering_key: metadata.ordering_key.clone(),
        num_messages: metadata.num_messages_in_batch().max(1) as u32,
        is_batch: metadata.num_messages_in_batch.is_some(),
        deliver_at_time: metadata.deliver_at_time,
        marker_type: metadata.marker_type,
        chunk,
        null_value: metadata.null_value(),
        compression: metadata.compression.unwrap_or_default(),
        uncompressed_size: metadata.uncompressed_size(),
        has_replicated_from: metadata.replicated_from.is_some(),
        is_encrypted: !metadata.encryption_keys.is_empty(),
        txn: metadata.txnid_most_bits.zip(metadata.txnid_least_bits),
    }
}

proptest! {
    #[test]
    fn the_summary_agrees_with_a_full_decode(metadata in message_metadata(), payload in bytes(50)) {
        let stored = entry::build(&metadata, &payload);
        let summary = summarize_entry(&stored).unwrap();
        let key = if metadata.partition_key_b64_encoded() {
            summary.partition_key.clone()
        } else {
            metadata.partition_key.clone().map(Bytes::from)
        };
        prop_assert_eq!(summary, expected_summary(&metadata, key));
    }

    /// Fields repeated or of the wrong type, as only noise has them: where a full decode succeeds, so does the summary.
    #[test]
    fn the_summary_agrees_with_a_full_decode_of_noise(
        metadata in message_metadata(),
        noise in vec((1u64..40, any::<u64>(), any::<bool>()), 0..4),
    ) {
        let mut encoded = metadata.encode_to_vec();
        for (tag, value, is_varint) in noise {
            let kind = if is_varint { 0 } else { 1 };
            prost::encoding::encode_varint(tag << 3 | kind, &mut encoded);
            if is_varint {
                prost::encoding::encode_varint(value, &mut encoded);
            } else {
                encoded.extend_from_slice(&value.to_le_bytes());
            }
        }
        let encoded = Bytes::from(encoded);
        if let Ok(decoded) = MessageMetadata::decode(encoded.clone()) {
            let summary = summarize(&encoded).unwrap();
            let key = summary.partition_key.clone();
            prop_assert_eq!(summary, expected_summary(&decoded, key));
        }
    }

    #[test]
    fn any_bytes_are_metadata_or_an_error(noise in bytes(200)) {
        let _ = summarize(&noise);
        let _ = summarize_entry(&noise);
        let _ = entry::split(&noise);
        let _ = entry::verify_checksum(&noise);
        prop_assert!(batch::decode(noise, u32::MAX).count() <= 51);
    }

    #[test]
    fn an_entry_splits_into_what_it_was_built_from(metadata in message_metadata(), payload in bytes(200)) {
        let built = entry::build(&metadata, &payload);
        prop_assert_eq!(entry::verify_checksum(&built), Ok(()));
        let parts = entry::split(&built).unwrap();
        prop_assert_eq!(MessageMetadata::decode(parts.metadata).unwrap(), metadata);
        prop_assert_eq!(parts.payload, payload);
        prop_assert_eq!(parts.headers_and_payload, built);
    }

    #[test]
    fn a_batch_decodes_to_what_was_encoded(messages in vec((any::<Option<String>>(), bytes(50)), 0..6)) {
        let messages: Vec<_> = messages
            .into_iter()
            .map(|(partition_key, payload)| {
                let payload_size = payload.len() as i32;
                (SingleMessageMetadata { partition_key, payload_size, ..Default::default() }, payload)
            })
            .collect();
        let mut encoded = BytesMut::new();
        batch::encode(messages.iter().map(|(metadata, payload)| (metadata.clone(), &payload[..])), &mut encoded);
        let decoded: Result<Vec<_>, _> = batch::decode(encoded.freeze(), messages.len() as u32).collect();
        prop_assert_eq!(decoded.unwrap(), messages);
    }

    #[test]
    fn records_of_cursors_survive(ids in any::<(i64, i64)>(), words in vec(any::<i64>(), 0..4)) {
        use magnetar_proto::pulsar::managed_ledger::{BatchedEntryDeletionIndexInfo, NestedPositionInfo, PositionInfo};
        let position = NestedPositionInfo { ledger_id: ids.0, entry_id: ids.1 };
        let record = PositionInfo {
            ledger_id: ids.0,
            entry_id: ids.1,
            batched_entry_deletion_index_info: vec![BatchedEntryDeletionIndexInfo { position, delete_set: words }],
            ..Default::default()
        };
        prop_assert_eq!(PositionInfo::decode(&record.encode_to_vec()[..]).unwrap(), record);
    }
}

#[test]
fn a_key_sent_as_base64_is_decoded_unless_it_is_none() {
    for (sent, expected) in [("aGVsbG8=", &b"hello"[..]), ("no base64!", b"no base64!")] {
        let metadata = MessageMetadata {
            partition_key: Some(sent.into()),
            partition_key_b64_encoded: Some(true),
            ..Default::default()
        };
        let summary = summarize(&metadata.encode_to_vec().into()).unwrap();
        assert_eq!(summary.partition_key.as_deref(), Some(expected));
    }
}

#[test]
fn metadata_without_its_required_fields_is_refused() {
    assert_eq!(summarize(&Bytes::new()), Err(MetadataError::Missing("producer name")));
}
