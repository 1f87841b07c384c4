//! Walks the entries of a log from its first to its last byte without trusting its index: each record proves itself,
//! as its checksum covers the log's id, its own offset, its length and its body. What lies between two whole records is
//! reported as unreadable. Index and footer only help to find the next whole record sooner.
//!
//! Salvage, the offline tools and whoever verifies a log use it. It must never report a record that does not prove
//! itself, and never pass over a byte without saying so.
//!
//! Without an index, a body can hold bytes that prove themselves as a record of exactly that log at exactly that offset
//! only if its writer foresaw both; they would be taken for an entry only if the record around them is damaged.

use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use bytes::{Buf, Bytes};
use magnetar_common::storage::Storage;
use magnetar_proto::ids::{EntryId, LedgerId};

use super::format::{
    ENTRY_HEADER_BYTES, FOOTER_BYTES, Footer, FormatError, HEADER_BYTES, SLOT_BYTES, decode_entry,
    decode_header,
};
use super::reader::OpenError;
use super::window::Window;
use crate::identity::InstanceId;

/// A body begins with both ids.
const BODY_BYTES_MIN: usize = 16;

/// No server may be configured to take a larger entry.
const BODY_BYTES_MAX: usize = 64 << 20;

/// Longest bodies looked for, one after the other, where no slot tells the next record: a random length is nearly
/// always a long one, so that looking for short records first costs few checksums.
const RESYNC_BODY_BYTES: [usize; 2] = [1 << 20, BODY_BYTES_MAX];

/// Bytes that the search for a next record may checksum in one scan; keeps a log full of garbage from taking hours.
const RESYNC_BUDGET_BYTES: u64 = 4 << 30;

/// What comes next in a log.
#[derive(Debug)]
pub(crate) enum Stretch {
    Entry(Found),
    /// Bytes that are no whole record. Never empty.
    Unreadable(Range<u64>),
}

/// A whole entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) ledger: LedgerId,
    pub(crate) entry: EntryId,
    /// Where its record stands in the file.
    pub(crate) offset: u64,
    pub(crate) body: Bytes,
}

impl Found {
    /// Where its record ends.
    pub(crate) fn end(&self) -> u64 {
        self.offset + (ENTRY_HEADER_BYTES + self.body.len()) as u64
    }

    fn id(&self) -> (LedgerId, EntryId) {
        (self.ledger, self.entry)
    }
}

/// See the module.
pub(crate) struct Scan {
    log: u64,
    window: Window,
    header_whole: bool,
    footer: Option<Footer>,
    /// Starts of records as the slots name them, ascending; unchecked. Read when first needed.
    slots: Option<Vec<u64>>,
    offset: u64,
    last: Option<(LedgerId, EntryId)>,
    budget: u64,
    end_known: bool,
}

impl Scan {
    /// Begins at the first entry. Fails for a log of another bookie or a newer version, as far as header or footer can
    /// still tell; damage is no failure. Blocks.
    pub(crate) fn open(
        storage: &Arc<dyn Storage>,
        path: &Path,
        log: u64,
        instance: InstanceId,
    ) -> Result<Scan, OpenError> {
        let mut window = Window::new(storage.open(path)?)?;
        let checked = |found: Result<(InstanceId, u64), FormatError>| match found {
            Ok(whose) if whose != (instance, log) => Err(OpenError::Foreign),
            Ok(_) => Ok(true),
            Err(FormatError::Damaged) => Ok(false),
            Err(newer) => Err(newer.into()),
        };
        let bytes = window.file_bytes();
        let footer = match bytes.checked_sub(FOOTER_BYTES as u64) {
            Some(at) => Footer::decode(&window.view(at, FOOTER_BYTES)?.unwrap_or_default()),
            None => Err(FormatError::Damaged),
        };
        checked(footer.map(|footer| (footer.instance, footer.log)))?;
        let header = window.view(0, HEADER_BYTES)?.unwrap_or_default();
        let header_whole = checked(decode_header(&header))?;
        let mut scan = Scan {
            log,
            window,
            header_whole,
            footer: footer.ok(),
            slots: None,
            offset: HEADER_BYTES as u64,
            last: None,
            budget: RESYNC_BUDGET_BYTES,
            end_known: false,
        };
        // A whole footer whose numbers cannot be is as good as none.
        scan.footer =
            scan.footer.filter(|footer| slots_at(footer).is_some_and(|at| at >= HEADER_BYTES as u64));
        Ok(scan)
    }

