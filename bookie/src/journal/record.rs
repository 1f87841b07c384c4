//! One journal record: what it says and its bytes.
//!
//! ```text
//! crc32c:u32 | len:u32 | segment:u64 | sequence:u64 | batch_offset:u32 | kind:u8 | body[len]        (big-endian)
//! ```
//!
//! - `crc32c` covers everything after itself. `len` counts the body only.
//! - `segment` repeats the id of the segment header: bytes left over in a recycled file carry another id.
//! - `sequence` grows by one from record to record over the whole life of the journal.
//! - `sequence - batch_offset` is the first sequence of the batch the record was written with. A batch is written
//!   only after the batch before it is durable, so a valid record *of a later batch* behind an unreadable one proves
//!   that the unreadable one had been durable: that is how replay tells rot from a torn tail.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use magnetar_proto::checksum::crc32c;
use magnetar_proto::ids::LedgerId;

/// Bytes before a record's body.
pub(crate) const HEADER_BYTES: usize = 29;

/// The longest body: an entry of the largest frame a server may be configured to take, with room to spare.
pub(crate) const BODY_BYTES_MAX: usize = 64 << 20;

/// Bytes an entry body must have at least: ledger id, entry id and last-add-confirmed.
pub(crate) const ENTRY_BODY_BYTES_MIN: usize = 24;

const MASTER_KEY_BYTES: usize = 20;

/// A fact that the journal makes durable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Record {
    /// An entry exactly as it came over the wire; its ledger id and entry id are its first 16 bytes.
    Entry(Bytes),
    /// The master key that the ledger was first seen with.
    MasterKey { ledger: LedgerId, key: [u8; 20] },
    /// The ledger takes no more ordinary adds.
    Fence { ledger: LedgerId },
    /// The explicit LAC blob of the ledger, replacing an older one.
    ExplicitLac { ledger: LedgerId, body: Bytes },
}

/// Kind bytes. Zero is never a kind, so that zeroed blocks cannot look like a record; 5..=15 are reserved.
mod kind {
    pub(super) const ENTRY: u8 = 1;
    pub(super) const MASTER_KEY: u8 = 2;
    pub(super) const FENCE: u8 = 3;
    pub(super) const EXPLICIT_LAC: u8 = 4;
}

/// Where a record stands in the journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) segment: u64,
    pub(crate) sequence: u64,
    /// How many records of the same batch precede it.
    pub(crate) batch_offset: u32,
}

impl Place {
    /// The first sequence of the batch this record was written with.
    pub(crate) fn batch_first(&self) -> u64 {
        self.sequence.saturating_sub(u64::from(self.batch_offset))
    }
}

/// Why bytes are not a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unreadable {
    /// The bytes end before the record does.
    Short,
    /// The checksum does not match, or a valid checksum covers a length that cannot be.
    Checksum,
    /// The checksum matches but the body is not one this version can understand.
    Meaning,
}

impl Record {
    /// Bytes of the whole record in the journal.
    pub(crate) fn encoded_len(&self) -> usize {
        HEADER_BYTES + self.body_len()
    }

    fn body_len(&self) -> usize {
        match self {
            Record::Entry(body) => body.len(),
            Record::MasterKey { .. } => 8 + MASTER_KEY_BYTES,
            Record::Fence { .. } => 8,
            Record::ExplicitLac { body, .. } => 8 + body.len(),
        }
    }

    /// Appends the record to `out`.
    pub(crate) fn encode(&self, place: Place, out: &mut BytesMut) {
        let start = out.len();
        out.reserve(self.encoded_len());
        out.put_u32(0);
        out.put_u32(u32::try_from(self.body_len()).expect("bodies are bounded by the frame limit"));
        out.put_u64(place.segment);
        out.put_u64(place.sequence);
        out.put_u32(place.batch_offset);
        match self {
            Record::Entry(body) => {
                out.put_u8(kind::ENTRY);
                out.put_slice(body);
            }
            Record::MasterKey { ledger, key } => {
                out.put_u8(kind::MASTER_KEY);
                out.put_u64(ledger.0);
                out.put_slice(key);
            }
            Record::Fence { ledger } => {
                out.put_u8(kind::FENCE);
                out.put_u64(ledger.0);
            }
            Record::ExplicitLac { ledger, body } => {
                out.put_u8(kind::EXPLICIT_LAC);
                out.put_u64(ledger.0);
                out.put_slice(body);
            }
        }
        let crc = crc32c(&out[start + 4..]);
        out[start..start + 4].copy_from_slice(&crc.to_be_bytes());
    }

