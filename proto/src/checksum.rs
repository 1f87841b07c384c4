//! The checksums and hashes that peers compute too: a different value here is a protocol error there.

use crc_fast::{CrcAlgorithm, Digest, checksum};

/// CRC-32C (Castagnoli): Pulsar's frame checksum and BookKeeper's default entry digest.
pub fn crc32c(bytes: &[u8]) -> u32 {
    truncate(checksum(CrcAlgorithm::Crc32Iscsi, bytes))
}

/// CRC-32C of the parts in order, as if they were one slice.
pub fn crc32c_parts(parts: &[&[u8]]) -> u32 {
    of_parts(CrcAlgorithm::Crc32Iscsi, parts)
}

/// CRC-32 (IEEE, zlib's): where a topic falls in its namespace's bundles, and BookKeeper's older entry digest.
pub fn crc32(bytes: &[u8]) -> u32 {
    truncate(checksum(CrcAlgorithm::Crc32IsoHdlc, bytes))
}

/// CRC-32 of the parts in order, as if they were one slice.
pub fn crc32_parts(parts: &[&[u8]]) -> u32 {
    of_parts(CrcAlgorithm::Crc32IsoHdlc, parts)
}

/// 32-bit Murmur3 (x86) with seed 0: hashes of message keys. Callers clear the sign bit where Pulsar does.
pub fn murmur3_32(bytes: &[u8]) -> u32 {
    murmur3::murmur3_32(&mut &*bytes, 0).expect("a slice is a reader that cannot fail")
}

fn of_parts(algorithm: CrcAlgorithm, parts: &[&[u8]]) -> u32 {
    let mut digest = Digest::new(algorithm);
    for part in parts {
        digest.update(part);
    }
    truncate(digest.finalize())
}

/// The library returns all widths as 64 bits; both algorithms here have 32.
fn truncate(value: u64) -> u32 {
    value as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn check_values_of_the_published_algorithms() {
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
        assert_eq!(murmur3_32(b""), 0);
        assert_eq!(murmur3_32(b"hello"), 0x248b_fa47);
        assert_eq!(murmur3_32(b"hello, world"), 0x149b_bb7f);
    }

    proptest! {
        #[test]
        fn parts_hash_like_the_whole(bytes: Vec<u8>, cut in 0usize..64) {
            let (head, tail) = bytes.split_at(cut.min(bytes.len()));
            prop_assert_eq!(crc32c_parts(&[head, tail]), crc32c(&bytes));
            prop_assert_eq!(crc32_parts(&[head, b"", tail]), crc32(&bytes));
        }
    }
}
