//! Responses: what a bookie answers.
//!
//! ```text
//! ADD         header | code i32 | ledgerId i64 | entryId i64
//! READ        header | code i32 | ledgerId i64 | entryId i64 | entry body, if the code is 0
//! BATCH_READ  header | code i32 | ledgerId i64 | firstEntryId i64 | requestId i64 | ( size u32 | entry body )*
//! AUTH        header | AuthMessage
//! ```
//! The ids are those of the request: a read of the newest entry is answered with entry id -1, and the body tells which.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::{
    ADD, AUTH, BATCH_READ, CODE_BYTES, Flags, HEADER_BYTES, IDS_BYTES, PacketError, READ, REQUEST_ID_BYTES,
    header, prefix, take_entry, take_entry_or_newest, take_header, take_i32, take_i64, take_ledger,
};
use crate::bookkeeper::Code;
use crate::ids::{EntryId, LedgerId};

/// In front of each entry of a batch.
const SIZE_BYTES: usize = 4;

/// A response of version 2.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Response {
    /// To an add.
    Add {
        /// Durably stored, or why not.
        code: Code,
        /// As asked.
        ledger_id: LedgerId,
        /// As asked.
        entry_id: EntryId,
    },
    /// To a read.
    Read {
        /// Found, or why not.
        code: Code,
        /// As asked.
        ledger_id: LedgerId,
        /// As asked: `None` if the newest was.
        entry_id: Option<EntryId>,
        /// The entry's body. Present exactly when the code is [`Code::Ok`].
        body: Option<Bytes>,
    },
    /// To a batch read.
    BatchRead {
        /// That of a single read of the first entry.
        code: Code,
        /// As asked.
        ledger_id: LedgerId,
        /// As asked.
        first_entry: EntryId,
        /// As asked.
        request_id: i64,
        /// Consecutive entry bodies from the first on.
        bodies: Vec<Bytes>,
    },
    /// A step of authentication: an encoded `AuthMessage` of version 3.
    Auth(Bytes),
}

/// Reads the body of a frame. Entry bodies are slices of it.
pub fn decode_response(mut packet: Bytes) -> Result<Response, PacketError> {
    let (opcode, _) = take_header(&mut packet)?;
    match opcode {
        ADD => Ok(Response::Add {
            code: take_code(&mut packet)?,
            ledger_id: take_ledger(&mut packet)?,
            entry_id: take_entry(&mut packet)?,
        }),
        READ => {
            let code = take_code(&mut packet)?;
            let ledger_id = take_ledger(&mut packet)?;
            let entry_id = take_entry_or_newest(&mut packet)?;
            let body = (code == Code::Ok).then_some(packet);
            Ok(Response::Read { code, ledger_id, entry_id, body })
        }
        BATCH_READ => Ok(Response::BatchRead {
            code: take_code(&mut packet)?,
            ledger_id: take_ledger(&mut packet)?,
            first_entry: take_entry(&mut packet)?,
            request_id: take_i64(&mut packet, "request id missing")?,
            bodies: take_bodies(packet)?,
        }),
        AUTH => Ok(Response::Auth(packet)),
        other => Err(PacketError::UnknownOpcode(other)),
    }
}

/// Appends a whole frame, with its length, copying the bodies. A bookie on its hot path uses the header functions below
/// and sends the bodies after them as they are.
pub fn encode_response(response: &Response, out: &mut BytesMut) {
    match response {
        Response::Add { code, ledger_id, entry_id } => {
            encode_ids(ADD, *code, *ledger_id, Some(*entry_id), 0, out);
        }
        Response::Read { code, ledger_id, entry_id, body } => {
            let body = body.as_deref().unwrap_or_default();
            encode_read_header(*code, *ledger_id, *entry_id, body.len(), out);
            out.put_slice(body);
        }
        Response::BatchRead { code, ledger_id, first_entry, request_id, bodies } => {
            let bodies_len = bodies.iter().map(|body| SIZE_BYTES + body.len()).sum();
            encode_batch_read_header(*code, *ledger_id, *first_entry, *request_id, bodies_len, out);
            for body in bodies {
                out.put_u32(prefix(body.len()));
                out.put_slice(body);
            }
        }
        Response::Auth(message) => {
            out.put_u32(prefix(HEADER_BYTES + message.len()));
            out.put_u32(header(AUTH, Flags::NONE));
            out.put_slice(message);
        }
    }
}

/// Appends a read response up to the body, of which the caller sends `body_len` bytes after it.
pub fn encode_read_header(
    code: Code,
    ledger_id: LedgerId,
    entry_id: Option<EntryId>,
    body_len: usize,
    out: &mut BytesMut,
) {
    encode_ids(READ, code, ledger_id, entry_id, body_len, out);
}

/// Appends a batch read response up to the bodies. The caller sends `bodies_len` bytes after it: each body behind its size
/// as a big-endian u32.
pub fn encode_batch_read_header(
    code: Code,
    ledger_id: LedgerId,
    first_entry: EntryId,
    request_id: i64,
    bodies_len: usize,
    out: &mut BytesMut,
) {
    encode_ids(BATCH_READ, code, ledger_id, Some(first_entry), REQUEST_ID_BYTES + bodies_len, out);
    out.put_i64(request_id);
}

fn encode_ids(
    opcode: u8,
    code: Code,
    ledger_id: LedgerId,
    entry_id: Option<EntryId>,
    rest_len: usize,
    out: &mut BytesMut,
) {
    out.put_u32(prefix(HEADER_BYTES + CODE_BYTES + IDS_BYTES + rest_len));
    out.put_u32(header(opcode, Flags::NONE));
    out.put_i32(code.to_v2());
    out.put_i64(ledger_id.to_wire());
    out.put_i64(EntryId::option_to_wire(entry_id));
}

fn take_code(packet: &mut Bytes) -> Result<Code, PacketError> {
    take_i32(packet, "code missing").map(Code::from_v2)
}

fn take_bodies(mut packet: Bytes) -> Result<Vec<Bytes>, PacketError> {
    let mut bodies = Vec::new();
    while packet.has_remaining() {
        let size =
            packet.try_get_u32().map_err(|_| PacketError::Malformed("size of a body missing"))? as usize;
        if size > packet.len() {
            return Err(PacketError::Malformed("body truncated"));
        }
        bodies.push(packet.split_to(size));
    }
    Ok(bodies)
}
