//! Wire and record formats of Apache Pulsar and Apache BookKeeper, as sans-IO codecs: bytes in, typed values out, and back.
//!
//! Called by every other crate: whoever reads a socket, a ledger or a metadata record. It must never know about sockets,
//! files, clocks, tasks or any state of a broker or bookie; a value decoded here is well-formed, not necessarily true.
//!
//! Two rules hold for all decoders: whatever the bytes are the result is a value or an error, never a panic, and no length
//! field makes them allocate more than the caller's limit. Payloads are never copied: they come out as slices of the buffer.
#![warn(missing_docs)]

pub mod bookkeeper;
pub mod checksum;
pub mod ids;
pub mod pulsar;
mod read_buffer;

pub use bytes;
pub use prost;
