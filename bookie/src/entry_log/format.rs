//! The bytes of an entry log.
//!
//! ```text
//! header   magic[8] | version:u32 | instance[16] | log:u64 | crc32c:u32                                    (40 bytes)
//! entries  { crc32c:u32 | len:u32 | body[len] }*            sorted by (ledger, entry); the body begins with both ids
//! slots    { offset:u64 }*                                  one per entry, the record's start, in the same order, and
//!                                                           one more: the end of the entries
//! runs     { ledger:u64 | first:u64 | count:u64 | slots:u64 | bytes:u64 }*
//!                                                           consecutive entries of one ledger; `slots` is where the
//!                                                           run's first slot stands in the file, `bytes` the length
//!                                                           of its entry records. Version 1 has no `bytes`.
//! footer   magic[8] | version:u32 | instance[16] | log:u64 | runs_at:u64 | runs:u64 | entries:u64 | runs_crc32c:u32 |
//!          crc32c:u32                                                                                      (68 bytes)
//! ```
//!
//! Big-endian. An entry's checksum covers log id, offset, length and body, so an entry read from a wrong place, of a
//! wrong log or through a rotten slot is never mistaken for a good one. Runs are dense: that an entry is absent is
//! known from the checked runs alone, never from a slot.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use magnetar_proto::checksum::{crc32c, crc32c_parts};
use magnetar_proto::ids::{EntryId, LedgerId};

use crate::identity::InstanceId;

pub(crate) const HEADER_BYTES: usize = 40;
pub(crate) const ENTRY_HEADER_BYTES: usize = 8;
pub(crate) const SLOT_BYTES: usize = 8;
pub(crate) const RUN_BYTES: usize = 40;
/// A row of the runs section in version 1.
const RUN_BYTES_V1: usize = 32;
pub(crate) const FOOTER_BYTES: usize = 68;

/// Version this code writes; it reads 1..=VERSION.
pub(crate) const VERSION: u32 = 2;

/// First version whose runs carry their bytes.
const VERSION_WITH_BYTES: u32 = 2;

const HEADER_MAGIC: [u8; 8] = *b"MAGELOG\n";
const FOOTER_MAGIC: [u8; 8] = *b"MAGEEND\n";

/// Consecutive entries of one ledger in one log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    pub(crate) ledger: LedgerId,
    pub(crate) first: EntryId,
    /// At least 1, below 2^32.
    pub(crate) count: u64,
    /// Offset in the file of the first entry's slot.
    pub(crate) slots_at: u64,
    /// Length of the entries' records, headers included; below 2^32.
    pub(crate) bytes: u64,
}

impl Run {
    /// The last entry of the run.
    pub(crate) fn last(&self) -> EntryId {
        EntryId(self.first.0 + self.count - 1)
    }

    /// Offset in the file of the slot of `entry`, when the run holds it.
    pub(crate) fn slot_of(&self, entry: EntryId) -> Option<u64> {
        let index = entry.0.checked_sub(self.first.0).filter(|index| *index < self.count)?;
        Some(self.slots_at + index * SLOT_BYTES as u64)
    }
}

/// The end of a sealed log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Footer {
    /// Of the format: how the runs are laid out.
    pub(crate) version: u32,
    pub(crate) instance: InstanceId,
    pub(crate) log: u64,
    pub(crate) runs_at: u64,
    pub(crate) runs: u64,
    pub(crate) entries: u64,
    pub(crate) runs_crc: u32,
}

/// Why bytes of an entry log cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    #[error("it is damaged")]
    Damaged,
    #[error("it has format version {version}, newer than this program understands")]
    Newer { version: u32 },
}

/// The log's first bytes.
pub(crate) fn encode_header(instance: InstanceId, log: u64) -> Bytes {
    let mut out = BytesMut::with_capacity(HEADER_BYTES);
    out.put_slice(&HEADER_MAGIC);
    out.put_u32(VERSION);
    out.put_slice(instance.as_bytes());
    out.put_u64(log);
    out.put_u32(crc32c(&out));
    out.freeze()
}

/// The instance and log id in a log's first bytes.
pub(crate) fn decode_header(bytes: &[u8]) -> Result<(InstanceId, u64), FormatError> {
    let checked = HEADER_BYTES - 4;
    if bytes.len() != HEADER_BYTES
        || bytes[..8] != HEADER_MAGIC
        || crc32c(&bytes[..checked]) != (&bytes[checked..]).get_u32()
    {
        return Err(FormatError::Damaged);
    }
    let mut rest = &bytes[8..checked];
    let version = rest.get_u32();
    if version > VERSION {
        return Err(FormatError::Newer { version });
    }
    let mut instance = [0; 16];
    rest.copy_to_slice(&mut instance);
    Ok((InstanceId::from_bytes(instance), rest.get_u64()))
}

/// The bytes before an entry's body when its record stands at `offset` of `log`.
pub(crate) fn entry_header(log: u64, offset: u64, body: &[u8]) -> [u8; ENTRY_HEADER_BYTES] {
    let len = u32::try_from(body.len()).expect("bodies are bounded by the frame limit");
    let mut out = [0; ENTRY_HEADER_BYTES];
    out[..4].copy_from_slice(&entry_crc(log, offset, len, body).to_be_bytes());
    out[4..].copy_from_slice(&len.to_be_bytes());
    out
}

/// The body in a whole entry record read at `offset` of `log`.
pub(crate) fn decode_entry(log: u64, offset: u64, record: &Bytes) -> Result<Bytes, FormatError> {
    if record.len() < ENTRY_HEADER_BYTES {
        return Err(FormatError::Damaged);
    }
    let (crc, len) = ((&record[..4]).get_u32(), (&record[4..]).get_u32());
    let end = ENTRY_HEADER_BYTES.saturating_add(len as usize);
    if record.len() < end {
        return Err(FormatError::Damaged);
    }
    let body = record.slice(ENTRY_HEADER_BYTES..end);
    if entry_crc(log, offset, len, &body) != crc {
        return Err(FormatError::Damaged);
    }
    Ok(body)
}

