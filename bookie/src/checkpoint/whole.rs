//! Versions 1 and 2 of the checkpoint's file, one checksum over all of it. They are read, and replaced at the first
//! flush.
//!
//! ```text
//! magic[8] | version:u32 | instance[16] | sequence:u64 | floor:u64 | next_log:u64 | logs:u64 | ledgers:u64 |
//!          number:u64 | state:u32                                                          (from version 2 on)
//! log*     | ledger*                                                                       (see `rows`)
//! crc32c:u32 over everything before it                                                     (big-endian)
//! ```
//!
//! State: 1 incomplete.

use bytes::{Buf, Bytes};
use magnetar_proto::checksum::crc32c;

use super::format::{Checkpoint, FormatError, INCOMPLETE, MAGIC, VERSION};
use super::rows::{LedgerRow, LogRow};
use crate::identity::InstanceId;

/// The last version of this kind.
const VERSION_MAX: u32 = 2;

const FIXED_BYTES: usize = 8 + 4 + 16 + 5 * 8;

/// Reads a whole file.
pub(super) fn decode(bytes: &Bytes) -> Result<Checkpoint, FormatError> {
    let Some(checked) = bytes.len().checked_sub(4).filter(|checked| *checked >= FIXED_BYTES) else {
        return Err(FormatError::Damaged);
    };
    if bytes[..8] != MAGIC || crc32c(&bytes[..checked]) != (&bytes[checked..]).get_u32() {
        return Err(FormatError::Damaged);
    }
    let mut rest = bytes.slice(8..checked);
    match rest.get_u32() {
        version if version > VERSION => Err(FormatError::Newer { version }),
        version if version > VERSION_MAX => Err(FormatError::Damaged),
        version => decode_body(version, &mut rest).ok_or(FormatError::Damaged),
    }
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
    let logs = (0..logs).map(|_| LogRow::decode(rest)).collect::<Option<_>>()?;
    let ledgers = (0..ledgers).map(|_| LedgerRow::decode(rest)).collect::<Option<_>>()?;
    let instance = InstanceId::from_bytes(instance);
    let incomplete = state & INCOMPLETE != 0;
    let checkpoint = Checkpoint { instance, sequence, floor, next_log, number, incomplete, logs, ledgers };
    (!rest.has_remaining() && state & !INCOMPLETE == 0).then_some(checkpoint)
}
