//! Questions to a bookie that only protocol version 3 can carry: what it holds of a ledger, and how much space it has.
//!
//! They are rare, so each has a connection of its own. Asked by placement and by re-replication. An answer that did not
//! come, or was not understood, is an error: never an empty list.

use crate::connection::Context;
use bytes::{Bytes, BytesMut};
use magnetar_common::net::Stream;
use magnetar_proto::bookkeeper::v3::{self, OperationType, Request, Response};
use magnetar_proto::bookkeeper::{Code, frame};
use magnetar_proto::ids::LedgerId;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// A connection with its one question takes no longer.
const ANSWER_MAX: Duration = Duration::from_secs(10);
/// The longest answer: the list of a ledger whose entries lie there in the most awkward way.
const FRAME_BYTES_MAX: usize = 64 << 20;
/// FREE_DISK_SPACE in a request for bookie info.
const FREE_DISK_SPACE: i64 = 0x2;

/// Why a bookie's answer is not known.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AskError {
    #[error("it cannot be asked: {0}")]
    Io(#[from] std::io::Error),
    #[error("no answer within {} s", ANSWER_MAX.as_secs())]
    Silent,
    #[error("it refuses to tell: {0:?}")]
    Refused(Code),
    #[error("its answer makes no sense")]
    Senseless,
}

/// The encoded list of the entries that a bookie holds of a ledger; `None`: it proves that it knows no such ledger.
pub(crate) async fn entries(
    context: &Context,
    address: &str,
    ledger: LedgerId,
) -> Result<Option<Bytes>, AskError> {
    let request = Request {
        get_list_of_entries_of_ledger_request: Some(v3::GetListOfEntriesOfLedgerRequest {
            ledger_id: ledger.to_wire(),
        }),
        ..question(OperationType::GetListOfEntriesOfLedger)
    };
    let response = ask(context, address, &request).await?;
    match Code::from_v3(response.status) {
        Code::NoLedger => return Ok(None),
        Code::Ok => {}
        code => return Err(AskError::Refused(code)),
    }
    let list = response.get_list_of_entries_of_ledger_response.ok_or(AskError::Senseless)?;
    if list.ledger_id != ledger.to_wire() || Code::from_v3(list.status) != Code::Ok {
        return Err(AskError::Senseless);
    }
    list.availability_of_entries_of_ledger.map(Some).ok_or(AskError::Senseless)
}

/// The bytes that a bookie still has room for.
pub(crate) async fn free_bytes(context: &Context, address: &str) -> Result<u64, AskError> {
    let request = Request {
        get_bookie_info_request: Some(v3::GetBookieInfoRequest { requested: Some(FREE_DISK_SPACE) }),
        ..question(OperationType::GetBookieInfo)
    };
    let response = ask(context, address, &request).await?;
    if Code::from_v3(response.status) != Code::Ok {
        return Err(AskError::Refused(Code::from_v3(response.status)));
    }
    let free = response.get_bookie_info_response.and_then(|info| info.free_disk_space);
    free.and_then(|free| u64::try_from(free).ok()).ok_or(AskError::Senseless)
}

/// There is one question a connection, so any transaction id will do.
fn question(operation: OperationType) -> Request {
    Request { header: v3::request_header(operation, 1), ..Request::default() }
}

async fn ask(context: &Context, address: &str, request: &Request) -> Result<Response, AskError> {
    let exchange = async {
        let Stream { mut reader, mut writer, .. } = context.dial(address).await?;
        let mut buffer = BytesMut::new();
        v3::encode(request, &mut buffer);
        writer.write_all(&buffer).await?;
        writer.flush().await?;
        buffer.clear();
        let mut decoder = frame::Decoder::new(FRAME_BYTES_MAX);
        loop {
            if let Some(packet) = decoder.decode(&mut buffer).map_err(|_| AskError::Senseless)? {
                return v3::decode_response(packet).map_err(|_| AskError::Senseless);
            }
            if reader.read_buf(&mut buffer).await? == 0 {
                return Err(AskError::Io(std::io::ErrorKind::UnexpectedEof.into()));
            }
        }
    };
    tokio::select! {
        answer = exchange => answer,
        () = context.env.clock.sleep(ANSWER_MAX) => Err(AskError::Silent),
    }
}
