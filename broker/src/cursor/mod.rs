//! What a subscription has acknowledged, and keeping that durable.
//!
//! Called by the topic actor: [`Cursor`] is the state, without IO; [`CursorStore`] writes snapshots of it to a ledger.
//! It must never know of consumers, dispatch or the wire: positions and bit sets come in, a mark-delete comes out.

mod batches;
mod codec;
mod error;
mod head;
mod ranges;
mod record;
mod snapshot;
mod state;
mod store;
mod taking;

#[cfg(test)]
mod model_tests;
#[cfg(test)]
mod store_tests;

pub use crate::managed_ledger::MarkDelete;
pub use error::CursorError;
pub use ranges::AckedRange;
pub use snapshot::Snapshot;
pub use state::{AckOutcome, Cursor};
pub use store::{CursorStore, StoredCursor};
pub use taking::TakenOver;
