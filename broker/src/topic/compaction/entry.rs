//! An entry of a compacted ledger: Pulsar's `RawMessage`, a message with the id that it has in the topic.
//!
//! ```text
//! idSize u32 | MessageIdData | size u32 | headers and payload
//! ```
//! Ascending by id.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use magnetar_proto::ids::{EntryId, LedgerId, Position};
use magnetar_proto::pulsar::api::MessageIdData;
use prost::Message;

/// Copies what it is given.
pub(super) fn encode(position: Position, partition: Option<i32>, headers_and_payload: &[u8]) -> Bytes {
    let id = id(position, partition);
    let id_len = id.encoded_len();
    let mut out = BytesMut::with_capacity(2 * size_of::<u32>() + id_len + headers_and_payload.len());
    out.put_u32(id_len as u32);
    id.encode_raw(&mut out);
    out.put_u32(
        u32::try_from(headers_and_payload.len()).expect("bounded by the frame limit, far below 4 GiB"),
    );
    out.put_slice(headers_and_payload);
    out.freeze()
}

/// The id as Pulsar writes it.
pub(super) fn id(position: Position, partition: Option<i32>) -> MessageIdData {
    MessageIdData {
        ledger_id: position.ledger_id.0,
        entry_id: position.entry_id.0,
        partition,
        ..Default::default()
    }
}

/// Headers and payload are a slice of the entry.
pub(super) fn decode(mut entry: Bytes) -> Result<(Position, Bytes), String> {
    let id = take(&mut entry, "id")?;
    let id = MessageIdData::decode(id).map_err(|error| format!("a message's id: {error}"))?;
    let headers_and_payload = take(&mut entry, "message")?;
    Ok((Position::new(LedgerId(id.ledger_id), EntryId(id.entry_id)), headers_and_payload))
}

fn take(entry: &mut Bytes, what: &str) -> Result<Bytes, String> {
    let len = entry.try_get_u32().map_err(|_| format!("it ends inside its {what}"))? as usize;
    if len > entry.len() {
        return Err(format!("it ends inside its {what}"));
    }
    Ok(entry.split_to(len))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_entry_has_the_bytes_that_pulsar_writes() {
        let position = Position::new(LedgerId(300), EntryId(7));
        let encoded = encode(position, None, b"\x0e\x01abc");
        // ledgerId (field 1) 300, entryId (field 2) 7.
        assert_eq!(&encoded[..], b"\x00\x00\x00\x05\x08\xac\x02\x10\x07\x00\x00\x00\x05\x0e\x01abc");
        assert_eq!(decode(encoded), Ok((position, Bytes::from_static(b"\x0e\x01abc"))));
        let of_partition = encode(position, Some(3), b"x");
        assert_eq!(decode(of_partition), Ok((position, Bytes::from_static(b"x"))));
    }

    proptest! {
        #[test]
        fn any_bytes_give_an_entry_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            let _ = decode(bytes.into());
        }
    }
}
