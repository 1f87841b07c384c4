//! Verifies one entry log: every entry against its own checksum, the index against the entries, in one pass over each.

use std::io;
use std::ops::Range;

use bytes::{Buf, Bytes};
use magnetar_proto::ids::{EntryId, LedgerId};

use super::report::{Finding, Verified, Weight, What};
use super::store::{LogFile, Store};
use crate::entry_log::format::{ENTRY_HEADER_BYTES, FormatError, SLOT_BYTES};
use crate::entry_log::{Found, Log, OpenError, Run, Scan, Stretch, Window};

/// See the module. Findings go to `find` in file order.
pub(super) struct LogCheck<'a> {
    pub(super) store: &'a Store,
    pub(super) file: &'a LogFile,
    pub(super) verified: &'a mut Verified,
    pub(super) find: &'a mut dyn FnMut(Finding),
}

/// An entry that the index names.
#[derive(Clone, Copy)]
struct Expected {
    id: (LedgerId, EntryId),
    /// Where its slot stands in the file.
    slot_at: u64,
    /// What the slot says.
    slot: u64,
}

impl LogCheck<'_> {
    pub(super) fn run(mut self) {
        if !self.file.exists {
            self.damage(
                What::MissingLog,
                "the checkpoint names this log, but it does not exist: its entries are lost here",
            );
            return;
        }
        self.verified.logs += 1;
        let scan = Scan::open(&self.store.storage, &self.file.path, self.file.log, self.store.instance);
        if let Err(error) = scan.and_then(|scan| self.check(scan)) {
            let (weight, what) = match &error {
                OpenError::Io(_) => (Weight::CannotTell, What::Io),
                OpenError::Format(FormatError::Newer { .. }) => (Weight::CannotTell, What::Foreign),
                OpenError::Format(FormatError::Damaged) => (Weight::Damage, What::LogIndex),
                OpenError::Foreign => (Weight::Damage, What::Foreign),
            };
            self.found(Finding::new(weight, what, &self.file.path, error.to_string()));
        }
    }

    fn found(&mut self, finding: Finding) {
        self.verified.count(&finding);
        (self.find)(finding);
    }

    fn damage(&mut self, what: What, detail: impl Into<String>) {
        self.found(Finding::damage(what, &self.file.path, detail));
    }

    fn check(&mut self, mut scan: Scan) -> Result<(), OpenError> {
        self.verified.bytes += scan.file_bytes();
        if !scan.header_whole() {
            let finding =
                Finding::damage(What::LogHeader, &self.file.path, "the header is damaged; no read needs it");
            self.found(finding.at(0, 0).harmless(true));
        }
        if let Some(row) = self.file.row.filter(|row| row.bytes != scan.file_bytes()) {
            let detail =
                format!("the file has {} bytes, the checkpoint says {}", scan.file_bytes(), row.bytes);
            self.found(Finding::damage(What::LogSize, &self.file.path, detail).harmless(true));
        }
        match Log::open(&self.store.storage, &self.file.path, self.file.log, self.store.instance) {
            Ok((log, runs)) => Indexed::new(self, &scan, log, &runs)?.check(&mut scan)?,
            Err(error @ (OpenError::Io(_) | OpenError::Format(FormatError::Damaged))) => {
                let detail = format!(
                    "the index cannot be used ({error}): no entry of this log can be served until it is repaired"
                );
                self.damage(What::LogIndex, detail);
                self.check_unindexed(&mut scan)?;
            }
            Err(error) => return Err(error),
        }
        for (range, error) in scan.take_failed() {
            let finding = Finding::new(Weight::CannotTell, What::Io, &self.file.path, error.to_string());
            self.found(finding.at(range.start, range.end - range.start));
        }
        Ok(())
    }

    /// Without an index the entries speak for themselves, and holes are known by what stands around them.
    fn check_unindexed(&mut self, scan: &mut Scan) -> io::Result<()> {
        let mut last: Option<Found> = None;
        let mut hole: Option<Range<u64>> = None;
        loop {
            let next = match scan.next()? {
                Some(Stretch::Unreadable(range)) => {
                    hole = Some(range);
                    continue;
                }
                Some(Stretch::Entry(found)) => Some(found),
                None => None,
            };
            if let Some(range) = hole.take() {
                let id = |found: &Found| (found.ledger.0, found.entry.0);
                let (before, after) = (last.as_ref().map(id), next.as_ref().map(id));
                let claim = scan.claimed_ids(&range)?.map(|(ledger, entry)| (ledger.0, entry.0));
                let claim = claim.filter(|claim| {
                    before.is_none_or(|before| before < *claim) && after.is_none_or(|after| *claim < after)
                });
                let around = |id: Option<(u64, u64)>| id.map_or("none".into(), |(l, e)| format!("{l}:{e}"));
                let detail = format!(
                    "unreadable bytes; the entry before is {}, the one after {}",
                    around(before),
                    around(after)
                );
                let what = if claim.is_some() { What::Entry } else { What::Stretch };
                let mut finding = Finding::damage(what, &self.file.path, detail);
                if let Some((ledger, entry)) = claim {
                    finding = finding.of(ledger, entry, false);
                }
                self.found(finding.at(range.start, range.end - range.start));
            }
            let Some(found) = next else { break };
            self.verified.entries += 1;
            last = Some(found);
        }
        if !scan.end_known() {
            self.damage(
                What::LogEnd,
                "the end of the log is missing: entries behind the last whole one may have been cut off",
            );
        }
        Ok(())
    }
}