    fn decode_body(kind: u8, mut body: Bytes) -> Option<Record> {
        match kind {
            kind::ENTRY if body.len() >= ENTRY_BODY_BYTES_MIN => Some(Record::Entry(body)),
            kind::MASTER_KEY if body.len() == 8 + MASTER_KEY_BYTES => {
                let ledger = LedgerId(body.get_u64());
                let mut key = [0; MASTER_KEY_BYTES];
                body.copy_to_slice(&mut key);
                Some(Record::MasterKey { ledger, key })
            }
            kind::FENCE if body.len() == 8 => Some(Record::Fence { ledger: LedgerId(body.get_u64()) }),
            kind::EXPLICIT_LAC if body.len() >= 8 => {
                let ledger = LedgerId(body.get_u64());
                Some(Record::ExplicitLac { ledger, body })
            }
            _ => None,
        }
    }
}

/// The fixed part of a record, read without trusting it.
pub(crate) struct Header {
    crc: u32,
    pub(crate) len: usize,
    pub(crate) place: Place,
    kind: u8,
}

impl Header {
    /// Reads the header at the start of `bytes`; `None` when there are fewer than [`HEADER_BYTES`].
    pub(crate) fn peek(mut bytes: &[u8]) -> Option<Header> {
        if bytes.len() < HEADER_BYTES {
            return None;
        }
        Some(Header {
            crc: bytes.get_u32(),
            len: bytes.get_u32() as usize,
            place: Place {
                segment: bytes.get_u64(),
                sequence: bytes.get_u64(),
                batch_offset: bytes.get_u32(),
            },
            kind: bytes.get_u8(),
        })
    }

    /// Whether it says that the record is an entry.
    pub(crate) fn is_entry(&self) -> bool {
        self.kind == kind::ENTRY
    }
}

/// Reads the record at the start of `bytes` and says how many bytes it takes.
pub(crate) fn decode(bytes: &Bytes) -> Result<(Place, Record, usize), Unreadable> {
    let header = Header::peek(bytes).ok_or(Unreadable::Short)?;
    if header.len > BODY_BYTES_MAX {
        return Err(Unreadable::Checksum);
    }
    let end = HEADER_BYTES + header.len;
    if bytes.len() < end {
        return Err(Unreadable::Short);
    }
    if crc32c(&bytes[4..end]) != header.crc {
        return Err(Unreadable::Checksum);
    }
    let record =
        Record::decode_body(header.kind, bytes.slice(HEADER_BYTES..end)).ok_or(Unreadable::Meaning)?;
    Ok((header.place, record, end))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLACE: Place = Place { segment: 7, sequence: 42, batch_offset: 2 };

    fn samples() -> Vec<Record> {
        vec![
            Record::Entry(Bytes::from(vec![9; 40])),
            Record::MasterKey { ledger: LedgerId(3), key: [5; 20] },
            Record::Fence { ledger: LedgerId(u64::MAX >> 1) },
            Record::ExplicitLac { ledger: LedgerId(3), body: Bytes::from_static(b"blob") },
        ]
    }

    #[test]
    fn decode_gives_back_what_was_encoded() {
        for record in samples() {
            let mut out = BytesMut::new();
            record.encode(PLACE, &mut out);
            assert_eq!(out.len(), record.encoded_len());
            let len = out.len();
            out.put_slice(b"what follows");
            assert_eq!(decode(&out.freeze()), Ok((PLACE, record, len)));
        }
    }

    #[test]
    fn fence_record_has_its_golden_bytes() {
        let mut out = BytesMut::new();
        Record::Fence { ledger: LedgerId(0x0102) }.encode(PLACE, &mut out);
        let mut golden = BytesMut::new();
        golden.put_slice(&[0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 42, 0, 0, 0, 2, 3]);
        golden.put_slice(&[0, 0, 0, 0, 0, 0, 1, 2]);
        assert_eq!(&out[4..], &golden[..]);
        assert_eq!(&out[..4], &crc32c(&golden).to_be_bytes());
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_noticed() {
        for record in samples() {
            let mut out = BytesMut::new();
            record.encode(PLACE, &mut out);
            for cut in 0..out.len() {
                assert!(decode(&Bytes::copy_from_slice(&out[..cut])).is_err(), "cut at {cut}");
            }
            for bit in 0..out.len() * 8 {
                let mut bad = out.clone();
                bad[bit / 8] ^= 1 << (bit % 8);
                assert!(decode(&bad.freeze()).is_err(), "bit {bit}");
            }
        }
    }

    #[test]
    fn zeroed_blocks_are_not_a_record() {
        assert!(decode(&Bytes::from(vec![0; 4096])).is_err());
    }
}
