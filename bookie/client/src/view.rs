//! What readers of a ledger go by: where entries are, and how far they may be read.

use magnetar_proto::bookkeeper::metadata_format::LedgerMetadata;
use magnetar_proto::ids::EntryId;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

/// Written by the ledger's writer while there is one in this process, read by readers.
pub(crate) struct View {
    record: RwLock<Arc<LedgerMetadata>>,
    /// The last entry that may be read, as on the wire; only rises.
    last_entry: AtomicI64,
    /// Payload bytes up to it.
    length: AtomicU64,
}

impl View {
    pub(crate) fn new(record: LedgerMetadata, last_entry: Option<EntryId>, length: u64) -> Self {
        Self {
            record: RwLock::new(Arc::new(record)),
            last_entry: AtomicI64::new(EntryId::option_to_wire(last_entry)),
            length: AtomicU64::new(length),
        }
    }

    pub(crate) fn record(&self) -> Arc<LedgerMetadata> {
        self.record.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn set_record(&self, record: LedgerMetadata) {
        *self.record.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(record);
    }

    pub(crate) fn last_entry(&self) -> Option<EntryId> {
        EntryId::from_wire(self.last_entry.load(Ordering::Acquire))
    }

    pub(crate) fn length(&self) -> u64 {
        self.length.load(Ordering::Relaxed)
    }

    pub(crate) fn advance(&self, last_entry: EntryId, length: u64) {
        self.length.store(length, Ordering::Relaxed);
        self.last_entry.store(last_entry.to_wire(), Ordering::Release);
    }
}
