//! Keeps the bookie announced in the metadata store while it serves, as writable or read-only, and takes it off at the
//! end. It must never say writable while the engine refuses adds for longer than one write to the store takes.

use std::time::Duration;

use magnetar_common::bookies::{self, ServiceInfo};
use magnetar_common::clock::SharedClock;
use magnetar_common::metadata::{Lease, MetadataError, SharedMetadata};
use magnetar_proto::bookkeeper::BookieId;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;

use crate::engine::Mode;

/// Pause before the next try when the metadata store cannot be reached: short against a lease, long against its load.
const RETRY: Duration = Duration::from_secs(1);

/// A live announcement.
pub(crate) struct Registration {
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

pub(crate) struct Announcement {
    pub(crate) metadata: SharedMetadata,
    pub(crate) clock: SharedClock,
    pub(crate) bookie: BookieId,
    pub(crate) service: ServiceInfo,
    pub(crate) ttl: Duration,
    pub(crate) mode: watch::Receiver<Mode>,
}

impl Announcement {
    /// Announces the bookie under a lease, as its mode is now.
    async fn announce(&mut self, lease: &Lease) -> Result<(), MetadataError> {
        let read_only = self.mode.borrow_and_update().is_read_only();
        let (metadata, bookie, service) = (&self.metadata, &self.bookie, &self.service);
        if read_only {
            bookies::register_read_only(metadata, bookie, service, lease.id()).await
        } else {
            bookies::register(metadata, bookie, service, lease.id()).await
        }
    }

    /// Announces the bookie under a new lease.
    async fn register(&mut self) -> Result<Lease, MetadataError> {
        let lease = self.metadata.grant_lease(self.ttl).await?;
        self.announce(&lease).await?;
        Ok(lease)
    }

    /// Announces the bookie, and again whenever its mode changes or its lease is lost, until stopped.
    pub(crate) async fn start(mut self) -> Result<Registration, MetadataError> {
        let lease = self.register().await?;
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(self.keep(lease, stopped));
        Ok(Registration { stop, task })
    }

    async fn keep(mut self, mut lease: Lease, mut stopped: oneshot::Receiver<()>) {
        loop {
            let mut mode = self.mode.clone();
            tokio::select! {
                _ = &mut stopped => {
                    lease.revoke().await;
                    return;
                }
                Ok(()) = mode.changed() => match self.announce(&lease).await {
                    Ok(()) => {
                        let mode = *self.mode.borrow();
                        tracing::info!(bookie = %self.bookie, %mode, "announced");
                        continue;
                    }
                    // Whatever became of it: a new announcement under a new lease replaces it.
                    Err(error) => tracing::warn!(bookie = %self.bookie, %error, "cannot announce the changed mode"),
                },
                () = lease.lost() => {}
            }
            tracing::warn!(bookie = %self.bookie, "registering again");
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
