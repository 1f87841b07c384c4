//! An operator's wish that ledgers be looked for now. It shortens no proof: a ledger still is found absent twice, the
//! grace period apart.

use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::Notify;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Asked {
    pending: AtomicBool,
    changed: Notify,
}

impl Asked {
    /// A sweep begins soon, and logs are looked at after it. Idempotent.
    pub(crate) fn ask(&self) {
        self.pending.store(true, Ordering::Relaxed);
        self.changed.notify_one();
    }

    /// Whether a sweep that was asked for has not ended.
    pub(crate) fn is_pending(&self) -> bool {
        self.pending.load(Ordering::Relaxed)
    }

    /// A sweep has ended.
    pub(super) fn done(&self) {
        self.pending.store(false, Ordering::Relaxed);
    }

    /// Waits for the next wish. Cancel-safe.
    pub(super) async fn next(&self) {
        self.changed.notified().await;
    }
}
