//! Protocol version 3: protobuf messages. Generated from `schema/bookkeeper.proto`, with the little that goes around them.

use bytes::{BufMut, Bytes, BytesMut};
use prost::Message;

pub use generated::*;

#[expect(missing_docs, reason = "generated; the schema says what there is to say")]
#[allow(
    clippy::all,
    clippy::pedantic,
    unreachable_pub,
    unused_qualifications,
    rustdoc::all,
    reason = "generated"
)]
mod generated {
    include!(concat!(env!("OUT_DIR"), "/magnetar.bookkeeper.rs"));
}

/// Priority of requests that a bookie serves before others and, for adds, even when it is read-only.
pub const HIGH_PRIORITY: u32 = 100;

/// The header of a request.
pub fn request_header(operation: OperationType, txn_id: u64) -> BkPacketHeader {
    BkPacketHeader {
        version: ProtocolVersion::VersionThree as i32,
        operation: operation as i32,
        txn_id,
        priority: None,
    }
}

/// The header of the answer to a request: same operation and transaction id, so that the client finds its request.
pub fn response_header(request: &BkPacketHeader) -> BkPacketHeader {
    BkPacketHeader {
        version: ProtocolVersion::VersionThree as i32,
        operation: request.operation,
        txn_id: request.txn_id,
        priority: None,
    }
}

/// Reads the body of a frame.
pub fn decode_request(frame: Bytes) -> Result<Request, prost::DecodeError> {
    Request::decode(frame)
}

/// Reads the body of a frame.
pub fn decode_response(frame: Bytes) -> Result<Response, prost::DecodeError> {
    Response::decode(frame)
}

/// Appends a whole frame, with its length.
pub fn encode(message: &impl Message, out: &mut BytesMut) {
    let len = message.encoded_len();
    out.reserve(size_of::<u32>() + len);
    out.put_u32(u32::try_from(len).expect("messages are bounded by the frame limit, far below 4 GiB"));
    message.encode_raw(out);
}
