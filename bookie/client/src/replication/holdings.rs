//! Which entries of a ledger a bookie says it holds, and which it lacks.
//!
//! The answer is BookKeeper's encoding: groups of equal runs of consecutive entries that start at equal distances. A list
//! that is not understood is an error, never an empty one: "lacks nothing" and "cannot tell" are not the same.

use crate::protocol::quorum::Quorum;
use bytes::{Buf, Bytes};
use magnetar_proto::ids::EntryId;

const HEADER_BYTES: usize = 64;
const GROUP_BYTES: usize = 24;

/// The entries of one ledger at one bookie.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Holdings {
    /// Ascending, without overlap.
    groups: Vec<Group>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Group {
    first_start: u64,
    last_start: u64,
    size: u64,
    /// Not 0.
    period: u64,
}

/// The list makes no sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a bookie's list of entries makes no sense: {0}")]
pub struct MalformedList(&'static str);

impl Holdings {
    /// Reads a list.
    pub fn decode(mut list: Bytes) -> Result<Self, MalformedList> {
        if list.len() < HEADER_BYTES {
            return Err(MalformedList("too short"));
        }
        let (version, count) = (list.get_i32(), list.get_i32());
        if version != 0 {
            return Err(MalformedList("an unknown version"));
        }
        list.advance(HEADER_BYTES - 8);
        if usize::try_from(count).ok().and_then(|count| count.checked_mul(GROUP_BYTES)) != Some(list.len()) {
            return Err(MalformedList("a wrong length"));
        }
        let mut groups: Vec<Group> = Vec::new();
        while list.has_remaining() {
            let group = Group::decode(list.get_i64(), list.get_i64(), list.get_i32(), list.get_i32())?;
            if groups.last().is_some_and(|before| before.end() > group.first_start) {
                return Err(MalformedList("groups that do not ascend"));
            }
            groups.push(group);
        }
        Ok(Self { groups })
    }

    /// Whether the entry is there.
    pub fn contains(&self, entry: EntryId) -> bool {
        let after = self.groups.partition_point(|group| group.first_start <= entry.0);
        after > 0 && self.groups[after - 1].contains(entry.0)
    }

    /// The entries from `first` to `last` that the slot must keep and that are not there.
    pub fn missing(
        &self,
        quorum: Quorum,
        slot: usize,
        first: EntryId,
        last: EntryId,
    ) -> impl Iterator<Item = EntryId> {
        let range = (first.0..=last.0).map(EntryId);
        range.filter(move |entry| quorum.keeps(*entry, slot) && !self.contains(*entry))
    }
}

impl Group {
    fn decode(first_start: i64, last_start: i64, size: i32, period: i32) -> Result<Self, MalformedList> {
        let positive = |number: i64| u64::try_from(number).map_err(|_| MalformedList("a negative number"));
        let (first_start, last_start) = (positive(first_start)?, positive(last_start)?);
        let (size, period) = (positive(size.into())?, positive(period.into())?.max(1));
        let runs_fit = first_start == last_start || (period >= size && first_start < last_start);
        if size == 0 || !runs_fit {
            return Err(MalformedList("a run without entries, or runs over each other"));
        }
        Ok(Self { first_start, last_start, size, period })
    }

    /// The first entry behind it.
    fn end(&self) -> u64 {
        self.last_start + self.size
    }

    fn contains(&self, entry: u64) -> bool {
        let Some(offset) = entry.checked_sub(self.first_start) else { return false };
        if self.first_start == self.last_start {
            return offset < self.size;
        }
        entry < self.end() && offset % self.period < self.size
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::{BufMut, BytesMut};
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn encoded(groups: &[(i64, i64, i32, i32)]) -> Bytes {
        let mut out = BytesMut::new();
        out.put_i32(0);
        out.put_i32(i32::try_from(groups.len()).expect("few"));
        out.resize(HEADER_BYTES, 0);
        for (first, last, size, period) in groups {
            out.put_i64(*first);
            out.put_i64(*last);
            out.put_i32(*size);
            out.put_i32(*period);
        }
        out.freeze()
    }

    #[test]
    fn what_a_slot_lacks_is_told_by_its_share_of_the_entries() {
        let quorum = Quorum::new(3, 2, 2).expect("valid");
        // Slot 0 keeps 0, 2, 3, 5, 6, 8, 9.
        let holdings = Holdings::decode(encoded(&[(2, 5, 2, 3)])).expect("a list");
        let missing: Vec<u64> =
            holdings.missing(quorum, 0, EntryId(0), EntryId(9)).map(|entry| entry.0).collect();
        assert_eq!(missing, [0, 8, 9]);
        let nothing = Holdings::default();
        assert_eq!(nothing.missing(quorum, 0, EntryId(3), EntryId(5)).count(), 2);
    }

    #[test]
    fn a_senseless_list_is_no_empty_list() {
        for groups in [
            &[(5, 4, 1, 1)][..],
            &[(-1, -1, 1, 0)],
            &[(0, 0, 0, 0)],
            &[(0, 9, 5, 3)],
            &[(0, 0, 5, 0), (4, 4, 1, 0)],
        ] {
            assert!(Holdings::decode(encoded(groups)).is_err(), "{groups:?}");
        }
        let list = encoded(&[(0, 0, 1, 0)]);
        assert!(Holdings::decode(list.slice(..list.len() - 1)).is_err());
        assert!(Holdings::decode(list.slice(..10)).is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_list_or_an_error(bytes: Vec<u8>) {
            let _ = Holdings::decode(bytes.into());
        }

        #[test]
        fn groups_mean_what_upstream_means_by_them(
            groups in prop::collection::vec((0_i64..10, 0_i64..4, 1_i32..5, 0_i32..4), 0..5),
        ) {
            let (mut next, mut wanted, mut list) = (0, BTreeSet::new(), Vec::new());
            for (gap, more, size, slack) in groups {
                let (first, period) = (next + gap, size + slack);
                let last = first + more * i64::from(period);
                list.push((first, last, size, if more == 0 { 0 } else { period }));
                for start in (0..=more).map(|run| first + run * i64::from(period)) {
                    wanted.extend(start..start + i64::from(size));
                }
                next = last + i64::from(size);
            }
            let holdings = Holdings::decode(encoded(&list)).expect("a list");
            for entry in 0..next + 5 {
                prop_assert_eq!(holdings.contains(EntryId(entry as u64)), wanted.contains(&entry), "{}", entry);
            }
        }
    }
}
