//! How many bytes lie after a place in the log, and where to go so that fewer do.
//!
//! Ledgers tell their bytes as a whole; within one, entries are taken as equally large.

use super::mark::MarkDelete;
use super::shell::ManagedLedger;
use magnetar_proto::ids::{EntryId, LedgerId, Position};

/// A ledger's confirmed entries and their bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Extent {
    pub(super) id: LedgerId,
    pub(super) entries: u64,
    pub(super) bytes: u64,
}

impl ManagedLedger {
    /// Bytes of the confirmed entries after the mark, about.
    pub fn bytes_after(&self, mark: MarkDelete) -> u64 {
        bytes_after(&self.extents(), mark)
    }

    /// The same, exactly: bytes of the ledger that the mark is in and of those after it, and the entry up to which that
    /// ledger's bytes are to be taken off (see [`MlReader::length_at`](super::MlReader::length_at)).
    pub fn bytes_around(&self, mark: MarkDelete) -> (u64, Option<Position>) {
        bytes_around(&self.extents(), mark)
    }

    /// The last entry to let go of so that no more than `bytes` remain after it; `None` when no more do.
    pub fn position_leaving(&self, bytes: u64) -> Option<Position> {
        position_leaving(&self.extents(), bytes)
    }

    fn extents(&self) -> Vec<Extent> {
        let last = self.last_confirmed();
        let extent = |(id, info): (LedgerId, &super::LedgerInfo)| {
            let confirmed = last.filter(|last| last.ledger_id == id).map_or(0, |last| last.entry_id.0 + 1);
            let entries = info.entries().unwrap_or(confirmed);
            let bytes = match info.state {
                super::LedgerState::Closed { size, .. } => size,
                // One that is being left is small beside the one that follows, or soon closed.
                _ if entries > 0 => self.tail.open_bytes(),
                _ => 0,
            };
            Extent { id, entries, bytes }
        };
        self.ledgers().iter().map(extent).collect()
    }
}

fn share(extent: &Extent, entries: u64) -> u64 {
    let share = u128::from(extent.bytes) * u128::from(entries) / u128::from(extent.entries.max(1));
    u64::try_from(share).unwrap_or(u64::MAX)
}

fn bytes_after(extents: &[Extent], mark: MarkDelete) -> u64 {
    let remains = |extent: &Extent| match extent.id.cmp(&mark.ledger_id) {
        std::cmp::Ordering::Less => 0,
        std::cmp::Ordering::Equal => share(extent, after(extent, mark)),
        std::cmp::Ordering::Greater => extent.bytes,
    };
    extents.iter().map(remains).sum()
}

fn bytes_around(extents: &[Extent], mark: MarkDelete) -> (u64, Option<Position>) {
    let later: u64 =
        extents.iter().filter(|extent| extent.id > mark.ledger_id).map(|extent| extent.bytes).sum();
    let own = extents.iter().find(|extent| extent.id == mark.ledger_id && after(extent, mark) > 0);
    let before = own.and(mark.entry).map(|entry| Position::new(mark.ledger_id, entry));
    (later + own.map_or(0, |own| own.bytes), before)
}

/// Entries of the ledger after the mark, which is in it.
fn after(extent: &Extent, mark: MarkDelete) -> u64 {
    extent.entries.saturating_sub(mark.next_position().entry_id.0)
}

fn position_leaving(extents: &[Extent], bytes: u64) -> Option<Position> {
    let mut room = bytes;
    for extent in extents.iter().rev().filter(|extent| extent.entries > 0) {
        if extent.bytes > room {
            let kept = u128::from(extent.entries) * u128::from(room) / u128::from(extent.bytes);
            let gone = extent.entries - u64::try_from(kept).unwrap_or(extent.entries);
            return gone.checked_sub(1).map(|last| Position::new(extent.id, EntryId(last)));
        }
        room -= extent.bytes;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXTENTS: [Extent; 3] = [
        Extent { id: LedgerId(1), entries: 10, bytes: 100 },
        Extent { id: LedgerId(4), entries: 0, bytes: 0 },
        Extent { id: LedgerId(5), entries: 4, bytes: 400 },
    ];

    fn at(ledger: u64, entry: u64) -> Position {
        Position::new(LedgerId(ledger), EntryId(entry))
    }

    #[test]
    fn bytes_are_shared_out_evenly_within_a_ledger() {
        let cases = [
            (MarkDelete::before(LedgerId(0)), 500),
            (at(1, 3).into(), 460),
            (at(1, 9).into(), 400),
            (at(5, 0).into(), 300),
            (at(5, 3).into(), 0),
        ];
        for (mark, expected) in cases {
            assert_eq!(bytes_after(&EXTENTS, mark), expected, "{mark}");
        }
    }

    #[test]
    fn the_bytes_around_a_mark_are_those_of_whole_ledgers() {
        let cases = [
            (MarkDelete::before(LedgerId(0)), (500, None)),
            (MarkDelete::before(LedgerId(1)), (500, None)),
            (at(1, 3).into(), (500, Some(at(1, 3)))),
            (at(1, 9).into(), (400, None)),
            (MarkDelete::before(LedgerId(5)), (400, None)),
            (at(5, 0).into(), (400, Some(at(5, 0)))),
            (at(5, 3).into(), (0, None)),
        ];
        for (mark, expected) in cases {
            assert_eq!(bytes_around(&EXTENTS, mark), expected, "{mark}");
        }
    }

    #[test]
    fn what_remains_fits() {
        let cases = [
            (500, None),
            (450, Some(at(1, 4))),
            (400, Some(at(1, 9))),
            (100, Some(at(5, 2))),
            (0, Some(at(5, 3))),
        ];
        for (bytes, expected) in cases {
            let found = position_leaving(&EXTENTS, bytes);
            assert_eq!(found, expected, "{bytes}");
            assert!(found.is_none_or(|last| bytes_after(&EXTENTS, last.into()) <= bytes));
        }
    }
}
