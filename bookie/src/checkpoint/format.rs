//! The bytes of a checkpoint's file: a base that says everything, and behind it the changes since, each as large as what
//! it changes. A file is written once with its base and then only grows; no durable block of it is written again.
//!
//! ```text
//! file     magic[8] | version:u32 | instance[16] | crc32c:u32 over the 28 bytes before | base | change*
//! base, change
//!          chunk+ | zeros up to the next multiple of 4096 bytes of the file
//! chunk    marker:u32 | len:u32 | number:u64 | index:u32 | flags:u8 | body[len] | crc32c:u32 over all of it before
//! body     in chunk 0 first: sequence:u64 | floor:u64 | next_log:u64 | state:u32;    then: item*
//! item     1:u8 | log row          2:u8 | log:u64 | dir:u32        (a log that is gone)
//!          3:u8 | ledger row       4:u8 | ledger:u64               (a ledger that is gone)
//! ```
//!
//! Big-endian; rows as in `rows`. A base counts up from the number in its chunks, every change has the next one. Flags:
//! 1 of a base, 2 the last chunk. State: 1 incomplete. Items apply in order; a row replaces the one before.
//!
//! What is behind the last whole change is a change that was being written when the power went, or one that has rotted:
//! the bytes cannot tell. See the module above for why that need not be known.

use bytes::Bytes;

#[cfg(test)]
use super::decode::decode;
use super::encode::Encoder;
use super::rows::{LedgerRow, LogRow};
use crate::identity::InstanceId;

/// Version this code writes; it reads 1..=VERSION.
pub(crate) const VERSION: u32 = 3;

pub(super) const MAGIC: [u8; 8] = *b"MAGCKPT\n";

/// Bit of the state: acknowledged records are missing.
pub(super) const INCOMPLETE: u32 = 1;

pub(super) const HEADER_BYTES: usize = 8 + 4 + 16 + 4;
pub(super) const CHUNK_MARKER: u32 = u32::from_be_bytes(*b"MCKC");
pub(super) const CHUNK_HEADER_BYTES: usize = 4 + 4 + 8 + 4 + 1;

/// Changes begin at multiples of this: the largest block that a disk replaces as a whole.
pub(super) const BLOCK_BYTES: usize = 4096;

pub(super) const BASE: u8 = 1;
pub(super) const LAST: u8 = 2;

pub(super) mod item {
    pub(in super::super) const LOG: u8 = 1;
    pub(in super::super) const LOG_GONE: u8 = 2;
    pub(in super::super) const LEDGER: u8 = 3;
    pub(in super::super) const LEDGER_GONE: u8 = 4;
}

/// Everything that replay of the journal after `sequence` starts from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Checkpoint {
    pub(crate) instance: InstanceId,
    /// Every journal record up to this one is contained in the logs and ledgers below.
    pub(crate) sequence: u64,
    /// The lowest journal segment that may hold later records.
    pub(crate) floor: u64,
    /// Log ids from here on have not been used by a durable checkpoint.
    pub(crate) next_log: u64,
    /// Grows by one from checkpoint to checkpoint; 0 in version 1. Of two copies the one with the higher number counts.
    pub(crate) number: u64,
    /// Journal records that may have been acknowledged were found missing at some start: nothing may be called absent
    /// and no ordinary add taken until an operator accepts the loss.
    pub(crate) incomplete: bool,
    pub(crate) logs: Vec<LogRow>,
    pub(crate) ledgers: Vec<LedgerRow>,
}

/// Why bytes are not a checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    #[error("the checkpoint file is damaged")]
    Damaged,
    #[error("the checkpoint file has format version {version}, newer than this program understands")]
    Newer { version: u32 },
}

/// A file, as far as it can be read.
#[derive(Debug)]
pub(crate) struct Decoded {
    pub(crate) checkpoint: Checkpoint,
    /// Where the base ends, and where the next change would begin; `None` when no change can follow because the file is of
    /// an older version, or not whole.
    pub(crate) ends: Option<(u64, u64)>,
    /// Bytes behind the last whole change begin here. They may never have become durable.
    pub(crate) unread: Option<u64>,
    /// The file ends within what begins there, as it does when its writing was cut short.
    pub(crate) is_cut: bool,
}

/// What every base and change begins with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Head {
    pub(crate) number: u64,
    pub(crate) sequence: u64,
    pub(crate) floor: u64,
    pub(crate) next_log: u64,
    pub(crate) incomplete: bool,
}

impl Checkpoint {
    /// A file with nothing but a base.
    pub(crate) fn encode(&self) -> Bytes {
        let Checkpoint { number, sequence, floor, next_log, incomplete, .. } = *self;
        let mut base = Encoder::base(self.instance, Head { number, sequence, floor, next_log, incomplete });
        self.logs.iter().for_each(|row| base.log(row));
        self.ledgers.iter().for_each(|row| base.ledger(row));
        base.finish()
    }

    /// What the whole part of a file says.
    #[cfg(test)]
    pub(crate) fn decode(bytes: &Bytes) -> Result<Checkpoint, FormatError> {
        decode(bytes).map(|decoded| decoded.checkpoint)
    }
}
