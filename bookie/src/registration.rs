//! Keeps the bookie announced in the metadata store while it serves, and takes it off at the end.

use std::time::Duration;

use magnetar_common::bookies::{self, ServiceInfo};
use magnetar_common::clock::SharedClock;
use magnetar_common::metadata::{Lease, MetadataError, SharedMetadata};
use magnetar_proto::bookkeeper::BookieId;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// Pause before the next try when the metadata store cannot be reached: short against a lease, long against its load.
const RETRY: Duration = Duration::from_secs(1);

/// A live announcement.
pub(crate) struct Registration {
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

#[derive(Clone)]
pub(crate) struct Announcement {
    pub(crate) metadata: SharedMetadata,
    pub(crate) clock: SharedClock,
    pub(crate) bookie: BookieId,
    pub(crate) service: ServiceInfo,
    pub(crate) ttl: Duration,
}

impl Announcement {
    /// Announces the bookie under a new lease.
    async fn register(&self) -> Result<Lease, MetadataError> {
        let lease = self.metadata.grant_lease(self.ttl).await?;
        bookies::register(&self.metadata, &self.bookie, &self.service, lease.id()).await?;
        Ok(lease)
    }

    /// Announces the bookie, and again whenever its lease is lost, until stopped.
    pub(crate) async fn start(self) -> Result<Registration, MetadataError> {
        let lease = self.register().await?;
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(self.keep(lease, stopped));
        Ok(Registration { stop, task })
    }

    async fn keep(self, mut lease: Lease, mut stopped: oneshot::Receiver<()>) {
        loop {
            tokio::select! {
                _ = &mut stopped => {
                    lease.revoke().await;
                    return;
                }
                () = lease.lost() => {}
            }
            tracing::warn!(bookie = %self.bookie, "the registration was lost; registering again");
            lease = loop {
                match self.register().await {
                    Ok(lease) => break lease,
                    Err(error) => {
                        tracing::warn!(bookie = %self.bookie, %error, "cannot register; trying again")
                    }
                }
                tokio::select! {
                    _ = &mut stopped => return,
                    () = self.clock.sleep(RETRY) => {}
                }
            };
        }
    }
}

impl Registration {
    /// Takes the bookie off the list; returns when that is done or the metadata store gave up.
    pub(crate) async fn stop(self) {
        // A receiver that is gone means that the task has ended already.
        let _ = self.stop.send(());
        let _ = self.task.await;
    }
}