    pub(crate) fn header_whole(&self) -> bool {
        self.header_whole
    }

    /// The checked footer, when it is whole.
    pub(crate) fn footer(&self) -> Option<&Footer> {
        self.footer.as_ref()
    }

    pub(crate) fn file_bytes(&self) -> u64 {
        self.window.file_bytes()
    }

    /// Where the entries end by the footer; without one, where the file does.
    pub(crate) fn entries_end(&self) -> u64 {
        self.limit()
    }

    /// The ids in a damaged record that takes exactly the unreadable `range`, by its own length. Unchecked.
    pub(crate) fn claimed_ids(&mut self, range: &Range<u64>) -> io::Result<Option<(LedgerId, EntryId)>> {
        if self.claimed_end(range.start)? != Some(range.end) {
            return Ok(None);
        }
        let ids = self.window.peek(range.start + ENTRY_HEADER_BYTES as u64, BODY_BYTES_MIN)?;
        Ok(ids.map(|mut ids| (LedgerId(ids.get_u64()), EntryId(ids.get_u64()))))
    }

    /// Whether the scan has ended exactly where footer or slots say that the entries end. When it has not, the log has
    /// been cut, or its index is too damaged to tell.
    pub(crate) fn end_known(&self) -> bool {
        self.end_known
    }

    /// Stretches that the disk could not read since the last call; their entries come as unreadable too.
    pub(crate) fn take_failed(&mut self) -> Vec<(Range<u64>, io::Error)> {
        self.window.take_failed()
    }

    /// The next entry or unreadable stretch, in file order; `None` at the end of the entries. Blocks.
    pub(crate) fn next(&mut self) -> io::Result<Option<Stretch>> {
        if self.at_end(self.offset)? {
            self.end_known = true;
            return Ok(None);
        }
        if self.offset >= self.limit() {
            return Ok(None);
        }
        if let Some(found) = self.record_at(self.offset, BODY_BYTES_MAX)? {
            self.offset = found.end();
            self.last = Some(found.id());
            return Ok(Some(Stretch::Entry(found)));
        }
        let from = self.offset;
        self.offset = self.resync()?;
        assert!(self.offset > from, "a scan always moves on");
        Ok(Some(Stretch::Unreadable(from..self.offset)))
    }

    /// No record reaches beyond this.
    fn limit(&self) -> u64 {
        self.footer.as_ref().and_then(slots_at).unwrap_or_else(|| self.window.file_bytes())
    }

    /// Whether the entries end at `offset`: by the footer, else because a list of slots begins there.
    fn at_end(&mut self, offset: u64) -> io::Result<bool> {
        if self.footer.is_some() {
            return Ok(offset == self.limit());
        }
        self.slots_begin_at(offset)
    }

    /// The slots name the records from the first one, right after the header, up to the place where they begin
    /// themselves. Nothing else in a log looks like this.
    fn slots_begin_at(&mut self, offset: u64) -> io::Result<bool> {
        let mut previous = 0;
        let mut at = offset;
        while let Some(mut slot) = self.window.peek(at, SLOT_BYTES)? {
            let slot = slot.get_u64();
            let first_sound = at > offset || slot == HEADER_BYTES as u64;
            if !first_sound || slot <= previous || slot > offset {
                return Ok(false);
            }
            if slot == offset {
                return Ok(true);
            }
            previous = slot;
            at += SLOT_BYTES as u64;
        }
        Ok(false)
    }