/// A log whose index is whole: each entry can be named.
struct Indexed<'c, 'a, 'r> {
    check: &'c mut LogCheck<'a>,
    log: Log,
    slots: Window,
    runs: &'r [Run],
    /// Place in the runs of the entry that must come next.
    at: (usize, u64),
    /// The whole entry before, and where its slot stands.
    last: Option<(u64, Bytes)>,
    entries_end: u64,
}

impl<'c, 'a, 'r> Indexed<'c, 'a, 'r> {
    fn new(check: &'c mut LogCheck<'a>, scan: &Scan, log: Log, runs: &'r [Run]) -> Result<Self, OpenError> {
        let entries_end = scan.entries_end();
        let mut slot_at = entries_end;
        for run in runs {
            if run.slots_at != slot_at {
                return Err(FormatError::Damaged.into());
            }
            slot_at += run.count * SLOT_BYTES as u64;
        }
        let slots = Window::new(check.store.storage.open(&check.file.path)?)?;
        Ok(Indexed { check, log, slots, runs, at: (0, 0), last: None, entries_end })
    }

    fn slot(&mut self, at: u64) -> io::Result<u64> {
        let bytes = self.slots.peek(at, SLOT_BYTES)?;
        Ok(bytes.map_or(0, |mut bytes| bytes.get_u64()))
    }

    /// The entry that must come next.
    fn expected(&mut self) -> io::Result<Option<Expected>> {
        let Some(run) = self.runs.get(self.at.0) else { return Ok(None) };
        let slot_at = run.slots_at + self.at.1 * SLOT_BYTES as u64;
        let slot = self.slot(slot_at)?;
        Ok(Some(Expected { id: (run.ledger, EntryId(run.first.0 + self.at.1)), slot_at, slot }))
    }

    fn advance(&mut self) {
        self.at.1 += 1;
        if self.runs[self.at.0].count == self.at.1 {
            self.at = (self.at.0 + 1, 0);
        }
    }

    fn check(mut self, scan: &mut Scan) -> io::Result<()> {
        let mut hole = None;
        loop {
            let found = match scan.next()? {
                Some(Stretch::Unreadable(range)) => {
                    hole = Some(range);
                    continue;
                }
                Some(Stretch::Entry(found)) => found,
                None => break,
            };
            self.lost_before(Some((found.ledger, found.entry)), hole.take())?;
            self.whole(found)?;
        }
        self.lost_before(None, hole.take())?;
        let end_slot_at = self.entries_end + self.check_entries() * SLOT_BYTES as u64;
        if self.slot(end_slot_at)? != self.entries_end {
            self.wrong_slot(end_slot_at, None)?;
        }
        Ok(())
    }

    fn check_entries(&self) -> u64 {
        self.runs.iter().map(|run| run.count).sum()
    }

