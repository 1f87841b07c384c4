//! Giving bundles up: one for a move or an operator, all of them at the end.

use std::time::Duration;

use futures_util::stream::{self, StreamExt};
use magnetar_common::bundles::BundleRange;
use magnetar_common::layout;
use magnetar_common::metadata::{Expect, MetadataError, Version};
use magnetar_common::topic_name::NamespaceName;

use super::cluster::Cluster;
use super::record::{BrokerRecord, BundleOwner};
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
    #[error("{0} is no broker here; name one of `brokers list`")]
    NoSuchBroker(String),
    #[error("broker {1} did not take bundle {0}, which is free for any other; try again")]
    NotTaken(String, String),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What became of a bundle that was to be given up.
enum Released {
    /// This broker does not serve it.
    NotHere,
    /// Nobody has it.
    Free,
    /// The next owner has it.
    HandedOver,
}

impl Cluster {
    /// Closes the bundle's topics and hands it to the broker `destination`, or to one of its own choice, and sends the clients
    /// there. If that one does not take it the bundle is free, and clients look their topics up; with a destination that is
    /// an error. Lookups wait meanwhile.
    pub async fn unload(
        &self,
        namespace: &NamespaceName,
        range: BundleRange,
        destination: Option<&str>,
    ) -> Result<(), BundleError> {
        let bundle = (namespace.clone(), range);
        let destination = match destination {
            Some(id) => {
                let known = self.directory.now().get(id).cloned();
                Some(known.ok_or_else(|| BundleError::NoSuchBroker(id.to_owned()))?)
            }
            None => None,
        };
        match self.release(&bundle, destination.clone()).await? {
            Released::NotHere => Err(BundleError::NotHere(format!("{namespace}/{range}"))),
            Released::Free => match destination {
                Some(broker) => Err(BundleError::NotTaken(format!("{namespace}/{range}"), broker.broker_id)),
                None => Ok(()),
            },
            Released::HandedOver => Ok(()),
        }
    }

    /// Claims a bundle that nobody has.
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
            if let Err(error) = self.release(&bundle, None).await {
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

    async fn release(&self, bundle: &Bundle, next: Option<BrokerRecord>) -> Result<Released, StoreError> {
        if !self.table.begin_release(bundle) {
            return Ok(Released::NotHere);
        }
        let _turn = self.turn(bundle).await;
        // It was split while this waited: the parts stay.
        if self.table.state(bundle).is_none() {
            return Ok(Released::NotHere);
        }
        // While the topics are still served: nothing but what must be done comes between their end here and their return.
        let next = match next {
            Some(next) => Some(next),
            None => self.successor(bundle).await,
        };
        let close = async {
            match self.topics() {
                Some(topics) => topics.close_bundle(&bundle.0, bundle.1).await,
                None => Vec::new(),
            }
        };
        // Meanwhile other brokers' lookups wait instead of sending clients here.
        let (mut closed, told) = tokio::join!(close, self.tell_handover(bundle));
        let version = told.unwrap_or_else(|error| {
            tracing::debug!(namespace = %bundle.0, range = %bundle.1, %error, "announce a hand-over");
            None
        });
        if let (Some(version), Some(next)) = (version, next) {
            match self.hand_to(bundle, version, &mut closed, &next).await {
                Ok(()) => {
                    self.table.remove(bundle);
                    tracing::info!(namespace = %bundle.0, range = %bundle.1, to = next.broker_id, "handed this bundle over");
                    return Ok(Released::HandedOver);
                }
                Err(error) => {
                    tracing::warn!(namespace = %bundle.0, range = %bundle.1, to = next.broker_id, error, "was not taken over");
                }
            }
        }
        let freed = self.free(bundle).await;
        // Its topics are closed: even if the record is still there, this broker does not serve it any more.
        self.table.remove(bundle);
        tracing::info!(namespace = %bundle.0, range = %bundle.1, "this bundle is free");
        freed.map(|()| Released::Free)
    }

    /// Marks the record; `None` if it is not this broker's.
    async fn tell_handover(&self, bundle: &Bundle) -> Result<Option<Version>, StoreError> {
        let key = layout::bundle_owner(&bundle.0, bundle.1);
        let lease = *self.session.borrow();
        let (Some(lease), Some(found)) = (lease, self.metadata.get(&key).await?) else { return Ok(None) };
        if found.lease != Some(lease) {
            return Ok(None);
        }
        let record = BundleOwner { disabled: true, ..self.record.bundle_owner() };
        let json = serde_json::to_vec(&record).map_err(|error| StoreError::Invalid(error.to_string()))?;
        let expect = Expect::Version(found.version);
        Ok(Some(self.metadata.put_ephemeral(&key, json.into(), expect, lease).await?))
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
