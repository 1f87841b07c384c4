//! The bytes of a checkpoint.
//!
//! ```text
//! magic[8] | version:u32 | instance[16] | sequence:u64 | floor:u64 | next_log:u64 | logs:u64 | ledgers:u64 |
//!          number:u64 | state:u32                                                          (from version 2 on)
//! logs     { log:u64 | dir:u32 | bytes:u64 }*
//! ledgers  { ledger:u64 | flags:u8 | [key[20]] | [lac:u64] | [len:u32 | explicit_lac[len]] | [deleted_ms:u64] }*
//! crc32c:u32 over everything before it                                                                (big-endian)
//! ```
//!
//! State: 1 incomplete. Flags: 1 fenced, 2 key follows, 4 LAC follows, 8 explicit LAC follows, 16 deleted: `deleted_ms:u64` follows.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use magnetar_proto::checksum::crc32c;
use magnetar_proto::ids::{EntryId, LedgerId};

use crate::identity::InstanceId;

/// Version this code writes; it reads 1..=VERSION.
pub(crate) const VERSION: u32 = 2;

const MAGIC: [u8; 8] = *b"MAGCKPT\n";
const FIXED_BYTES: usize = 8 + 4 + 16 + 5 * 8;
const FIXED_BYTES_V2: usize = 8 + 4;

/// Bit of the state: acknowledged records are missing.
const INCOMPLETE: u32 = 1;

mod flag {
    pub(super) const FENCED: u8 = 1;
    pub(super) const KEY: u8 = 2;
    pub(super) const LAC: u8 = 4;
    pub(super) const EXPLICIT_LAC: u8 = 8;
    pub(super) const DELETED: u8 = 16;
    pub(super) const ALL: u8 = FENCED | KEY | LAC | EXPLICIT_LAC | DELETED;
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

/// A live entry log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LogRow {
    pub(crate) log: u64,
    /// Which of the configured ledger directories.
    pub(crate) dir: u32,
    pub(crate) bytes: u64,
}

/// What is known of a ledger besides its entries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LedgerRow {
    pub(crate) ledger: LedgerId,
    pub(crate) fenced: bool,
    pub(crate) master_key: Option<[u8; 20]>,
    pub(crate) last_add_confirmed: Option<EntryId>,
    pub(crate) explicit_lac: Option<Bytes>,
    /// When a fenced ledger was deleted (Unix time, ms).
    pub(crate) deleted_ms: Option<u64>,
}

/// Why bytes are not a checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    #[error("the checkpoint file is damaged")]
    Damaged,
    #[error("the checkpoint file has format version {version}, newer than this program understands")]
    Newer { version: u32 },
}

impl Checkpoint {
    pub(crate) fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(
            FIXED_BYTES + FIXED_BYTES_V2 + self.logs.len() * 20 + self.ledgers.len() * 40,
        );
        out.put_slice(&MAGIC);
        out.put_u32(VERSION);
        out.put_slice(self.instance.as_bytes());
        out.put_u64(self.sequence);
        out.put_u64(self.floor);
        out.put_u64(self.next_log);
        out.put_u64(self.logs.len() as u64);
        out.put_u64(self.ledgers.len() as u64);
        out.put_u64(self.number);
        out.put_u32(if self.incomplete { INCOMPLETE } else { 0 });
        for row in &self.logs {
            out.put_u64(row.log);
            out.put_u32(row.dir);
            out.put_u64(row.bytes);
        }
        for row in &self.ledgers {
            row.encode(&mut out);
        }
        out.put_u32(crc32c(&out));
        out.freeze()
    }

    pub(crate) fn decode(bytes: &Bytes) -> Result<Checkpoint, FormatError> {
        let Some(checked) = bytes.len().checked_sub(4).filter(|checked| *checked >= FIXED_BYTES) else {
            return Err(FormatError::Damaged);
        };
        if bytes[..8] != MAGIC || crc32c(&bytes[..checked]) != (&bytes[checked..]).get_u32() {
            return Err(FormatError::Damaged);
        }
        let mut rest = bytes.slice(8..checked);
        let version = rest.get_u32();
        if version > VERSION {
            return Err(FormatError::Newer { version });
        }
        Self::decode_body(version, &mut rest).ok_or(FormatError::Damaged)
    }

    fn decode_body(version: u32, rest: &mut Bytes) -> Option<Checkpoint> {
        let mut instance = [0; 16];
        rest.try_copy_to_slice(&mut instance).ok()?;
        let (sequence, floor, next_log) = (rest.get_u64(), rest.get_u64(), rest.get_u64());
        let (logs, ledgers) = (rest.get_u64(), rest.get_u64());
        let (number, state) = match version {
            1 => (0, 0),
            _ => (rest.try_get_u64().ok()?, rest.try_get_u32().ok()?),
        };
        let logs = (0..logs)
            .map(|_| {
                let (log, dir) = (rest.try_get_u64().ok()?, rest.try_get_u32().ok()?);
                Some(LogRow { log, dir, bytes: rest.try_get_u64().ok()? })
            })
            .collect::<Option<_>>()?;
        let ledgers = (0..ledgers).map(|_| LedgerRow::decode(rest)).collect::<Option<_>>()?;
        let instance = InstanceId::from_bytes(instance);
        let incomplete = state & INCOMPLETE != 0;
        let checkpoint =
            Checkpoint { instance, sequence, floor, next_log, number, incomplete, logs, ledgers };
        (!rest.has_remaining() && state & !INCOMPLETE == 0).then_some(checkpoint)
    }
}

