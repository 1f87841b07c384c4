//! The lease under which a process holds its locks and, if it is elected, the auditor's office.

use magnetar_common::clock::SharedClock;
use magnetar_common::metadata::{Lease, LeaseId, MetadataError, SharedMetadata};
use std::time::Duration;

/// Between attempts to be granted a lease.
const RETRY: Duration = Duration::from_secs(2);

/// A lease that is granted anew when it was lost.
pub(crate) struct Session {
    store: SharedMetadata,
    clock: SharedClock,
    ttl: Duration,
    lease: Option<Lease>,
}

impl Session {
    pub(crate) fn new(store: SharedMetadata, clock: SharedClock, ttl: Duration) -> Self {
        Self { store, clock, ttl, lease: None }
    }

    /// A lease that was alive a moment ago; waits for as long as the store grants none.
    pub(crate) async fn lease(&mut self) -> LeaseId {
        loop {
            match self.try_lease().await {
                Ok(lease) => return lease,
                Err(error) => {
                    tracing::warn!(%error, "no lease for re-replication; trying again");
                    self.clock.sleep(RETRY).await;
                }
            }
        }
    }

    async fn try_lease(&mut self) -> Result<LeaseId, MetadataError> {
        if let Some(lease) = &self.lease {
            if futures_util::FutureExt::now_or_never(lease.lost()).is_none() {
                return Ok(lease.id());
            }
            self.lease = None;
        }
        let lease = self.store.grant_lease(self.ttl).await?;
        Ok(self.lease.insert(lease).id())
    }

    /// Resolves when the lease is lost; at once when there is none. Cancel-safe.
    pub(crate) async fn lost(&self) {
        if let Some(lease) = &self.lease {
            lease.lost().await;
        }
    }

    /// Gives up whatever is held.
    pub(crate) async fn end(&mut self) {
        if let Some(lease) = self.lease.take() {
            lease.revoke().await;
        }
    }
}
