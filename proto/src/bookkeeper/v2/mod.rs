//! Protocol version 2: fixed binary layouts, spoken by Pulsar's brokers for everything on the data path.
//!
//! A packet begins with one u32: `version << 24 | opcode << 16 | flags`. There is no request id: an answer repeats opcode,
//! ledger and entry, and completes any one of the requests that have the same three. So each request is answered once.
//! Versions 0 and 1, which no living client sends, are refused.

mod request;
mod response;

use bytes::{Buf, Bytes};

use super::entry::MASTER_KEY_BYTES;
use crate::ids::{EntryId, LedgerId};

pub use request::{Request, decode_request, encode_add_header, encode_request};
pub use response::{
    Response, decode_response, encode_batch_read_header, encode_read_header, encode_response,
};

/// The key sent with adds and fencing reads; see [`super::master_key`].
pub type MasterKey = [u8; MASTER_KEY_BYTES];

const VERSION: u8 = 2;

const ADD: u8 = 1;
const READ: u8 = 2;
const AUTH: u8 = 3;
const BATCH_READ: u8 = 7;

const HEADER_BYTES: usize = 4;
const IDS_BYTES: usize = 16;
const CODE_BYTES: usize = 4;
const REQUEST_ID_BYTES: usize = 8;

/// What a request asks for besides its opcode.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flags {
    /// Fence the ledger before reading. Needs the master key.
    pub fencing: bool,
    /// The add is part of a recovery: a fenced ledger takes it.
    pub recovery_add: bool,
    /// Ahead of others, and with adds even on a read-only bookie.
    pub high_priority: bool,
}

/// The bytes are not a packet. The connection must be closed: clients rely on that to learn that an opcode is unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PacketError {
    /// A version other than 2.
    #[error("protocol version {0} is not supported")]
    Version(u8),
    /// An operation that version 2 does not have.
    #[error("unknown opcode {0}")]
    UnknownOpcode(u8),
    /// Ends too early, or has an id that is negative where it must not be.
    #[error("malformed packet: {0}")]
    Malformed(&'static str),
}

impl Flags {
    const FENCING: u16 = 0x0001;
    const RECOVERY_ADD: u16 = 0x0002;
    const HIGH_PRIORITY: u16 = 0x0004;

    /// No flag.
    pub const NONE: Self = Self { fencing: false, recovery_add: false, high_priority: false };

    /// A read during recovery: fences, and is served first.
    pub const RECOVERY_READ: Self = Self { fencing: true, recovery_add: false, high_priority: true };

    /// An add during recovery: passes the fence, and is served first.
    pub const RECOVERY_WRITE: Self = Self { fencing: false, recovery_add: true, high_priority: true };

    /// Bits without a meaning are ignored.
    const fn from_bits(bits: u16) -> Self {
        Self {
            fencing: bits & Self::FENCING != 0,
            recovery_add: bits & Self::RECOVERY_ADD != 0,
            high_priority: bits & Self::HIGH_PRIORITY != 0,
        }
    }

    const fn bits(self) -> u16 {
        (if self.fencing { Self::FENCING } else { 0 })
            | (if self.recovery_add { Self::RECOVERY_ADD } else { 0 })
            | (if self.high_priority { Self::HIGH_PRIORITY } else { 0 })
    }
}

fn header(opcode: u8, flags: Flags) -> u32 {
    u32::from(VERSION) << 24 | u32::from(opcode) << 16 | u32::from(flags.bits())
}

fn take_header(packet: &mut Bytes) -> Result<(u8, Flags), PacketError> {
    let header = packet.try_get_u32().map_err(|_| PacketError::Malformed("no header"))?;
    let [version, opcode, ..] = header.to_be_bytes();
    if version != VERSION {
        return Err(PacketError::Version(version));
    }
    Ok((opcode, Flags::from_bits(header as u16)))
}

fn take_i64(packet: &mut Bytes, what: &'static str) -> Result<i64, PacketError> {
    packet.try_get_i64().map_err(|_| PacketError::Malformed(what))
}

fn take_i32(packet: &mut Bytes, what: &'static str) -> Result<i32, PacketError> {
    packet.try_get_i32().map_err(|_| PacketError::Malformed(what))
}

fn take_ledger(packet: &mut Bytes) -> Result<LedgerId, PacketError> {
    let what = "ledger id missing or negative";
    LedgerId::from_wire(take_i64(packet, what)?).ok_or(PacketError::Malformed(what))
}

fn take_entry(packet: &mut Bytes) -> Result<EntryId, PacketError> {
    let what = "entry id missing or negative";
    EntryId::from_wire(take_i64(packet, what)?).ok_or(PacketError::Malformed(what))
}

/// -1 stands for the newest entry; other negative numbers for nothing.
fn take_entry_or_newest(packet: &mut Bytes) -> Result<Option<EntryId>, PacketError> {
    let what = "entry id missing or negative";
    match take_i64(packet, what)? {
        EntryId::NONE_ON_WIRE => Ok(None),
        value => EntryId::from_wire(value).map(Some).ok_or(PacketError::Malformed(what)),
    }
}

/// A packet's length, as its prefix.
fn prefix(len: usize) -> u32 {
    u32::try_from(len).expect("packets are bounded by the frame limit, far below 4 GiB")
}
