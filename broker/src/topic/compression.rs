//! The compressions of batches.

use std::io::{Read, Write};

use bytes::Bytes;
use flate2::read::ZlibDecoder;
use flate2::write::ZlibEncoder;
use magnetar_proto::pulsar::api::CompressionType;

/// A batch that claims to be larger is not looked into: no client makes one of more than a few MiB.
const INFLATED_BYTES_MAX: usize = 64 << 20;

/// `None`: it is not what it claims to be. Takes no more memory than `size`, which the metadata gives.
pub(crate) fn inflate(compression: CompressionType, payload: &Bytes, size: u32) -> Option<Bytes> {
    let size = usize::try_from(size).ok().filter(|size| *size <= INFLATED_BYTES_MAX)?;
    let plain = match compression {
        CompressionType::None => return Some(payload.clone()),
        CompressionType::Lz4 => lz4_flex::block::decompress(payload, size).ok()?,
        CompressionType::Zlib => {
            let mut plain = Vec::new();
            ZlibDecoder::new(&payload[..]).take(size as u64 + 1).read_to_end(&mut plain).ok()?;
            plain
        }
        CompressionType::Zstd => zstd::bulk::decompress(payload, size).ok()?,
        CompressionType::Snappy => {
            snap::raw::decompress_len(payload).ok().filter(|len| *len <= size)?;
            snap::raw::Decoder::new().decompress_vec(payload).ok()?
        }
    };
    (plain.len() == size).then(|| plain.into())
}

/// `None`: the compressor failed, which it has no reason to.
pub(crate) fn deflate(compression: CompressionType, plain: Bytes) -> Option<Bytes> {
    let compressed = match compression {
        CompressionType::None => return Some(plain),
        CompressionType::Lz4 => lz4_flex::block::compress(&plain),
        CompressionType::Zlib => {
            let mut encoder = ZlibEncoder::new(Vec::new(), flate2::Compression::default());
            encoder.write_all(&plain).ok()?;
            encoder.finish().ok()?
        }
        CompressionType::Zstd => zstd::bulk::compress(&plain, zstd::DEFAULT_COMPRESSION_LEVEL).ok()?,
        CompressionType::Snappy => snap::raw::Encoder::new().compress_vec(&plain).ok()?,
    };
    Some(compressed.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use CompressionType::{Lz4, None, Snappy, Zlib, Zstd};

    #[test]
    fn what_was_compressed_comes_back() {
        let plain = Bytes::from("so much of the same, so much of the same, ".repeat(100));
        for compression in [None, Lz4, Zlib, Zstd, Snappy] {
            let small = deflate(compression, plain.clone()).expect("compressed");
            assert!(compression == None || small.len() < plain.len() / 4, "{compression:?}");
            assert_eq!(inflate(compression, &small, plain.len() as u32), Some(plain.clone()));
        }
    }

    #[test]
    fn a_payload_that_lies_about_its_size_is_refused() {
        let plain = Bytes::from(vec![7; 100_000]);
        for compression in [Lz4, Zlib, Zstd, Snappy] {
            let bomb = deflate(compression, plain.clone()).expect("compressed");
            for size in [0, 99_999, u32::MAX] {
                assert_eq!(inflate(compression, &bomb, size), Option::None, "{compression:?} {size}");
            }
            assert_eq!(inflate(compression, &Bytes::from_static(b"nonsense"), 20), Option::None);
        }
    }
}
