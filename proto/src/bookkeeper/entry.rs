//! The body of an entry, as the writer lays it out, bookies store it and readers check it; and the keys derived from a
//! ledger's password.
//!
//! ```text
//! 0 ledgerId i64 | 8 entryId i64 | 16 lastAddConfirmed i64 | 24 length i64 | 32 digest[d] | 32+d payload
//! ```
//! The digest covers bytes 0..32 and then the payload.

use bytes::{Buf, Bytes};
use hmac::{Hmac, KeyInit, Mac};
use sha1::{Digest as _, Sha1};

use crate::checksum::{crc32_parts, crc32c_parts};
use crate::ids::{EntryId, LedgerId};

/// Bytes in front of the digest.
pub const HEADER_BYTES: usize = 32;

/// Length of the longest digest.
const MAX_DIGEST_BYTES: usize = 20;

/// Length of a master key.
pub const MASTER_KEY_BYTES: usize = 20;

/// What a writer says about an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BodyHeader {
    /// The ledger.
    pub ledger_id: LedgerId,
    /// The entry.
    pub entry_id: EntryId,
    /// The writer's last add confirmed when it sent the entry.
    pub last_add_confirmed: Option<EntryId>,
    /// Payload bytes of the ledger up to and including this entry.
    pub length: u64,
}

/// How the entries of a ledger are protected. The number is the one in the ledger's metadata.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DigestType {
    /// IEEE CRC-32, in 8 bytes.
    Crc32 = 1,
    /// HMAC-SHA-1, in 20 bytes: the only one that a third party cannot forge.
    Hmac = 2,
    /// Castagnoli CRC, in 4 bytes: Pulsar's choice.
    Crc32c = 3,
    /// None at all.
    Dummy = 4,
}

/// Seals and opens the entries of one ledger.
#[derive(Clone)]
pub struct Digest {
    digest_type: DigestType,
    /// Key of the HMAC; unused by the others.
    mac: Option<Hmac<Sha1>>,
}

/// A header with its digest: the bytes of an entry in front of the payload.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Sealed {
    bytes: [u8; HEADER_BYTES + MAX_DIGEST_BYTES],
    len: usize,
}

/// The bytes are not the entry that was asked for. Another replica may have it: this is never a proof of absence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DigestMismatch {
    /// Shorter than a header and a digest.
    #[error("entry body of {0} bytes is too short")]
    TooShort(usize),
    /// The digest is not that of the bytes, or of another password.
    #[error("digest mismatch")]
    Digest,
    /// A negative or foreign ledger or entry id.
    #[error("entry body is of another entry")]
    OtherEntry,
}

/// The key that a bookie asks for with every add and fence of a ledger: proof of knowing the password.
pub fn master_key(password: &[u8]) -> [u8; MASTER_KEY_BYTES] {
    derived_key(b"ledger", password)
}

fn derived_key(purpose: &[u8], password: &[u8]) -> [u8; MASTER_KEY_BYTES] {
    Sha1::new().chain_update(purpose).chain_update(password).finalize().into()
}

impl BodyHeader {
    /// Reads the header of an entry body without checking the digest: all that a bookie looks at.
    pub fn decode(body: &[u8]) -> Result<Self, DigestMismatch> {
        if body.len() < HEADER_BYTES {
            return Err(DigestMismatch::TooShort(body.len()));
        }
        let mut rest = body;
        let ledger_id = LedgerId::from_wire(rest.get_i64()).ok_or(DigestMismatch::OtherEntry)?;
        let entry_id = EntryId::from_wire(rest.get_i64()).ok_or(DigestMismatch::OtherEntry)?;
        let last_add_confirmed = EntryId::from_wire(rest.get_i64());
        Ok(Self { ledger_id, entry_id, last_add_confirmed, length: rest.get_u64() })
    }

    fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut out = [0; HEADER_BYTES];
        out[..8].copy_from_slice(&self.ledger_id.to_wire().to_be_bytes());
        out[8..16].copy_from_slice(&self.entry_id.to_wire().to_be_bytes());
        out[16..24].copy_from_slice(&EntryId::option_to_wire(self.last_add_confirmed).to_be_bytes());
        out[24..].copy_from_slice(&self.length.to_be_bytes());
        out
    }
}

impl DigestType {
    /// Length of the digest in an entry, in bytes.
    pub const fn digest_bytes(self) -> usize {
        match self {
            Self::Crc32 => 8,
            Self::Hmac => MAX_DIGEST_BYTES,
            Self::Crc32c => 4,
            Self::Dummy => 0,
        }
    }
}

