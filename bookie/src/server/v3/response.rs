//! Answers of protocol version 3: each repeats its code inside, where clients look.

use bytes::Bytes;
use magnetar_proto::bookkeeper::Code;
use magnetar_proto::bookkeeper::v3::{
    AddResponse, BkPacketHeader, ForceLedgerResponse, GetBookieInfoResponse,
    GetListOfEntriesOfLedgerResponse, ReadLacResponse, ReadResponse, Request, Response, StartTlsResponse,
    WriteLacResponse,
};
use magnetar_proto::ids::{EntryId, LedgerId};

use crate::server::answer::Answer;
use crate::server::v2::no_authentication;

fn bare(header: &BkPacketHeader, code: Code) -> Response {
    Response { header: *header, status: code.to_v3() as i32, ..Default::default() }
}

fn answer(response: Response) -> Answer {
    Answer::V3(Box::new(response))
}

/// The answer to a request that makes no sense: the inner message of its operation is there as far as it can be.
pub(crate) fn failed(header: &BkPacketHeader, packet: &Request, code: Code) -> Answer {
    let status = code.to_v3() as i32;
    let mut response = bare(header, code);
    if let Some(read) = &packet.read_request {
        response.read_response = Some(ReadResponse {
            status,
            ledger_id: read.ledger_id,
            entry_id: read.entry_id,
            ..Default::default()
        });
    }
    if let Some(add) = &packet.add_request {
        response.add_response =
            Some(AddResponse { status, ledger_id: add.ledger_id, entry_id: add.entry_id });
    }
    if let Some(write) = &packet.write_lac_request {
        response.write_lac_response = Some(WriteLacResponse { status, ledger_id: write.ledger_id });
    }
    if let Some(read) = &packet.read_lac_request {
        response.read_lac_response =
            Some(ReadLacResponse { status, ledger_id: read.ledger_id, ..Default::default() });
    }
    answer(response)
}

pub(crate) fn added(header: &BkPacketHeader, code: Code, ledger: LedgerId, entry: EntryId) -> Response {
    let mut response = bare(header, code);
    let (ledger_id, entry_id) = (ledger.to_wire(), entry.to_wire());
    response.add_response = Some(AddResponse { status: response.status, ledger_id, entry_id });
    response
}

/// What an answer tells of a ledger's LAC.
#[derive(Clone, Copy)]
pub(crate) struct ToldLac {
    /// `None` tells that there is none.
    pub(crate) lac: Option<EntryId>,
    /// When it moved, in Unix milliseconds, where the read has waited for that.
    pub(crate) moved_ms: Option<u64>,
}

impl From<Option<EntryId>> for ToldLac {
    fn from(lac: Option<EntryId>) -> Self {
        ToldLac { lac, moved_ms: None }
    }
}

/// `lac` is set where the answer tells it.
pub(crate) fn read(
    header: &BkPacketHeader,
    code: Code,
    ledger: LedgerId,
    entry_id: i64,
    body: Option<Bytes>,
    lac: Option<ToldLac>,
) -> Answer {
    let mut response = bare(header, code);
    response.read_response = Some(ReadResponse {
        status: response.status,
        ledger_id: ledger.to_wire(),
        entry_id,
        body,
        max_lac: lac.map(|told| EntryId::option_to_wire(told.lac)),
        lac_update_timestamp: lac.and_then(|told| i64::try_from(told.moved_ms?).ok()),
    });
    answer(response)
}

pub(crate) fn read_lac(
    header: &BkPacketHeader,
    code: Code,
    ledger: LedgerId,
    lac_body: Option<Bytes>,
    last_entry_body: Option<Bytes>,
) -> Answer {
    let mut response = bare(header, code);
    let (status, ledger_id) = (response.status, ledger.to_wire());
    response.read_lac_response = Some(ReadLacResponse { status, ledger_id, lac_body, last_entry_body });
    answer(response)
}

pub(crate) fn lac_written(header: &BkPacketHeader, code: Code, ledger: LedgerId) -> Response {
    let mut response = bare(header, code);
    response.write_lac_response =
        Some(WriteLacResponse { status: response.status, ledger_id: ledger.to_wire() });
    response
}

pub(crate) fn forced(header: &BkPacketHeader, ledger: LedgerId) -> Response {
    let mut response = bare(header, Code::Ok);
    response.force_ledger_response =
        Some(ForceLedgerResponse { status: response.status, ledger_id: ledger.to_wire() });
    response
}

pub(crate) fn entries(
    header: &BkPacketHeader,
    code: Code,
    ledger: LedgerId,
    encoded: Option<Bytes>,
) -> Answer {
    let mut response = bare(header, code);
    response.get_list_of_entries_of_ledger_response = Some(GetListOfEntriesOfLedgerResponse {
        status: response.status,
        ledger_id: ledger.to_wire(),
        availability_of_entries_of_ledger: encoded,
    });
    answer(response)
}

pub(crate) fn info(header: &BkPacketHeader, code: Code, total: Option<i64>, free: Option<i64>) -> Answer {
    let mut response = bare(header, code);
    response.get_bookie_info_response = Some(GetBookieInfoResponse {
        status: response.status,
        total_disk_capacity: total,
        free_disk_space: free,
    });
    answer(response)
}

pub(crate) fn authenticated(header: &BkPacketHeader) -> Answer {
    let mut response = bare(header, Code::Ok);
    response.auth_response = Some(no_authentication());
    answer(response)
}

/// The handshake may begin.
pub(crate) fn tls_begins(header: &BkPacketHeader) -> Response {
    let mut response = bare(header, Code::Ok);
    response.start_tls_response = Some(StartTlsResponse {});
    response
}

pub(crate) fn no_tls(header: &BkPacketHeader) -> Answer {
    answer(bare(header, Code::BadRequest))
}