    /// Reports the entries that the index names before the entry `until`, all of which `hole` has swallowed.
    fn lost_before(
        &mut self,
        until: Option<(LedgerId, EntryId)>,
        hole: Option<Range<u64>>,
    ) -> io::Result<()> {
        let mut named = false;
        while let Some(expected) = self.expected()?.filter(|e| until.is_none_or(|until| e.id < until)) {
            named = true;
            self.advance();
            self.last = None;
            let (ledger, entry) = (expected.id.0.0, expected.id.1.0);
            let path = &self.check.file.path;
            let finding = match &hole {
                Some(hole) => {
                    let offset = if hole.contains(&expected.slot) { expected.slot } else { hole.start };
                    let next = self.slots.peek(expected.slot_at + SLOT_BYTES as u64, SLOT_BYTES)?;
                    let next = next.map_or(0, |mut next| next.get_u64());
                    let end = if next > offset && next <= hole.end { next } else { hole.end };
                    Finding::damage(What::Entry, path, "the entry is damaged").at(offset, end - offset)
                }
                None => {
                    Finding::damage(What::Entry, path, "the index names an entry that the log does not hold")
                        .at(expected.slot_at, SLOT_BYTES as u64)
                }
            };
            self.check.found(finding.of(ledger, entry, true));
        }
        if let Some(hole) = hole.filter(|_| !named) {
            let path = &self.check.file.path;
            let finding = Finding::damage(What::Stretch, path, "bytes between entries that belong to none");
            self.check.found(finding.at(hole.start, hole.end - hole.start).harmless(true));
        }
        Ok(())
    }

    /// Takes a whole entry.
    fn whole(&mut self, found: Found) -> io::Result<()> {
        self.check.verified.entries += 1;
        let Some(expected) = self.expected()?.filter(|e| e.id == (found.ledger, found.entry)) else {
            let path = &self.check.file.path;
            let finding = Finding::damage(What::Entry, path, "a whole entry that the index does not name");
            let bytes = (ENTRY_HEADER_BYTES + found.body.len()) as u64;
            self.check.found(finding.at(found.offset, bytes).of(found.ledger.0, found.entry.0, true));
            self.last = None;
            return Ok(());
        };
        self.advance();
        if expected.slot != found.offset {
            self.wrong_slot(expected.slot_at, Some((expected.id, &found.body)))?;
        }
        self.last = Some((expected.slot_at, found.body));
        Ok(())
    }

    /// A slot begins its own entry and ends the one before: each is damaged if it cannot be read any more.
    fn wrong_slot(&mut self, slot_at: u64, own: Option<((LedgerId, EntryId), &Bytes)>) -> io::Result<()> {
        let before = self.last.take().filter(|(at, body)| !self.readable(*at, body));
        let own_lost = own.is_some_and(|(_, body)| !self.readable(slot_at, body));
        let slot = |check: &LogCheck<'_>, detail: &str| {
            Finding::damage(What::Slot, &check.file.path, detail).at(slot_at, SLOT_BYTES as u64)
        };
        let mut named = false;
        if let Some(id) = before.and_then(|(at, _)| self.id_of_slot(at)) {
            let finding =
                slot(self.check, "the slot that ends a whole entry is damaged: the entry cannot be served");
            self.check.found(finding.of(id.0.0, id.1.0, true));
            named = true;
        }
        if let Some((id, _)) = own.filter(|_| own_lost) {
            let finding =
                slot(self.check, "the slot of a whole entry is damaged: the entry cannot be served");
            self.check.found(finding.of(id.0.0, id.1.0, true));
            named = true;
        }
        if !named {
            let finding =
                slot(self.check, "a slot is damaged; every entry can still be served").harmless(true);
            self.check.found(finding);
        }
        Ok(())
    }

    /// Whether the engine's way of reading finds this body through the slot.
    fn readable(&self, slot_at: u64, body: &Bytes) -> bool {
        self.log.read(slot_at, 1, 0).is_ok_and(|read| read.first() == Some(body))
    }

    fn id_of_slot(&self, slot_at: u64) -> Option<(LedgerId, EntryId)> {
        let run = self.runs.iter().rev().find(|run| run.slots_at <= slot_at)?;
        Some((run.ledger, EntryId(run.first.0 + (slot_at - run.slots_at) / SLOT_BYTES as u64)))
    }
}