impl Digest {
    /// For a ledger with this digest type and password.
    pub fn new(digest_type: DigestType, password: &[u8]) -> Self {
        let mac = (digest_type == DigestType::Hmac).then(|| {
            Hmac::new_from_slice(&derived_key(b"mac", password)).expect("HMAC takes keys of any length")
        });
        Self { digest_type, mac }
    }

    /// The ledger's digest type.
    pub const fn digest_type(&self) -> DigestType {
        self.digest_type
    }

    /// Header and digest of an entry. The entry body is these bytes followed by the payload, unchanged.
    pub fn seal(&self, header: &BodyHeader, payload: &[u8]) -> Sealed {
        let encoded = header.encode();
        let mut bytes = [0; HEADER_BYTES + MAX_DIGEST_BYTES];
        bytes[..HEADER_BYTES].copy_from_slice(&encoded);
        let digest_bytes = self.write(&[&encoded, payload], &mut bytes[HEADER_BYTES..]);
        Sealed { bytes, len: HEADER_BYTES + digest_bytes }
    }

    /// Checks an entry body and returns its payload, a slice of it. `expect_entry` is `None` where the newest entry was
    /// asked for, whatever it is.
    pub fn open(
        &self,
        mut body: Bytes,
        expect_ledger: LedgerId,
        expect_entry: Option<EntryId>,
    ) -> Result<(BodyHeader, Bytes), DigestMismatch> {
        let head_len = HEADER_BYTES + self.digest_type.digest_bytes();
        if body.len() < head_len {
            return Err(DigestMismatch::TooShort(body.len()));
        }
        let head = body.split_to(head_len);
        let (header, digest) = head.split_at(HEADER_BYTES);
        if !self.matches(&[header, &body], digest) {
            return Err(DigestMismatch::Digest);
        }
        let header = BodyHeader::decode(header)?;
        let is_expected =
            header.ledger_id == expect_ledger && expect_entry.is_none_or(|entry| entry == header.entry_id);
        if is_expected { Ok((header, body)) } else { Err(DigestMismatch::OtherEntry) }
    }

    /// The blob of an explicit LAC write: what a bookie stores and every reader can check.
    pub fn seal_lac(&self, ledger_id: LedgerId, lac: EntryId) -> Bytes {
        let mut bytes = [0; 16 + MAX_DIGEST_BYTES];
        bytes[..8].copy_from_slice(&ledger_id.to_wire().to_be_bytes());
        bytes[8..16].copy_from_slice(&lac.to_wire().to_be_bytes());
        let (header, digest) = bytes.split_at_mut(16);
        let digest_bytes = self.write(&[header], digest);
        Bytes::copy_from_slice(&bytes[..16 + digest_bytes])
    }

    /// Checks an explicit LAC blob and returns the LAC in it, if it holds one.
    pub fn open_lac(&self, blob: &[u8], expect_ledger: LedgerId) -> Result<Option<EntryId>, DigestMismatch> {
        if blob.len() != 16 + self.digest_type.digest_bytes() {
            return Err(DigestMismatch::TooShort(blob.len()));
        }
        let (mut header, digest) = blob.split_at(16);
        if !self.matches(&[header], digest) {
            return Err(DigestMismatch::Digest);
        }
        if LedgerId::from_wire(header.get_i64()) != Some(expect_ledger) {
            return Err(DigestMismatch::OtherEntry);
        }
        Ok(EntryId::from_wire(header.get_i64()))
    }

    fn matches(&self, parts: &[&[u8]], digest: &[u8]) -> bool {
        let mut computed = [0; MAX_DIGEST_BYTES];
        let len = self.write(parts, &mut computed);
        computed[..len] == *digest
    }

    /// Writes the digest of the parts to the start of `out`; returns its length.
    fn write(&self, parts: &[&[u8]], out: &mut [u8]) -> usize {
        let len = self.digest_type.digest_bytes();
        match (self.digest_type, &self.mac) {
            (DigestType::Crc32c, _) => out[..len].copy_from_slice(&crc32c_parts(parts).to_be_bytes()),
            (DigestType::Crc32, _) => {
                out[..len].copy_from_slice(&u64::from(crc32_parts(parts)).to_be_bytes())
            }
            (DigestType::Hmac, Some(mac)) => {
                let mac = parts.iter().fold(mac.clone(), |mac, part| mac.chain_update(part));
                out[..len].copy_from_slice(&mac.finalize().into_bytes());
            }
            (DigestType::Hmac, None) => unreachable!("new() gives every HMAC digest its key"),
            (DigestType::Dummy, _) => {}
        }
        len
    }
}

impl AsRef<[u8]> for Sealed {
    fn as_ref(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

/// Hides the key.
impl std::fmt::Debug for Digest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Digest({:?})", self.digest_type)
    }
}
