//! How one record of a cursor lies in its ledger: as one entry, or, when it is larger than an entry should be, as
//! several that follow each other.
//!
//! A part begins with a byte that no whole record begins with, so that the end of a write which a crash cut short is
//! never taken for a state. Pulsar forgets ranges instead of writing records of this size; it would not read these.

use bytes::{Buf, BufMut, Bytes, BytesMut};

/// A record up to this size is one entry.
const PART_BYTES: usize = 1 << 20;

/// As a key of protobuf it is the start of a group, which `PositionInfo` has none of.
const MAGIC: &[u8; 4] = b"\x23PRT";

const HEADER_BYTES: usize = 12;

/// One entry of a cursor's ledger.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Piece {
    /// A record by itself.
    Whole(Bytes),
    /// `magic | index u32 | count u32 | bytes`: number `index` (from 0) of the `count` parts of a record.
    Part { index: u32, count: u32, bytes: Bytes },
}

/// The entries to be written for a record, in order.
pub(super) fn split(record: Bytes) -> Vec<Bytes> {
    if record.len() <= PART_BYTES {
        return vec![record];
    }
    let count = u32::try_from(record.len().div_ceil(PART_BYTES)).expect("records have far fewer parts");
    let part = |(index, bytes): (u32, &[u8])| {
        let mut entry = BytesMut::with_capacity(HEADER_BYTES + bytes.len());
        entry.put_slice(MAGIC);
        entry.put_u32(index);
        entry.put_u32(count);
        entry.put_slice(bytes);
        entry.freeze()
    };
    (0..).zip(record.chunks(PART_BYTES)).map(part).collect()
}

/// Reads an entry. Any bytes are a whole record or a part; whether they make sense shows in decoding.
pub(super) fn parse(mut entry: Bytes) -> Result<Piece, String> {
    if !entry.starts_with(MAGIC) {
        return Ok(Piece::Whole(entry));
    }
    if entry.len() < HEADER_BYTES {
        return Err("a part of a record is shorter than its header".into());
    }
    entry.advance(MAGIC.len());
    let (index, count) = (entry.get_u32(), entry.get_u32());
    if index >= count {
        return Err(format!("a record of {count} parts has no part {index}"));
    }
    Ok(Piece::Part { index, count, bytes: entry })
}

/// Puts the parts of one record together again.
pub(super) fn join(pieces: Vec<Piece>) -> Result<Bytes, String> {
    let expected = pieces.len() as u32;
    let mut record = BytesMut::new();
    for (number, piece) in (0..).zip(pieces) {
        match piece {
            Piece::Part { index, count, bytes } if index == number && count == expected => {
                record.extend_from_slice(&bytes);
            }
            other => {
                return Err(format!("part {number} of {expected} of a record is missing: {}", other.name()));
            }
        }
    }
    Ok(record.freeze())
}

impl Piece {
    fn name(&self) -> String {
        match self {
            Piece::Whole(_) => "a whole record stands there".into(),
            Piece::Part { index, count, .. } => format!("part {index} of {count} stands there"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_large_record_survives_in_parts_and_a_small_one_is_an_entry() {
        let small = Bytes::from(vec![8; PART_BYTES]);
        assert_eq!(split(small.clone()), std::slice::from_ref(&small));
        assert_eq!(parse(small.clone()), Ok(Piece::Whole(small)));
        let large: Bytes = (0..PART_BYTES * 5 / 2).map(|n| (n % 251) as u8).collect();
        let parts = split(large.clone());
        assert_eq!(parts.len(), 3);
        let joined = |numbers: &[usize]| {
            join(numbers.iter().map(|number| parse(parts[*number].clone()).unwrap()).collect())
        };
        assert_eq!(joined(&[0, 1, 2]), Ok(large));
        assert!(joined(&[1, 2]).is_err() && joined(&[0, 2, 1]).is_err() && joined(&[0, 1]).is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_piece_or_an_error(mut bytes in proptest::collection::vec(any::<u8>(), 0..30), part: bool) {
            if part {
                bytes.splice(0..0, *MAGIC);
            }
            let _ = parse(bytes.into());
        }
    }
}
