//! A snapshot as Pulsar writes it: `PositionInfo`, the record of a cursor ledger.

use super::batches::Batches;
use super::ranges::{AckedRange, AckedSet};
use super::snapshot::Snapshot;
use crate::managed_ledger::MarkDelete;
use bytes::Bytes;
use magnetar_proto::ids::{EntryId, LedgerId, Position};
use magnetar_proto::pulsar::managed_ledger as wire;
use prost::Message;
use roaring::RoaringBitmap;

/// One record of a cursor ledger. The ranges stand in the shorter of Pulsar's two forms: a subscription that acknowledges
/// every other entry needs a bit an entry, not a range. All of them in one: Pulsar's broker takes no notice of words where
/// there are ranges.
pub(super) fn encode(snapshot: &Snapshot) -> Bytes {
    let (ledger_id, entry_id) = snapshot.mark.to_wire();
    let (sparse, dense) = match is_dense(&snapshot.acked) {
        true => (
            Vec::new(),
            snapshot.acked.ledgers().filter_map(|(id, entries, _)| encode_bits(id, entries)).collect(),
        ),
        false => (encode_ranges(snapshot.acked.iter()), Vec::new()),
    };
    let info = wire::PositionInfo {
        ledger_id,
        entry_id,
        individual_deleted_messages: sparse,
        properties: encode_properties(&snapshot.properties),
        batched_entry_deletion_index_info: encode_batches(&snapshot.batches),
        individual_deleted_message_ranges: dense,
    };
    info.encode_to_vec().into()
}

/// Reads either form of the ranges that Pulsar writes.
pub(super) fn decode(bytes: &[u8]) -> Result<Snapshot, String> {
    let info = wire::PositionInfo::decode(bytes).map_err(|error| error.to_string())?;
    let mark = MarkDelete::from_wire(info.ledger_id, info.entry_id).ok_or("the mark-delete has no ledger")?;
    let mut ranges = decode_ranges(&info.individual_deleted_messages)?;
    for ledger in &info.individual_deleted_message_ranges {
        ranges.extend(decode_bits(ledger)?);
    }
    let batches = decode_batches(&info.batched_entry_deletion_index_info)?;
    let properties = decode_properties(info.properties);
    Ok(Snapshot { mark, acked: ranges.into_iter().collect(), batches, properties })
}

pub(super) fn encode_ranges(ranges: impl Iterator<Item = AckedRange>) -> Vec<wire::MessageRange> {
    let end =
        |ledger: LedgerId, entry| wire::NestedPositionInfo { ledger_id: ledger.to_wire(), entry_id: entry };
    ranges
        .map(|range| wire::MessageRange {
            lower_endpoint: end(range.ledger_id, EntryId::option_to_wire(range.first.prev())),
            upper_endpoint: end(range.ledger_id, range.last.to_wire()),
        })
        .collect()
}

/// A range that begins in an earlier ledger is taken from the beginning of the one it ends in: to forget an
/// acknowledgement is allowed, to invent one is not.
pub(super) fn decode_ranges(ranges: &[wire::MessageRange]) -> Result<Vec<AckedRange>, String> {
    let mut decoded = Vec::with_capacity(ranges.len());
    for range in ranges {
        let (lower, upper) = (&range.lower_endpoint, &range.upper_endpoint);
        let last = position(upper)?;
        let below =
            if lower.ledger_id == upper.ledger_id { EntryId::from_wire(lower.entry_id) } else { None };
        let first = below.map_or(EntryId::ZERO, EntryId::next);
        if lower.ledger_id > upper.ledger_id || first > last.entry_id {
            return Err("a range of acknowledged entries ends before it begins".into());
        }
        decoded.push(AckedRange { ledger_id: last.ledger_id, first, last: last.entry_id });
    }
    Ok(decoded)
}

pub(super) fn encode_batches(batches: &Batches) -> Vec<wire::BatchedEntryDeletionIndexInfo> {
    let one = |(position, set): (Position, &[u64])| wire::BatchedEntryDeletionIndexInfo {
        position: wire::NestedPositionInfo {
            ledger_id: position.ledger_id.to_wire(),
            entry_id: position.entry_id.to_wire(),
        },
        delete_set: set.iter().map(|word| *word as i64).collect(),
    };
    batches.iter().map(one).collect()
}

pub(super) fn decode_batches(batches: &[wire::BatchedEntryDeletionIndexInfo]) -> Result<Batches, String> {
    let mut decoded = Batches::default();
    for batch in batches {
        let set = batch.delete_set.iter().map(|word| *word as u64).collect();
        decoded.restore(position(&batch.position)?, set);
    }
    Ok(decoded)
}

pub(super) fn encode_properties(properties: &[(String, i64)]) -> Vec<wire::LongProperty> {
    properties.iter().map(|(name, value)| wire::LongProperty { name: name.clone(), value: *value }).collect()
}

pub(super) fn decode_properties(properties: Vec<wire::LongProperty>) -> Vec<(String, i64)> {
    properties.into_iter().map(|property| (property.name, property.value)).collect()
}

fn position(wire: &wire::NestedPositionInfo) -> Result<Position, String> {
    let ledger = LedgerId::from_wire(wire.ledger_id).ok_or("a position has no ledger")?;
    let entry = EntryId::from_wire(wire.entry_id).ok_or("a position has no entry")?;
    Ok(Position::new(ledger, entry))
}

