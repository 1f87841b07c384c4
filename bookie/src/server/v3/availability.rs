//! The list of entries that a bookie holds of a ledger, as V3 answers carry it.
//!
//! ```text
//! version:i32 = 0 | groups:i32 | zeros to 64 | { first_start:i64 | last_start:i64 | size:i32 | period:i32 }*
//! ```
//!
//! A group is `size` consecutive entries from each start on, starts lying `period` apart from the first to the last one.
//! One run of entries is a group with one start and period 0. Big-endian.

use bytes::{BufMut, Bytes, BytesMut};
use magnetar_proto::ids::EntryId;

const HEADER_BYTES: usize = 64;
const GROUP_BYTES: usize = 24;

/// A run of equal runs: what one group can say.
struct Group {
    first_start: u64,
    last_start: u64,
    size: u64,
    /// 0 as long as there is one start.
    period: u64,
}

/// Encodes ascending entry ids.
pub(crate) fn encode(entries: &[EntryId]) -> Bytes {
    let groups = groups(entries);
    let mut out = BytesMut::with_capacity(HEADER_BYTES + groups.len() * GROUP_BYTES);
    out.put_i32(0);
    out.put_u32(u32::try_from(groups.len()).unwrap_or(u32::MAX));
    out.resize(HEADER_BYTES, 0);
    for group in groups {
        out.put_u64(group.first_start);
        out.put_u64(group.last_start);
        out.put_u32(u32::try_from(group.size).unwrap_or(u32::MAX));
        out.put_u32(u32::try_from(group.period).unwrap_or(u32::MAX));
    }
    out.freeze()
}

fn groups(entries: &[EntryId]) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    for run in entries.chunk_by(|a, b| a.next() == *b) {
        let (start, size) = (run[0].0, run.len() as u64);
        match groups.last_mut() {
            Some(group)
                if group.size == size && (group.period == 0 || group.last_start + group.period == start) =>
            {
                group.period = start - group.last_start;
                group.last_start = start;
            }
            _ => groups.push(Group { first_start: start, last_start: start, size, period: 0 }),
        }
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(ids: &[u64]) -> Vec<(u64, u64, u64, u64)> {
        let entries: Vec<_> = ids.iter().copied().map(EntryId).collect();
        groups(&entries).iter().map(|g| (g.first_start, g.last_start, g.size, g.period)).collect()
    }

    #[test]
    fn a_dense_ledger_is_one_group() {
        assert_eq!(encoded(&[0, 1, 2, 3]), [(0, 0, 4, 0)]);
        assert_eq!(encoded(&[]), []);
    }

    #[test]
    fn striping_is_one_group_with_a_period() {
        assert_eq!(encoded(&[0, 1, 3, 4, 6, 7]), [(0, 6, 2, 3)]);
        assert_eq!(encoded(&[0, 2, 4, 9, 10]), [(0, 4, 1, 2), (9, 9, 2, 0)]);
    }

    #[test]
    fn encoding_has_its_golden_bytes() {
        let bytes = encode(&[EntryId(5), EntryId(6)]);
        assert_eq!(bytes.len(), 88);
        assert_eq!(&bytes[..8], [0, 0, 0, 0, 0, 0, 0, 1]);
        assert_eq!(&bytes[64..], [0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 2, 0, 0, 0, 0]);
    }
}
