//! The header of a journal segment file.
//!
//! ```text
//! 0 magic[8] | 8 version:u32 | 12 identity[16] | 28 segment:u64 | 36 first_sequence:u64 | 44 crc32c:u32 | zeros to 512
//! ```
//!
//! Big-endian; the checksum covers the 44 bytes before it. Records start at byte 512. The header is durable before the
//! segment's first record is written.
//!
//! A file that is made ready before its segment begins has a mark in the header's place: of the same form, under another
//! magic, without a first sequence. It proves that no record of the segment was written, whatever else the file holds.

use bytes::{Buf, BufMut, BytesMut};
use magnetar_proto::checksum::crc32c;

use crate::identity::InstanceId;

/// Bytes of the header; one sector, so that it is torn by no disk we know of.
pub(crate) const HEADER_BYTES: usize = 512;

/// Version this code writes; it reads 1..=VERSION.
pub(crate) const VERSION: u32 = 1;

const MAGIC: [u8; 8] = *b"MAGJRNL\n";
const MARK_MAGIC: [u8; 8] = *b"MAGJNXT\n";
const CHECKED_BYTES: usize = 44;

/// What a segment file says about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SegmentHeader {
    pub(crate) instance: InstanceId,
    /// Ids only grow; a recycled file gets a new one.
    pub(crate) segment: u64,
    /// Sequence of the first record that may stand in this segment.
    pub(crate) first_sequence: u64,
}

/// Why a segment header cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HeaderError {
    /// Not a header, or a damaged one.
    Damaged,
    /// A whole header written by a newer version of this program.
    Newer { version: u32 },
}

impl SegmentHeader {
    /// The header's bytes, padded to [`HEADER_BYTES`].
    pub(crate) fn encode(&self) -> BytesMut {
        self.encode_as(MAGIC)
    }

    /// The mark of a file in which `segment` has not begun, padded to [`HEADER_BYTES`].
    pub(crate) fn encode_mark(instance: InstanceId, segment: u64) -> BytesMut {
        SegmentHeader { instance, segment, first_sequence: 0 }.encode_as(MARK_MAGIC)
    }

    /// Whether the bytes are the mark of a file in which `segment` has not begun.
    pub(crate) fn is_mark(bytes: &[u8], instance: InstanceId, segment: u64) -> bool {
        let mark = SegmentHeader::encode_mark(instance, segment);
        bytes.len() >= CHECKED_BYTES + 4 && bytes[..CHECKED_BYTES + 4] == mark[..CHECKED_BYTES + 4]
    }

    fn encode_as(&self, magic: [u8; 8]) -> BytesMut {
        let mut out = BytesMut::with_capacity(HEADER_BYTES);
        out.put_slice(&magic);
        out.put_u32(VERSION);
        out.put_slice(self.instance.as_bytes());
        out.put_u64(self.segment);
        out.put_u64(self.first_sequence);
        out.put_u32(crc32c(&out));
        out.resize(HEADER_BYTES, 0);
        out
    }

    /// Reads a header.
    pub(crate) fn decode(bytes: &[u8]) -> Result<SegmentHeader, HeaderError> {
        if bytes.len() < CHECKED_BYTES + 4 || bytes[..8] != MAGIC {
            return Err(HeaderError::Damaged);
        }
        if crc32c(&bytes[..CHECKED_BYTES]) != (&bytes[CHECKED_BYTES..]).get_u32() {
            return Err(HeaderError::Damaged);
        }
        let mut rest = &bytes[8..CHECKED_BYTES];
        let version = rest.get_u32();
        if version > VERSION {
            return Err(HeaderError::Newer { version });
        }
        let mut instance = [0; 16];
        rest.copy_to_slice(&mut instance);
        Ok(SegmentHeader {
            instance: InstanceId::from_bytes(instance),
            segment: rest.get_u64(),
            first_sequence: rest.get_u64(),
        })
    }
}

/// Name of the file of a live segment.
pub(crate) fn file_name(segment: u64) -> String {
    format!("journal-{segment:016x}")
}

/// Name of a file whose content is free to be overwritten.
pub(crate) fn free_name(number: u64) -> String {
    format!("free-{number:016x}")
}

/// The segment id in a file name made by [`file_name`].
pub(crate) fn parse_file_name(name: &str) -> Option<u64> {
    parse(name, "journal-")
}

/// The number in a file name made by [`free_name`].
pub(crate) fn parse_free_name(name: &str) -> Option<u64> {
    parse(name, "free-")
}

fn parse(name: &str, prefix: &str) -> Option<u64> {
    let digits = name.strip_prefix(prefix)?;
    (digits.len() == 16).then(|| u64::from_str_radix(digits, 16).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> SegmentHeader {
        SegmentHeader { instance: InstanceId::from_bytes([7; 16]), segment: 3, first_sequence: 99 }
    }

    #[test]
    fn decode_gives_back_what_was_encoded() {
        assert_eq!(SegmentHeader::decode(&header().encode()), Ok(header()));
    }

    #[test]
    fn header_has_its_golden_bytes() {
        let mut golden = BytesMut::new();
        golden.put_slice(b"MAGJRNL\n");
        golden.put_slice(&[0, 0, 0, 1]);
        golden.put_slice(&[7; 16]);
        golden.put_slice(&[0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 99]);
        assert_eq!(&header().encode()[..44], &golden[..]);
        assert_eq!(header().encode().len(), 512);
    }

    #[test]
    fn newer_version_is_told_apart_from_damage() {
        let mut bytes = header().encode();
        bytes[11] = 9;
        assert_eq!(SegmentHeader::decode(&bytes), Err(HeaderError::Damaged));
        let crc = crc32c(&bytes[..44]).to_be_bytes();
        bytes[44..48].copy_from_slice(&crc);
        assert_eq!(SegmentHeader::decode(&bytes), Err(HeaderError::Newer { version: 9 }));
        assert_eq!(SegmentHeader::decode(b"short"), Err(HeaderError::Damaged));
    }

    #[test]
    fn a_mark_is_no_header_and_counts_for_its_segment_only() {
        let SegmentHeader { instance, segment, .. } = header();
        let mark = SegmentHeader::encode_mark(instance, segment);
        let mut golden = header().encode();
        golden[..8].copy_from_slice(b"MAGJNXT\n");
        golden[36..44].fill(0);
        assert_eq!(mark[..44], golden[..44]);
        assert_eq!(SegmentHeader::decode(&mark), Err(HeaderError::Damaged));
        assert!(SegmentHeader::is_mark(&mark, instance, segment));
        assert!(!SegmentHeader::is_mark(&mark, instance, segment + 1));
        assert!(!SegmentHeader::is_mark(&mark, InstanceId::from_bytes([8; 16]), segment));
        assert!(!SegmentHeader::is_mark(&header().encode(), instance, segment));
        for at in 0..CHECKED_BYTES + 4 {
            let mut damaged = mark.clone();
            damaged[at] ^= 1;
            assert!(!SegmentHeader::is_mark(&damaged, instance, segment), "byte {at}");
        }
    }

    #[test]
    fn names_parse_back() {
        assert_eq!(parse_file_name(&file_name(77)), Some(77));
        assert_eq!(parse_free_name(&free_name(5)), Some(5));
        assert_eq!(parse_file_name("journal-7"), None);
        assert_eq!(parse_file_name("other"), None);
    }
}
