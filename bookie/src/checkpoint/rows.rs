//! The rows of a checkpoint: a live entry log, and what is known of a ledger besides its entries.
//!
//! ```text
//! log      log:u64 | dir:u32 | bytes:u64
//! ledger   ledger:u64 | flags:u8 | [key[20]] | [lac:u64] | [len:u32 | explicit_lac[len]] | [deleted_ms:u64]
//! ```
//!
//! Big-endian, in every version. Flags: 1 fenced, 2 key follows, 4 LAC follows, 8 explicit LAC follows, 16 deleted:
//! `deleted_ms:u64` follows.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use magnetar_proto::ids::{EntryId, LedgerId};

mod flag {
    pub(super) const FENCED: u8 = 1;
    pub(super) const KEY: u8 = 2;
    pub(super) const LAC: u8 = 4;
    pub(super) const EXPLICIT_LAC: u8 = 8;
    pub(super) const DELETED: u8 = 16;
    pub(super) const ALL: u8 = FENCED | KEY | LAC | EXPLICIT_LAC | DELETED;
}

/// A live entry log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
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

impl LogRow {
    pub(super) fn encode(&self, out: &mut BytesMut) {
        out.put_u64(self.log);
        out.put_u32(self.dir);
        out.put_u64(self.bytes);
    }

    pub(super) fn decode(rest: &mut Bytes) -> Option<LogRow> {
        let (log, dir) = (rest.try_get_u64().ok()?, rest.try_get_u32().ok()?);
        Some(LogRow { log, dir, bytes: rest.try_get_u64().ok()? })
    }
}

impl LedgerRow {
    pub(super) fn encode(&self, out: &mut BytesMut) {
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

    pub(super) fn decode(rest: &mut Bytes) -> Option<LedgerRow> {
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
