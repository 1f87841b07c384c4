//! Requests: what a client sends.
//!
//! ```text
//! ADD         header | masterKey[20] | entry body (begins with ledgerId i64, entryId i64)
//! READ        header | ledgerId i64 | entryId i64 [| masterKey[20] when fencing]
//! BATCH_READ  header | ledgerId i64 | firstEntryId i64 | requestId i64 | maxCount i32 | maxSize i64 [| masterKey[20]]
//! AUTH        header | AuthMessage
//! ```

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::{
    ADD, AUTH, BATCH_READ, Flags, HEADER_BYTES, IDS_BYTES, MasterKey, PacketError, READ, header, prefix,
    take_entry, take_entry_or_newest, take_header, take_i32, take_i64, take_ledger,
};
use crate::bookkeeper::entry::{BodyHeader, MASTER_KEY_BYTES};
use crate::ids::{EntryId, LedgerId};

const BATCH_LIMITS_BYTES: usize = 8 + 4 + 8;

/// A request of version 2.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// Store an entry.
    Add {
        /// Proof of being the ledger's writer.
        master_key: MasterKey,
        /// The entry's body, to be stored as it is; see [`crate::bookkeeper::entry`]. At least as long as its header.
        body: Bytes,
        /// From the body.
        ledger_id: LedgerId,
        /// From the body.
        entry_id: EntryId,
        /// Recovery and priority.
        flags: Flags,
    },
    /// Send an entry.
    Read {
        /// The ledger.
        ledger_id: LedgerId,
        /// `None`: the newest that this bookie has.
        entry_id: Option<EntryId>,
        /// Fencing and priority.
        flags: Flags,
        /// Sent when fencing. A fencing request without one is for the bookie to refuse.
        master_key: Option<MasterKey>,
    },
    /// Send consecutive entries.
    BatchRead {
        /// The ledger.
        ledger_id: LedgerId,
        /// The first entry.
        first_entry: EntryId,
        /// Repeated in the answer.
        request_id: i64,
        /// Entries at most; no limit if not positive.
        max_count: i32,
        /// Bytes at most, of the whole answer.
        max_size: i64,
        /// Fencing and priority.
        flags: Flags,
        /// As in a single read.
        master_key: Option<MasterKey>,
    },
    /// A step of authentication: an encoded `AuthMessage` of version 3.
    Auth(Bytes),
}

/// Reads the body of a frame. An add's entry body is a slice of it.
pub fn decode_request(mut packet: Bytes) -> Result<Request, PacketError> {
    let (opcode, flags) = take_header(&mut packet)?;
    match opcode {
        ADD => decode_add(packet, flags),
        READ => Ok(Request::Read {
            ledger_id: take_ledger(&mut packet)?,
            entry_id: take_entry_or_newest(&mut packet)?,
            flags,
            master_key: take_fencing_key(&mut packet, flags)?,
        }),
        BATCH_READ => Ok(Request::BatchRead {
            ledger_id: take_ledger(&mut packet)?,
            first_entry: take_entry(&mut packet)?,
            request_id: take_i64(&mut packet, "request id missing")?,
            max_count: take_i32(&mut packet, "limits missing")?,
            max_size: take_i64(&mut packet, "limits missing")?,
            flags,
            master_key: take_fencing_key(&mut packet, flags)?,
        }),
        AUTH => Ok(Request::Auth(packet)),
        other => Err(PacketError::UnknownOpcode(other)),
    }
}

/// Appends a whole frame, with its length.
pub fn encode_request(request: &Request, out: &mut BytesMut) {
    match request {
        Request::Add { master_key, body, flags, .. } => {
            encode_add_header(master_key, *flags, body, 0, out);
        }
        Request::Read { ledger_id, entry_id, flags, master_key } => {
            let key = fencing_key(master_key, *flags);
            out.put_u32(prefix(HEADER_BYTES + IDS_BYTES + key.len()));
            out.put_u32(header(READ, *flags));
            out.put_i64(ledger_id.to_wire());
            out.put_i64(EntryId::option_to_wire(*entry_id));
            out.put_slice(key);
        }
        Request::BatchRead { ledger_id, first_entry, request_id, max_count, max_size, flags, master_key } => {
            let key = fencing_key(master_key, *flags);
            out.put_u32(prefix(HEADER_BYTES + IDS_BYTES + BATCH_LIMITS_BYTES + key.len()));
            out.put_u32(header(BATCH_READ, *flags));
            out.put_i64(ledger_id.to_wire());
            out.put_i64(first_entry.to_wire());
            out.put_i64(*request_id);
            out.put_i32(*max_count);
            out.put_i64(*max_size);
            out.put_slice(key);
        }
        Request::Auth(message) => {
            out.put_u32(prefix(HEADER_BYTES + message.len()));
            out.put_u32(header(AUTH, Flags::NONE));
            out.put_slice(message);
        }
    }
}

/// Appends everything of an add that comes before the payload; the caller sends `payload_len` bytes of payload after it,
/// unchanged. `body_head` is the entry's header and digest (see `Digest::seal`), which name ledger and entry.
pub fn encode_add_header(
    master_key: &MasterKey,
    flags: Flags,
    body_head: &[u8],
    payload_len: usize,
    out: &mut BytesMut,
) {
    let len = HEADER_BYTES + MASTER_KEY_BYTES + body_head.len();
    out.reserve(size_of::<u32>() + len);
    out.put_u32(prefix(len + payload_len));
    out.put_u32(header(ADD, flags));
    out.put_slice(master_key);
    out.put_slice(body_head);
}

fn decode_add(mut packet: Bytes, flags: Flags) -> Result<Request, PacketError> {
    let master_key = take_key(&mut packet)?;
    let BodyHeader { ledger_id, entry_id, .. } =
        BodyHeader::decode(&packet).map_err(|_| PacketError::Malformed("no entry body"))?;
    Ok(Request::Add { master_key, body: packet, ledger_id, entry_id, flags })
}

/// The key goes with the fencing flag and only with it.
fn fencing_key(key: &Option<MasterKey>, flags: Flags) -> &[u8] {
    match key {
        Some(key) if flags.fencing => key,
        _ => &[],
    }
}

fn take_fencing_key(packet: &mut Bytes, flags: Flags) -> Result<Option<MasterKey>, PacketError> {
    if flags.fencing && packet.has_remaining() { take_key(packet).map(Some) } else { Ok(None) }
}

fn take_key(packet: &mut Bytes) -> Result<MasterKey, PacketError> {
    let mut key = [0; MASTER_KEY_BYTES];
    packet.try_copy_to_slice(&mut key).map_err(|_| PacketError::Malformed("master key truncated"))?;
    Ok(key)
}
