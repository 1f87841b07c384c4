//! Records that BookKeeper keeps in the metadata store: ledger metadata and a bookie's registration.
//!
//! Called by the ledger client, the bookie's registration and garbage collection. It must never know how the store is
//! reached, nor decide about a ledger's state.

mod ledger_metadata;

pub use generated::{
    BookieServiceInfoFormat, LedgerMetadataFormat, bookie_service_info_format, ledger_metadata_format,
};
pub use ledger_metadata::{LedgerMetadata, LedgerMetadataError, LedgerState};

/// The endpoint protocol by which clients find the port that speaks BookKeeper's protocols.
pub const BOOKIE_RPC_PROTOCOL: &str = "bookie-rpc";

#[expect(missing_docs, reason = "generated; the schema says what there is to say")]
#[allow(
    clippy::all,
    clippy::pedantic,
    unreachable_pub,
    unused_qualifications,
    rustdoc::all,
    reason = "generated"
)]
mod generated {
    include!(concat!(env!("OUT_DIR"), "/magnetar.ledger_metadata.rs"));
}
