//! BookKeeper's wire protocols (versions 2 and 3), the layout of an entry, and the records in the metadata store.
//!
//! Called by the bookie, by the ledger client and by the bookie directory. It must never know what a ledger's state is or
//! whether a quorum was reached: it only turns bytes into requests, responses and records.

pub mod bookie_id;
pub mod code;
pub mod cookie;
pub mod entry;
pub mod frame;
pub mod metadata_format;
pub mod paths;
pub mod underreplication;
pub mod v2;
pub mod v3;

pub use bookie_id::{BookieId, InvalidBookieId};
pub use code::Code;
pub use entry::master_key;
