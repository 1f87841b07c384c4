//! One journal record: what it says and its bytes.
//!
//! ```text
//! crc32c:u32 | len:u32 | segment:u64 | sequence:u64 | batch_offset:u32 | kind:u8 | body[len]        (big-endian)
//! ```
//!
//! - `crc32c` covers everything after itself. `len` counts the body only.
//! - `segment` repeats the id of the segment header: bytes left over in a recycled file carry another id.
//! - `sequence` grows by one from record to record over the whole life of the journal.
//! - Everything before `sequence - batch_offset` was durable when the record was written. Where one batch at a time is
//!   under way, that is the first sequence of the record's batch; where several are, of the oldest of them. So a valid
//!   record that was written after an unreadable one had become durable proves just that: this is how replay tells rot
//!   from a torn tail.
//! - Zeros from a batch's end to the next multiple of 4096 of the file are padding: batches that go past the page cache
//!   begin and end at such places.

use bytes::{Buf, BufMut, Bytes};
use magnetar_proto::checksum::{crc32c, crc32c_parts};
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
    /// How many records right before it were not yet known to be durable when it was written.
    pub(crate) batch_offset: u32,
}

impl Place {
    /// Everything before this sequence was durable when the record was written.
    pub(crate) fn durable_before(&self) -> u64 {
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

    /// Hands the record's bytes to `put`, piece after piece: [`encoded_len`](Self::encoded_len) in all.
    pub(crate) fn encode(&self, place: Place, mut put: impl FnMut(&[u8])) {
        let (kind, ledger, tail): (u8, Option<LedgerId>, &[u8]) = match self {
            Record::Entry(body) => (kind::ENTRY, None, body),
            Record::MasterKey { ledger, key } => (kind::MASTER_KEY, Some(*ledger), key),
            Record::Fence { ledger } => (kind::FENCE, Some(*ledger), &[]),
            Record::ExplicitLac { ledger, body } => (kind::EXPLICIT_LAC, Some(*ledger), body),
        };
        let mut head = [0; HEADER_BYTES + 8];
        let mut rest = &mut head[4..];
        rest.put_u32(u32::try_from(self.body_len()).expect("bodies are bounded by the frame limit"));
        rest.put_u64(place.segment);
        rest.put_u64(place.sequence);
        rest.put_u32(place.batch_offset);
        rest.put_u8(kind);
        rest.put_u64(ledger.map_or(0, |ledger| ledger.0));
        let head_bytes = HEADER_BYTES + ledger.map_or(0, |_| 8);
        let crc = crc32c_parts(&[&head[4..head_bytes], tail]);
        head[..4].copy_from_slice(&crc.to_be_bytes());
        put(&head[..head_bytes]);
        put(tail);
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
    use bytes::BytesMut;

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
            record.encode(PLACE, |bytes| out.put_slice(bytes));
            assert_eq!(out.len(), record.encoded_len());
            let len = out.len();
            out.put_slice(b"what follows");
            assert_eq!(decode(&out.freeze()), Ok((PLACE, record, len)));
        }
    }

    #[test]
    fn fence_record_has_its_golden_bytes() {
        let mut out = BytesMut::new();
        Record::Fence { ledger: LedgerId(0x0102) }.encode(PLACE, |bytes| out.put_slice(bytes));
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
            record.encode(PLACE, |bytes| out.put_slice(bytes));
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
