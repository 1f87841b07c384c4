//! Leases: what ephemeral keys live by.

use std::fmt;
use tokio::sync::watch;

/// Names a lease within its store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LeaseId(pub i64);

/// A lease that its store keeps alive. Dropping it gives up the lease and removes its keys soon.
pub struct Lease {
    id: LeaseId,
    lost: watch::Receiver<bool>,
    on_drop: Option<Box<dyn FnOnce() + Send + Sync>>,
}

impl Lease {
    /// For implementations of a store: `lost` turns true when the lease has ended, `on_drop` gives it up.
    pub fn new(
        id: LeaseId,
        lost: watch::Receiver<bool>,
        on_drop: impl FnOnce() + Send + Sync + 'static,
    ) -> Self {
        Self { id, lost, on_drop: Some(Box::new(on_drop)) }
    }

    /// Its name, for [`put_ephemeral`](super::MetadataStore::put_ephemeral).
    pub fn id(&self) -> LeaseId {
        self.id
    }

    /// Gives up the lease and returns once its keys are gone. Dropped half-way, it still gives up.
    pub async fn revoke(mut self) {
        if let Some(give_up) = self.on_drop.take() {
            give_up();
        }
        self.lost().await;
    }

    /// Resolves once the lease has ended, for whatever reason. Cancel-safe.
    pub async fn lost(&self) {
        // An error means that the store itself is gone, and the lease with it.
        let _ = self.lost.clone().wait_for(|lost| *lost).await;
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Lease({})", self.id.0)
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(give_up) = self.on_drop.take() {
            give_up();
        }
    }
}
