//! Requests of protocol version 3.

pub(super) mod availability;
pub(super) mod response;

use std::time::Duration;

use bytes::Bytes;
use magnetar_proto::bookkeeper::Code;
use magnetar_proto::bookkeeper::entry::BodyHeader;
use magnetar_proto::bookkeeper::v3::{
    AddRequest, BkPacketHeader, OperationType, ProtocolVersion, ReadRequest, Request as Packet,
    WriteLacRequest, add_request, decode_request, read_request, response_header,
};
use magnetar_proto::ids::{EntryId, LedgerId};

use super::Shared;
use super::answer::{Answer, ReadOp};
use super::batch::{Fence, Request, Wire};
use super::parking::LongPoll;
use crate::engine::Add;
use crate::metrics::Asked;

/// Explicit LACs are two numbers and a digest.
const LAC_BODY_BYTES_MAX: usize = 256;

/// Reads one frame. What is well-formed but makes no sense becomes a request whose answer is ready.
pub(super) fn parse(frame: Bytes) -> Result<Request, prost::DecodeError> {
    let packet = decode_request(frame)?;
    let header = response_header(&packet.header);
    if packet.header.version != ProtocolVersion::VersionThree as i32 {
        return Ok(Request::Ready(response::failed(&header, &packet, Code::BadVersion)));
    }
    let request = operation(&header, &packet);
    Ok(request.unwrap_or_else(|code| Request::Ready(response::failed(&header, &packet, code))))
}

fn operation(header: &BkPacketHeader, packet: &Packet) -> Result<Request, Code> {
    let operation = OperationType::try_from(packet.header.operation).map_err(|_| Code::BadRequest)?;
    match operation {
        OperationType::AddEntry => add(header, packet.add_request.as_ref().ok_or(Code::BadRequest)?),
        OperationType::ReadEntry => read(header, packet.read_request.as_ref().ok_or(Code::BadRequest)?),
        OperationType::WriteLac => {
            write_lac(header, packet.write_lac_request.as_ref().ok_or(Code::BadRequest)?)
        }
        OperationType::ReadLac => {
            let ledger = ledger(packet.read_lac_request.as_ref().ok_or(Code::BadRequest)?.ledger_id)?;
            let read = ReadOp::V3ReadLac { header: *header, ledger };
            Ok(Request::Read { read, ledger, fence: Fence::No })
        }
        OperationType::ForceLedger => {
            let ledger = ledger(packet.force_ledger_request.as_ref().ok_or(Code::BadRequest)?.ledger_id)?;
            Ok(Request::Force { answer: response::forced(header, ledger) })
        }
        OperationType::GetListOfEntriesOfLedger => {
            let request = packet.get_list_of_entries_of_ledger_request.as_ref().ok_or(Code::BadRequest)?;
            Ok(Request::Entries { header: *header, ledger: ledger(request.ledger_id)? })
        }
        OperationType::GetBookieInfo => {
            let request = packet.get_bookie_info_request.as_ref().ok_or(Code::BadRequest)?;
            Ok(Request::Info { header: *header, requested: request.requested.unwrap_or(0) })
        }
        OperationType::Auth => Ok(Request::Ready(response::authenticated(header))),
        OperationType::StartTls => Ok(Request::StartTls { header: *header }),
        // What upstream never implemented either.
        OperationType::RangeReadEntry | OperationType::RangeAddEntry | OperationType::BatchReadEntry => {
            Err(Code::BadRequest)
        }
    }
}

fn ledger(id: i64) -> Result<LedgerId, Code> {
    LedgerId::from_wire(id).ok_or(Code::BadRequest)
}

/// -1 is the last entry; other negative ids make no sense.
fn entry_or_last(id: i64) -> Result<Option<EntryId>, Code> {
    match id {
        EntryId::NONE_ON_WIRE => Ok(None),
        id => EntryId::from_wire(id).map(Some).ok_or(Code::BadRequest),
    }
}

fn master_key(key: &[u8]) -> Result<[u8; 20], Code> {
    key.try_into().map_err(|_| Code::Unauthorized)
}

/// Deferred sync is not made use of: every add is durable when it is answered.
fn add(header: &BkPacketHeader, request: &AddRequest) -> Result<Request, Code> {
    let body = BodyHeader::decode(&request.body).map_err(|_| Code::BadRequest)?;
    if body.ledger_id.to_wire() != request.ledger_id || body.entry_id.to_wire() != request.entry_id {
        return Err(Code::BadRequest);
    }
    let add = Add {
        ledger: body.ledger_id,
        entry: body.entry_id,
        last_add_confirmed: body.last_add_confirmed,
        master_key: master_key(&request.master_key)?,
        recovery: request.flag == Some(add_request::Flag::RecoveryAdd as i32),
        body: request.body.clone(),
    };
    Ok(Request::Add { add, wire: Wire::V3(*header) })
}

fn read(header: &BkPacketHeader, request: &ReadRequest) -> Result<Request, Code> {
    let (ledger, entry) = (ledger(request.ledger_id)?, entry_or_last(request.entry_id)?);
    let header = *header;
    if request.flag == Some(read_request::Flag::FenceLedger as i32) {
        let key = request.master_key.as_deref().ok_or(Code::Unauthorized)?;
        let read = ReadOp::V3One { header, ledger, entry, with_lac: false };
        return Ok(Request::Read { read, ledger, fence: Fence::With(master_key(key)?) });
    }
    let after = request.previous_lac.and_then(EntryId::from_wire);
    let read = if request.flag == Some(read_request::Flag::EntryPiggyback as i32) {
        if entry.is_some() {
            return Err(Code::BadRequest);
        }
        ReadOp::V3Next { header, ledger, after, lac_moved_ms: None }
    } else {
        ReadOp::V3One { header, ledger, entry, with_lac: true }
    };
    let timeout_ms = request.time_out.and_then(|ms| u64::try_from(ms).ok()).unwrap_or(0);
    if request.previous_lac.is_some() && timeout_ms > 0 {
        let timeout = Duration::from_millis(timeout_ms);
        return Ok(Request::LongPoll(LongPoll { read, ledger, after, timeout }));
    }
    Ok(Request::Read { read, ledger, fence: Fence::No })
}

fn write_lac(header: &BkPacketHeader, request: &WriteLacRequest) -> Result<Request, Code> {
    // It stays in memory for as long as the ledger lives.
    if request.body.len() > LAC_BODY_BYTES_MAX {
        return Err(Code::BadRequest);
    }
    Ok(Request::WriteLac {
        header: *header,
        ledger: ledger(request.ledger_id)?,
        master_key: master_key(&request.master_key)?,
        last_add_confirmed: EntryId::from_wire(request.lac),
        body: request.body.clone(),
    })
}

/// Tells the bookie's space. Asks the file system.
pub(super) fn info(shared: &Shared, header: &BkPacketHeader, requested: i64) -> Answer {
    const TOTAL: i64 = 1;
    const FREE: i64 = 2;
    let metrics = shared.engine.metrics();
    let begun = metrics.now();
    let space = shared.engine.space();
    metrics.server.ended(Asked::Info, space.is_ok(), metrics.now() - begun);
    match space {
        Ok((free, total)) => {
            let wanted =
                |bit, bytes| (requested & bit != 0).then(|| i64::try_from(bytes).unwrap_or(i64::MAX));
            response::info(header, Code::Ok, wanted(TOTAL, total), wanted(FREE, free))
        }
        Err(error) => {
            tracing::error!(%error, "cannot tell the space of the ledger directories");
            response::info(header, Code::Io, None, None)
        }
    }
}
