//! Entries whose bytes follow from the ledger's and their own id: the same ones that `Ledgers.java` writes and expects.

use bytes::Bytes;
use magnetar_proto::ids::{EntryId, LedgerId};

const SIZES: [usize; 8] = [0, 1, 7, 100, 1_000, 1_024, 4_096, 10_000];

/// What the Java program takes for the ledgers' password.
pub(crate) const PASSWORD: &[u8] = b"secret";

pub(crate) fn payload(ledger: LedgerId, entry: EntryId) -> Bytes {
    let size = SIZES[(entry.0 % SIZES.len() as u64) as usize];
    let mut state = (ledger.0 << 32 | entry.0).wrapping_mul(0x9E37_79B9_7F4A_7C15).wrapping_add(1);
    let mut bytes = Vec::with_capacity(size + 8);
    while bytes.len() < size {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(size);
    bytes.into()
}
