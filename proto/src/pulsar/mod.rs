//! Pulsar's binary protocol and the layout of what it stores: frames, commands, entries, message metadata, batches.
//!
//! Called by the broker (server side), by our own test client, and by whoever reads entries. It must never know about
//! sessions: which command is allowed when, and what an id refers to, is the caller's business.

pub mod base64;
pub mod batch;
pub mod command;
pub mod entry;
pub mod frame;
pub mod message;

pub use command::Command;

/// Generated from `schema/pulsar.proto`. Required fields that a peer left out decode to their default value.
#[expect(missing_docs, reason = "generated; the schema says what there is to say")]
#[allow(
    clippy::all,
    clippy::pedantic,
    unreachable_pub,
    unused_qualifications,
    rustdoc::all,
    reason = "generated"
)]
pub mod api {
    include!(concat!(env!("OUT_DIR"), "/magnetar.pulsar.rs"));
}

/// Generated from `schema/managed_ledger.proto`: what managed ledgers and cursors persist.
#[expect(missing_docs, reason = "generated; the schema says what there is to say")]
#[allow(
    clippy::all,
    clippy::pedantic,
    unreachable_pub,
    unused_qualifications,
    rustdoc::all,
    reason = "generated"
)]
pub mod managed_ledger {
    include!(concat!(env!("OUT_DIR"), "/magnetar.managed_ledger.rs"));
}
