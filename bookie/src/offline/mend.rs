//! Undoes a single flipped bit in memory, to learn the ids of a damaged journal record.
//!
//! CRC32C is linear: the difference between the stored and the computed checksum depends only on which bits differ,
//! and for each single bit of a record that difference is another one. It must never be used to bring data back: a
//! larger damage looks like one flipped bit once in 2^32 / (bits of the record) times.

use bytes::{Bytes, BytesMut};
use magnetar_proto::checksum::crc32c;

use crate::journal::record::{self, Place, Record};

/// The longest record tried: larger ones are told wrong too often, once in 8,000 at this length.
const RECORD_BYTES_MAX: usize = 64 << 10;

const POLYNOMIAL: u32 = 0x82f6_3b78;

/// The checksum's step over one byte, for each value of the lowest byte.
const STEP: [u32; 256] = {
    let mut table = [0; 256];
    let mut at = 0;
    while at < 256 {
        let mut value = at as u32;
        let mut bit = 0;
        while bit < 8 {
            value = if value & 1 == 1 { (value >> 1) ^ POLYNOMIAL } else { value >> 1 };
            bit += 1;
        }
        table[at] = value;
        at += 1;
    }
    table
};

/// The journal record that these bytes were, if one flipped bit explains their damage.
pub(super) fn mended_record(damaged: &[u8]) -> Option<(Place, Record)> {
    if damaged.len() > RECORD_BYTES_MAX || damaged.len() < record::HEADER_BYTES {
        return None;
    }
    let (crc, checked) = damaged.split_at(4);
    let difference = u32::from_be_bytes(crc.try_into().ok()?) ^ crc32c(checked);
    let mut mended = BytesMut::from(damaged);
    if difference.count_ones() == 1 {
        mended[..4].copy_from_slice(&crc32c(checked).to_be_bytes());
    } else {
        let bit = flipped_bit(difference, checked.len())?;
        mended[4 + bit / 8] ^= 1 << (bit % 8);
    }
    let mended: Bytes = mended.freeze();
    let (place, record, bytes) = record::decode(&mended).ok()?;
    (bytes == mended.len()).then_some((place, record))
}

/// Which bit of `len` bytes, flipped, changes their checksum by `difference`.
fn flipped_bit(difference: u32, len: usize) -> Option<usize> {
    // What each bit of the last byte changes, then of the one before it, and so on.
    let mut changes: [u32; 8] = std::array::from_fn(|bit| STEP[1 << bit]);
    for byte in (0..len).rev() {
        if let Some(bit) = changes.iter().position(|change| *change == difference) {
            return Some(byte * 8 + bit);
        }
        for change in &mut changes {
            *change = (*change >> 8) ^ STEP[(*change & 0xff) as usize];
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::body;

    #[test]
    fn every_single_flipped_bit_is_undone() {
        let place = Place { segment: 7, sequence: 42, batch_offset: 2 };
        let record = Record::Entry(body(3, 5));
        let mut whole = BytesMut::new();
        record.encode(place, |part| whole.extend_from_slice(part));
        for bit in 0..whole.len() * 8 {
            let mut bad = whole.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(mended_record(&bad), Some((place, record.clone())), "bit {bit}");
        }
    }

    #[test]
    fn larger_damage_is_not_explained_away() {
        let mut bytes = BytesMut::new();
        Record::Entry(body(3, 5)).encode(Place { segment: 7, sequence: 42, batch_offset: 2 }, |part| {
            bytes.extend_from_slice(part)
        });
        bytes[30..60].fill(0xa5);
        assert_eq!(mended_record(&bytes), None);
    }
}
