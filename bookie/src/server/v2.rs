//! Requests of protocol version 2.

use bytes::Bytes;
use magnetar_proto::bookkeeper::entry::BodyHeader;
use magnetar_proto::bookkeeper::v2::{MasterKey, PacketError, Request as Packet, Response, decode_request};
use magnetar_proto::bookkeeper::{Code, v3};
use magnetar_proto::ids::{EntryId, LedgerId};
use prost::Message;

use super::answer::{Answer, ReadOp};
use super::batch::{Fence, Request, Wire};
use crate::engine::Add;

/// Entries that one batch read may answer when the client sets no limit; its size limit is what counts then.
const BATCH_COUNT_MAX: usize = 1 << 16;

/// Reads one frame.
pub(super) fn parse(frame: Bytes) -> Result<Request, PacketError> {
    Ok(match decode_request(frame)? {
        Packet::Add { master_key, body, ledger_id, entry_id, flags } => {
            let last_add_confirmed =
                BodyHeader::decode(&body).map_or(None, |header| header.last_add_confirmed);
            let recovery = flags.recovery_add;
            let add =
                Add { ledger: ledger_id, entry: entry_id, last_add_confirmed, master_key, recovery, body };
            Request::Add { add, wire: Wire::V2 }
        }
        Packet::Read { ledger_id, entry_id, flags, master_key } => {
            let read = ReadOp::V2One { ledger: ledger_id, entry: entry_id };
            Request::Read { read, ledger: ledger_id, fence: fence(flags.fencing, master_key) }
        }
        Packet::BatchRead { ledger_id, first_entry, request_id, max_count, max_size, flags, master_key } => {
            let read = ReadOp::V2Batch {
                ledger: ledger_id,
                first: first_entry,
                request_id,
                count_max: usize::try_from(max_count).ok().filter(|max| *max > 0).unwrap_or(BATCH_COUNT_MAX),
                bytes_max: usize::try_from(max_size).unwrap_or(0),
            };
            Request::Read { read, ledger: ledger_id, fence: fence(flags.fencing, master_key) }
        }
        Packet::Auth(_) => {
            Request::Ready(Answer::V2(Response::Auth(no_authentication().encode_to_vec().into())))
        }
    })
}

fn fence(fencing: bool, master_key: Option<MasterKey>) -> Fence {
    match (fencing, master_key) {
        (false, _) => Fence::No,
        (true, Some(key)) => Fence::With(key),
        (true, None) => Fence::WithoutKey,
    }
}

/// What a server without an authentication plugin answers; clients take it as success.
pub(super) fn no_authentication() -> v3::AuthMessage {
    v3::AuthMessage { auth_plugin_name: "AuthDisabledPlugin".into(), payload: Bytes::new() }
}

/// The answer to an add.
pub(super) fn added(ledger_id: LedgerId, entry_id: EntryId, code: Code) -> Response {
    Response::Add { code, ledger_id, entry_id }
}
