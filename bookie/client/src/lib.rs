//! The replicated ledger: an append-only sequence of entries with one writer, kept by a quorum of bookies.
//!
//! Called by the broker for every topic and cursor. It must never know what a payload means. The rules of the protocol
//! (quorums, fencing, recovery, ensemble changes) are plain state machines in [`protocol`]; everything else here is the
//! thin shell that gives them sockets, metadata and time. Any bookie that speaks BookKeeper's protocol version 2 serves.
#![warn(missing_docs)]

mod asking;
mod bad_replicas;
mod client;
mod config;
mod connection;
mod draft;
mod ensemble_change;
mod error;
mod fetching;
mod health;
mod ids;
mod info;
mod metadata;
pub mod placement;
mod pool;
pub mod protocol;
mod read_ahead;
mod reader;
mod recovery;
pub mod replication;
mod sending;
mod view;
mod writer;

pub use bad_replicas::{BadReplica, BadReplicaReport};
pub use client::{Client, LedgerOptions};
pub use config::ClientConfig;
pub use draft::Draft;
pub use error::{AppendError, LedgerError};
pub use reader::Reader;
pub use writer::{ClosedLedger, Event, Writer};