fn entry_crc(log: u64, offset: u64, len: u32, body: &[u8]) -> u32 {
    crc32c_parts(&[&log.to_be_bytes(), &offset.to_be_bytes(), &len.to_be_bytes(), body])
}

/// The runs section.
pub(crate) fn encode_runs(runs: &[Run]) -> Bytes {
    let mut out = BytesMut::with_capacity(runs.len() * RUN_BYTES);
    for run in runs {
        out.put_u64(run.ledger.0);
        out.put_u64(run.first.0);
        out.put_u64(run.count);
        out.put_u64(run.slots_at);
        out.put_u64(run.bytes);
    }
    out.freeze()
}

/// Reads the runs section that `footer` describes. Runs of a log without bytes in its runs have 0 for them.
pub(crate) fn decode_runs(footer: &Footer, mut section: &[u8]) -> Result<Vec<Run>, FormatError> {
    let row = if footer.has_run_bytes() { RUN_BYTES } else { RUN_BYTES_V1 };
    if footer.runs.checked_mul(row as u64) != Some(section.len() as u64) || crc32c(section) != footer.runs_crc
    {
        return Err(FormatError::Damaged);
    }
    let mut runs = Vec::with_capacity(section.len() / row);
    while section.has_remaining() {
        runs.push(Run {
            ledger: LedgerId(section.get_u64()),
            first: EntryId(section.get_u64()),
            count: section.get_u64(),
            slots_at: section.get_u64(),
            bytes: if footer.has_run_bytes() { section.get_u64() } else { 0 },
        });
    }
    if are_sound(footer, &runs) { Ok(runs) } else { Err(FormatError::Damaged) }
}

/// Everything that the engine's index takes for granted: runs are sorted and disjoint, their slots and records follow
/// each other without a gap, and every number fits where the index keeps it.
fn are_sound(footer: &Footer, runs: &[Run]) -> bool {
    let Some(slots_at) = footer.slots_at() else { return false };
    let fits = |run: &Run| {
        (1..=u64::from(u32::MAX)).contains(&run.count)
            && run.bytes <= u64::from(u32::MAX)
            && run.first.0.checked_add(run.count).is_some()
    };
    if footer.entries > u64::from(u32::MAX) || !runs.iter().all(fits) {
        return false;
    }
    let sorted = runs.is_sorted_by(|a, b| (a.ledger, a.last()) < (b.ledger, b.first));
    let (mut entries, mut bytes) = (0u64, HEADER_BYTES as u64);
    for run in runs {
        if run.slots_at != slots_at + entries * SLOT_BYTES as u64 {
            return false;
        }
        entries = entries.saturating_add(run.count);
        bytes = bytes.saturating_add(run.bytes);
    }
    sorted && entries == footer.entries && (bytes == slots_at || !footer.has_run_bytes())
}

impl Footer {
    /// Where the first slot stands, which is where the entries end; `None` when the numbers contradict each other.
    pub(crate) fn slots_at(&self) -> Option<u64> {
        let slots = self.entries.checked_add(1)?.checked_mul(SLOT_BYTES as u64)?;
        self.runs_at.checked_sub(slots).filter(|at| *at >= HEADER_BYTES as u64)
    }

    /// Whether the runs carry their bytes.
    pub(crate) fn has_run_bytes(&self) -> bool {
        self.version >= VERSION_WITH_BYTES
    }

    pub(crate) fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(FOOTER_BYTES);
        out.put_slice(&FOOTER_MAGIC);
        out.put_u32(self.version);
        out.put_slice(self.instance.as_bytes());
        out.put_u64(self.log);
        out.put_u64(self.runs_at);
        out.put_u64(self.runs);
        out.put_u64(self.entries);
        out.put_u32(self.runs_crc);
        out.put_u32(crc32c(&out));
        out.freeze()
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Footer, FormatError> {
        let checked = FOOTER_BYTES - 4;
        if bytes.len() != FOOTER_BYTES || bytes[..8] != FOOTER_MAGIC {
            return Err(FormatError::Damaged);
        }
        if crc32c(&bytes[..checked]) != (&bytes[checked..]).get_u32() {
            return Err(FormatError::Damaged);
        }
        let mut rest = &bytes[8..checked];
        let version = rest.get_u32();
        if version > VERSION {
            return Err(FormatError::Newer { version });
        }
        let mut instance = [0; 16];
        rest.copy_to_slice(&mut instance);
        Ok(Footer {
            version,
            instance: InstanceId::from_bytes(instance),
            log: rest.get_u64(),
            runs_at: rest.get_u64(),
            runs: rest.get_u64(),
            entries: rest.get_u64(),
            runs_crc: rest.get_u32(),
        })
    }
}

/// Name of a sealed log's file.
pub(crate) fn file_name(log: u64) -> String {
    format!("{log:016x}.elog")
}

/// The log id in a file name made by [`file_name`].
pub(crate) fn parse_file_name(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".elog")?;
    (digits.len() == 16).then(|| u64::from_str_radix(digits, 16).ok()).flatten()
}

/// Name under which a log is written before it is sealed; left over only by a crash.
pub(crate) fn temporary_name(log: u64) -> String {
    format!("{log:016x}.elog.tmp")
}

/// Whether a file name was made by [`temporary_name`].
pub(crate) fn is_temporary_name(name: &str) -> bool {
    name.strip_suffix(".tmp").is_some_and(|rest| parse_file_name(rest).is_some())
}
