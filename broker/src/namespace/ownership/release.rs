//! Giving bundles up: one for a move or an operator, all of them at the end.

use std::time::Duration;

use futures_util::stream::{self, StreamExt};
use magnetar_common::bundles::BundleRange;
use magnetar_common::layout;
use magnetar_common::metadata::{Expect, MetadataError};
use magnetar_common::topic_name::NamespaceName;

use super::cluster::Cluster;
use super::record::BundleOwner;
use super::table::{Bundle, State};
use crate::namespace::error::StoreError;

/// Bundles handed over at a time at the end.
const AT_A_TIME: usize = 32;

/// Between two tries to free a bundle while the store cannot be reached.
const RETRY: Duration = Duration::from_millis(300);

/// Why a bundle was not released or split.
#[derive(Clone, Debug, thiserror::Error)]
pub enum BundleError {
    #[error("bundle {0} is not served by this broker; ask its owner")]
    NotHere(String),
    #[error("{0} is no bundle of namespace {1}; list its bundles again")]
    Unknown(BundleRange, NamespaceName),
    #[error("bundle {0} cannot be split there; name a boundary inside it")]
    NoSuchBoundary(String),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Cluster {
    /// Closes the bundle's topics, whose clients look them up again, then frees the bundle. Lookups wait meanwhile.
    pub async fn unload(&self, namespace: &NamespaceName, range: BundleRange) -> Result<(), BundleError> {
        let bundle = (namespace.clone(), range);
        if !self.release(&bundle).await? {
            return Err(BundleError::NotHere(format!("{namespace}/{range}")));
        }
        Ok(())
    }

    /// Claims a bundle that its last owner wants here.
    pub async fn acquire(&self, namespace: &NamespaceName, range: BundleRange) -> Result<(), BundleError> {
        let cut = self.boundaries.get(namespace).await?;
        if !cut.bundles.has(range) {
            self.boundaries.forget(namespace);
            return Err(BundleError::Unknown(range, namespace.clone()));
        }
        let bundle = (namespace.clone(), range);
        self.claim(&bundle, &cut).await?;
        match self.table.state(&bundle) {
            Some(State::Serving) => Ok(()),
            _ => Err(BundleError::NotHere(format!("{namespace}/{range}"))),
        }
    }

    /// Takes no bundle any more, leaves the list of brokers, hands over everything, and ends the lease. What cannot be told to
    /// the metadata store is free when the lease ends.
    pub async fn drain(&self) {
        self.draining.give();
        // Before the bundles: nobody shall be sent here for the next one.
        let sign_off = [layout::broker(self.id()), layout::LEADER_BROKER.to_owned()];
        for (index, key) in sign_off.iter().enumerate() {
            if index > 0 && !self.is_leader() {
                continue;
            }
            if let Err(error) = self.metadata.delete(key, Expect::Any).await {
                tracing::debug!(key, %error, "sign off");
            }
        }
        let release = |bundle: Bundle| async move {
            if let Err(error) = self.release(&bundle).await {
                tracing::warn!(namespace = %bundle.0, range = %bundle.1, %error, "free a bundle; its lease will");
            }
        };
        stream::iter(self.table.all()).for_each_concurrent(AT_A_TIME, release).await;
    }

    /// Ends the lease and the tasks. Resolves once the lease is gone, or the store was asked in vain.
    pub async fn stop(&self) {
        let mut session = self.session.subscribe();
        self.stopped.give();
        let _ = session.wait_for(Option::is_none).await;
    }

    /// False if this broker does not serve it.
    async fn release(&self, bundle: &Bundle) -> Result<bool, StoreError> {
        if !self.table.begin_release(bundle) {
            return Ok(false);
        }
        let _turn = self.turn(bundle).await;
        // It was split while this waited: the parts stay.
        if self.table.state(bundle).is_none() {
            return Ok(false);
        }
        let close = async {
            if let Some(topics) = self.topics() {
                topics.close_bundle(&bundle.0, bundle.1).await;
            }
        };
        // Meanwhile other brokers' lookups wait instead of sending clients here.
        let (_, told) = tokio::join!(close, self.tell_handover(bundle));
        if let Err(error) = told {
            tracing::debug!(namespace = %bundle.0, range = %bundle.1, %error, "announce a hand-over");
        }
        let freed = self.free(bundle).await;
        // Its topics are closed: even if the record is still there, this broker does not serve it any more.
        self.table.remove(bundle);
        tracing::info!(namespace = %bundle.0, range = %bundle.1, "this bundle is free");
        freed.map(|()| true)
    }

    async fn tell_handover(&self, bundle: &Bundle) -> Result<(), StoreError> {
        let key = layout::bundle_owner(&bundle.0, bundle.1);
        let lease = *self.session.borrow();
        let (Some(lease), Some(found)) = (lease, self.metadata.get(&key).await?) else { return Ok(()) };
        if found.lease != Some(lease) {
            return Ok(());
        }
        let record = BundleOwner { disabled: true, ..self.record.bundle_owner() };
        let json = serde_json::to_vec(&record).map_err(|error| StoreError::Invalid(error.to_string()))?;
        self.metadata.put_ephemeral(&key, json.into(), Expect::Version(found.version), lease).await?;
        Ok(())
    }

    /// Somebody else's record has another lease: it stays. Tried again for as long as a lease lives, after which etcd has
    /// freed it.
    async fn free(&self, bundle: &Bundle) -> Result<(), StoreError> {
        let end = self.clock.now() + self.lease * 2;
        loop {
            match self.try_to_free(bundle).await {
                Err(MetadataError::Unavailable(reason)) if self.clock.now() < end => {
                    tracing::debug!(reason, "free a bundle: trying again");
                    self.clock.sleep(RETRY).await;
                }
                outcome => return outcome.map_err(StoreError::from),
            }
        }
    }

    async fn try_to_free(&self, bundle: &Bundle) -> Result<(), MetadataError> {
        let key = layout::bundle_owner(&bundle.0, bundle.1);
        let lease = *self.session.borrow();
        let Some(found) = self.metadata.get(&key).await? else { return Ok(()) };
        if found.lease.is_none() || found.lease != lease {
            return Ok(());
        }
        match self.metadata.delete(&key, Expect::Version(found.version)).await {
            Ok(()) | Err(MetadataError::Conflict { .. } | MetadataError::NotFound { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }
}
