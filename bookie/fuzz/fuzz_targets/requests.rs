//! Any bytes, cut at any places, through the bookie's request decoder.
#![no_main]

use libfuzzer_sys::fuzz_target;

const FRAME_BYTES_MAX: usize = 1 << 16;

fuzz_target!(|data: &[u8]| {
    // The first byte says where to cut; the rest is what a socket brings.
    let Some((cut, bytes)) = data.split_first() else { return };
    magnetar_bookie::fuzzing::decode(FRAME_BYTES_MAX, bytes.chunks(usize::from(*cut) * 16 + 1));
});