    /// The record at `offset`, when it is whole and follows the last one in order.
    fn record_at(&mut self, offset: u64, body_bytes_max: usize) -> io::Result<Option<Found>> {
        let limit = self.limit();
        let Some(head) = self.window.peek(offset, ENTRY_HEADER_BYTES + BODY_BYTES_MIN)? else {
            return Ok(None);
        };
        let len = (&head[4..]).get_u32() as usize;
        let end = offset + (ENTRY_HEADER_BYTES + len) as u64;
        if !(BODY_BYTES_MIN..=body_bytes_max).contains(&len) || end > limit {
            return Ok(None);
        }
        let mut ids = &head[ENTRY_HEADER_BYTES..];
        let id = (LedgerId(ids.get_u64()), EntryId(ids.get_u64()));
        if self.last.is_some_and(|last| last >= id) {
            return Ok(None);
        }
        let Some(record) = self.window.view(offset, ENTRY_HEADER_BYTES + len)? else { return Ok(None) };
        let body = decode_entry(self.log, offset, &record).ok();
        Ok(body.map(|body| Found { ledger: id.0, entry: id.1, offset, body }))
    }

    /// Where the next whole record, or the end, lies behind the unreadable place at the current offset.
    fn resync(&mut self) -> io::Result<u64> {
        let from = self.offset;
        let (mut bound, by_slot) = self.next_by_slots(from)?;
        if by_slot && self.claimed_end(from)? == Some(bound) {
            return Ok(bound);
        }
        for body_bytes_max in RESYNC_BODY_BYTES {
            bound = self.search(from + 1..bound, body_bytes_max)?;
        }
        Ok(bound)
    }

    /// The first place behind `from` where a slot says a whole record begins, and whether it is the very next slot;
    /// without any, the limit.
    fn next_by_slots(&mut self, from: u64) -> io::Result<(u64, bool)> {
        let limit = self.limit();
        if self.slots.is_none() {
            self.slots = Some(self.read_slots()?);
        }
        let first = self.slots().partition_point(|slot| *slot <= from);
        let mut at = first;
        while let Some(slot) = self.slots().get(at).copied().filter(|slot| *slot <= limit) {
            if slot == limit || self.record_at(slot, BODY_BYTES_MAX)?.is_some() {
                return Ok((slot, at == first));
            }
            at += 1;
        }
        Ok((limit, false))
    }

    fn slots(&self) -> &[u64] {
        self.slots.as_deref().unwrap_or_default()
    }

    /// All slots, sorted; none when the footer does not tell where they are.
    fn read_slots(&mut self) -> io::Result<Vec<u64>> {
        let Some(footer) = self.footer else { return Ok(Vec::new()) };
        let mut at = self.limit();
        let mut slots = Vec::new();
        while at < footer.runs_at {
            let Some(mut slot) = self.window.peek(at, SLOT_BYTES)? else { break };
            slots.push(slot.get_u64());
            at += SLOT_BYTES as u64;
        }
        slots.sort_unstable();
        slots.dedup();
        Ok(slots)
    }

    /// Where the damaged record at `offset` says it ends.
    fn claimed_end(&mut self, offset: u64) -> io::Result<Option<u64>> {
        let head = self.window.peek(offset, ENTRY_HEADER_BYTES)?;
        Ok(head.map(|head| offset + ENTRY_HEADER_BYTES as u64 + u64::from((&head[4..]).get_u32())))
    }

    /// The first place in `range` where a whole record with a body up to this length, or the list of slots, begins;
    /// else the range's end.
    fn search(&mut self, range: Range<u64>, body_bytes_max: usize) -> io::Result<u64> {
        for offset in range.clone() {
            let Some(mut head) = self.window.peek(offset, ENTRY_HEADER_BYTES)? else { break };
            let (crc, len) = (head.get_u32(), head.get_u32());
            if (BODY_BYTES_MIN..=body_bytes_max).contains(&(len as usize)) {
                if self.budget < u64::from(len) {
                    break;
                }
                self.budget -= u64::from(len);
                if self.record_at(offset, body_bytes_max)?.is_some() {
                    return Ok(offset);
                }
            }
            let may_be_slots = self.footer.is_none() && (crc, len) == (0, HEADER_BYTES as u32);
            if may_be_slots && self.slots_begin_at(offset)? {
                return Ok(offset);
            }
        }
        Ok(range.end)
    }
}

/// Where the slots begin, which is where the entries end.
fn slots_at(footer: &Footer) -> Option<u64> {
    let bytes = footer.entries.checked_add(1)?.checked_mul(SLOT_BYTES as u64)?;
    footer.runs_at.checked_sub(bytes)
}