impl LedgerRow {
    fn encode(&self, out: &mut BytesMut) {
        let mut flags = 0;
        flags |= if self.fenced { flag::FENCED } else { 0 };
        flags |= self.master_key.map_or(0, |_| flag::KEY);
        flags |= self.last_add_confirmed.map_or(0, |_| flag::LAC);
        flags |= self.explicit_lac.as_ref().map_or(0, |_| flag::EXPLICIT_LAC);
        flags |= self.deleted_ms.map_or(0, |_| flag::DELETED);
        out.put_u64(self.ledger.0);
        out.put_u8(flags);
        if let Some(key) = &self.master_key {
            out.put_slice(key);
        }
        if let Some(lac) = self.last_add_confirmed {
            out.put_u64(lac.0);
        }
        if let Some(body) = &self.explicit_lac {
            out.put_u32(u32::try_from(body.len()).expect("an explicit LAC is bounded by the frame limit"));
            out.put_slice(body);
        }
        if let Some(ms) = self.deleted_ms {
            out.put_u64(ms);
        }
    }

    fn decode(rest: &mut Bytes) -> Option<LedgerRow> {
        let ledger = LedgerId(rest.try_get_u64().ok()?);
        let flags = rest.try_get_u8().ok()?;
        if flags & !flag::ALL != 0 {
            return None;
        }
        let mut master_key = None;
        if flags & flag::KEY != 0 {
            let mut key = [0; 20];
            rest.try_copy_to_slice(&mut key).ok()?;
            master_key = Some(key);
        }
        let mut last_add_confirmed = None;
        if flags & flag::LAC != 0 {
            last_add_confirmed = Some(EntryId(rest.try_get_u64().ok()?));
        }
        let mut explicit_lac = None;
        if flags & flag::EXPLICIT_LAC != 0 {
            let len = rest.try_get_u32().ok()? as usize;
            explicit_lac = Some((rest.remaining() >= len).then(|| rest.split_to(len))?);
        }
        let mut deleted_ms = None;
        if flags & flag::DELETED != 0 {
            deleted_ms = Some(rest.try_get_u64().ok()?);
        }
        let fenced = flags & flag::FENCED != 0;
        Some(LedgerRow { ledger, fenced, master_key, last_add_confirmed, explicit_lac, deleted_ms })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checkpoint() -> Checkpoint {
        let plain = LedgerRow {
            ledger: LedgerId(1),
            fenced: false,
            master_key: None,
            last_add_confirmed: None,
            explicit_lac: None,
            deleted_ms: None,
        };
        let full = LedgerRow {
            ledger: LedgerId(2),
            fenced: true,
            master_key: Some([6; 20]),
            last_add_confirmed: Some(EntryId(5)),
            explicit_lac: Some(Bytes::from_static(b"lac")),
            deleted_ms: Some(12),
        };
        Checkpoint {
            instance: InstanceId::from_bytes([7; 16]),
            sequence: 11,
            floor: 3,
            next_log: 9,
            number: 4,
            incomplete: true,
            logs: vec![LogRow { log: 8, dir: 1, bytes: 4096 }],
            ledgers: vec![plain, full],
        }
    }

    #[test]
    fn decode_gives_back_what_was_encoded() {
        assert_eq!(Checkpoint::decode(&checkpoint().encode()), Ok(checkpoint()));
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_noticed() {
        let bytes = checkpoint().encode();
        for cut in 0..bytes.len() {
            assert!(Checkpoint::decode(&bytes.slice(..cut)).is_err(), "cut at {cut}");
        }
        for bit in 0..bytes.len() * 8 {
            let mut bad = BytesMut::from(&bytes[..]);
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(Checkpoint::decode(&bad.freeze()).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn newer_version_is_told_apart_from_damage() {
        let mut bytes = BytesMut::from(&checkpoint().encode()[..]);
        let checked = bytes.len() - 4;
        bytes[11] = 9;
        let crc = crc32c(&bytes[..checked]).to_be_bytes();
        bytes[checked..].copy_from_slice(&crc);
        assert_eq!(Checkpoint::decode(&bytes.freeze()), Err(FormatError::Newer { version: 9 }));
    }
}