/// What a range takes in a record, about; a word of zeros; and what any other word takes more.
const RANGE_BYTES: u64 = 22;
const ZERO_BYTES: u64 = 2;
const WORD_BYTES: u64 = 9;

/// Whether the ranges are shorter as words of bits, as far as their numbers tell.
fn is_dense(acked: &AckedSet) -> bool {
    let mut dense = 0_u64;
    for (_, entries, runs) in acked.ledgers() {
        let words = entries.max().map_or(0, |last| u64::from(last) / 64 + 1);
        let touched = words.min(entries.len() / 64 + 2 * runs);
        dense = dense.saturating_add(words * ZERO_BYTES + touched * WORD_BYTES);
    }
    dense < acked.runs().saturating_mul(RANGE_BYTES)
}

/// The entries of one ledger as words of bits. Only for those of which [`is_dense`] has said so: their length is bounded.
fn encode_bits(ledger_id: LedgerId, entries: &RoaringBitmap) -> Option<wire::LongListMap> {
    let mut values = vec![0_u64; (entries.max()? / 64) as usize + 1];
    for entry in entries {
        values[(entry / 64) as usize] |= 1 << (entry % 64);
    }
    let values = values.into_iter().map(|word| word as i64).collect();
    Some(wire::LongListMap { key: ledger_id.to_wire(), values })
}

fn decode_bits(ledger: &wire::LongListMap) -> Result<Vec<AckedRange>, String> {
    let ledger_id = LedgerId::from_wire(ledger.key).ok_or("a bit set of entries has no ledger")?;
    let mut ranges = Vec::new();
    for (index, word) in ledger.values.iter().enumerate() {
        let mut left = *word as u64;
        while left != 0 {
            let first = left.trailing_zeros();
            let length = (left >> first).trailing_ones();
            let base = index as u64 * 64 + u64::from(first);
            let last = EntryId(base + u64::from(length) - 1);
            ranges.push(AckedRange { ledger_id, first: EntryId(base), last });
            left = if first + length == 64 { 0 } else { left >> (first + length) << (first + length) };
        }
    }
    Ok(ranges)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn range(ledger: u64, first: u64, last: u64) -> AckedRange {
        AckedRange { ledger_id: LedgerId(ledger), first: EntryId(first), last: EntryId(last) }
    }

    #[test]
    fn a_snapshot_survives_encoding() {
        let at = |ledger, entry| Position::new(LedgerId(ledger), EntryId(entry));
        let mut batches = Batches::default();
        batches.restore(at(3, 5), vec![u64::MAX, 1]);
        let snapshot = Snapshot {
            mark: MarkDelete::before(LedgerId(3)),
            acked: [range(3, 1, 4), range(3, 9, 9), range(5, 0, 70_000)].into_iter().collect(),
            batches,
            properties: vec![("n".into(), -4)],
        };
        assert_eq!(decode(&encode(&snapshot)), Ok(snapshot));
    }

    #[test]
    fn many_short_ranges_take_a_bit_an_entry_and_all_of_them_survive() {
        // A limit on the number of ranges once let a confirmed acknowledgement be forgotten.
        let ranges: Vec<_> = (0..25_000).map(|number| range(3, number * 2, number * 2)).collect();
        let snapshot = Snapshot {
            mark: MarkDelete::before(LedgerId(2)),
            acked: [vec![range(2, 7, 9)], ranges, vec![range(9, 4_000_000, 4_000_001)]]
                .concat()
                .into_iter()
                .collect(),
            batches: Batches::default(),
            properties: Vec::new(),
        };
        let record = encode(&snapshot);
        assert!(record.len() < 150_000, "{} bytes", record.len());
        assert_eq!(decode(&record), Ok(snapshot));
        // An Apache broker that took over read the ranges and forgot what stood in words beside them.
        let info = wire::PositionInfo::decode(record).unwrap();
        assert!(info.individual_deleted_messages.is_empty());
    }

    #[test]
    fn ranges_as_words_of_bits_are_understood() {
        let info = wire::PositionInfo {
            ledger_id: 1,
            entry_id: 0,
            individual_deleted_message_ranges: vec![wire::LongListMap {
                key: 2,
                values: vec![0b1100 | i64::MIN, 3],
            }],
            ..Default::default()
        };
        let decoded = decode(&info.encode_to_vec()).unwrap();
        assert_eq!(decoded.acked.iter().collect::<Vec<_>>(), [range(2, 2, 3), range(2, 63, 65)]);
    }

    #[test]
    fn a_range_from_an_earlier_ledger_begins_with_its_own() {
        let end = |ledger_id, entry_id| wire::NestedPositionInfo { ledger_id, entry_id };
        let crossing = [wire::MessageRange { lower_endpoint: end(1, 7), upper_endpoint: end(2, 3) }];
        assert_eq!(decode_ranges(&crossing), Ok(vec![range(2, 0, 3)]));
        let backwards = [wire::MessageRange { lower_endpoint: end(2, 7), upper_endpoint: end(2, 3) }];
        assert!(decode_ranges(&backwards).is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_give_a_snapshot_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode(&bytes);
        }
    }
}
