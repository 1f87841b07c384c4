//! From one owner straight to the next: the bundle's topics are open at the next broker before their clients hear of it, and the
//! clients are told its address.
//!
//! The steps: the old owner closes the topics and marks its record as being handed over; the next one puts its own record
//! in its place, opens the topics, and answers; the old owner sends the clients there. Whatever goes wrong, the old owner
//! frees the bundle and the clients look their topics up.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::future::BoxFuture;
use magnetar_common::bundles::BundleRange;
use magnetar_common::layout;
use magnetar_common::metadata::{Expect, MetadataError, Op, Version};
use magnetar_common::topic_name::{NamespaceName, TopicName};
use serde::{Deserialize, Serialize};

use super::cluster::Cluster;
use super::record::{BrokerRecord, BundleOwner};
use super::release::BundleError;
use super::table::{Bundle, State};
use crate::namespace::error::StoreError;
use crate::topic::Departed;

/// How long the next owner may take, its topics included. They wait meanwhile; when it is over they are looked up.
const TAKE_OVER_MAX: Duration = Duration::from_secs(3);

/// The next owner answers by then, whether its topics are open or not: below [`TAKE_OVER_MAX`].
const LOAD_MAX: Duration = Duration::from_secs(2);

/// Topics named to the next owner; it opens the others when their clients ask.
const NAMED_MAX: usize = 2_000;

/// Looks at boundaries that another broker is changing.
const TRIES: usize = 3;

/// What the next owner is told.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HandOver {
    /// Of the old owner's record of the bundle, which says that it is being handed over.
    version: u64,
    /// The topics that were in memory, and whether somebody published to them.
    topics: BTreeMap<String, bool>,
}

/// The way to other brokers.
pub trait Neighbours: Send + Sync + 'static {
    /// Has the broker take the bundle over. An error says why it did not, or that nobody knows.
    fn take_over<'a>(
        &'a self,
        broker: &'a BrokerRecord,
        namespace: &'a NamespaceName,
        range: BundleRange,
        request: &'a HandOver,
    ) -> BoxFuture<'a, Result<(), String>>;
}

fn is_being_handed_over(record: &[u8]) -> bool {
    serde_json::from_slice(record).is_ok_and(|record: BundleOwner| record.disabled)
}

impl Cluster {
    /// Takes a bundle that its owner hands over, and opens its topics. Returns when they are open, or after two seconds.
    pub async fn take_over(
        &self,
        namespace: &NamespaceName,
        range: BundleRange,
        request: HandOver,
    ) -> Result<(), BundleError> {
        let bundle = (namespace.clone(), range);
        self.replace_owner(&bundle, Version(request.version)).await?;
        let Some(topics) = self.topics() else { return Ok(()) };
        let of_bundle = |(name, writable): (String, bool)| {
            let topic: TopicName = name.parse().ok()?;
            (topic.namespace() == namespace && range.contains(topic.bundle_hash()))
                .then_some((topic, writable))
        };
        let named = request.topics.into_iter().filter_map(of_bundle);
        tokio::select! {
            () = topics.load_ahead(named) => {}
            () = self.clock.sleep(LOAD_MAX) => {}
        }
        Ok(())
    }

    async fn replace_owner(&self, bundle: &Bundle, version: Version) -> Result<(), BundleError> {
        let _turn = self.turn(bundle).await;
        let name = || format!("{}/{}", bundle.0, bundle.1);
        let key = layout::bundle_owner(&bundle.0, bundle.1);
        let boundaries = layout::local_policies(&bundle.0);
        for _ in 0..TRIES {
            if self.table.state(bundle) == Some(State::Serving) {
                return Ok(());
            }
            if self.draining.is_given() {
                return Err(BundleError::NotHere(name()));
            }
            let lease = self.lease()?;
            // A late request must not take the bundle from somebody who has it by now.
            let found = self.metadata.get(&key).await.map_err(StoreError::from)?;
            if !found.is_some_and(|found| found.version == version && is_being_handed_over(&found.bytes)) {
                return Err(BundleError::NotHere(name()));
            }
            let cut = self.boundaries.get(&bundle.0).await?;
            if !cut.bundles.has(bundle.1) {
                self.boundaries.forget(&bundle.0);
                return Err(BundleError::Unknown(bundle.1, bundle.0.clone()));
            }
            let check = Op::Check { key: boundaries.clone(), expect: Expect::Version(cut.version) };
            let put = Op::Put {
                key: key.clone(),
                value: self.owner_json.clone(),
                expect: Expect::Version(version),
                lease: Some(lease),
            };
            match self.metadata.transact(vec![check, put]).await {
                Ok(_) => {
                    tracing::info!(namespace = %bundle.0, range = %bundle.1, "took this bundle over");
                    self.table.serve(bundle);
                    return Ok(());
                }
                Err(MetadataError::Conflict { key }) if key == boundaries => {
                    self.boundaries.forget(&bundle.0);
                }
                Err(MetadataError::Conflict { .. }) => return Err(BundleError::NotHere(name())),
                Err(error) => return Err(StoreError::from(error).into()),
            }
        }
        Err(StoreError::Contended(format!("bundle {}", name())).into())
    }

    /// Has `next` take the bundle, whose record here has this version, and sends the clients there. On an error they have
    /// been told to look their topics up once the bundle is free.
    pub(super) async fn hand_to(
        &self,
        bundle: &Bundle,
        version: Version,
        closed: &mut Vec<(TopicName, Departed)>,
        next: &BrokerRecord,
    ) -> Result<(), String> {
        let Some(neighbours) = self.neighbours() else { return Err("this broker is ending".into()) };
        let named = closed.iter().take(NAMED_MAX);
        let topics = named.map(|(topic, departed)| (topic.as_str().to_owned(), departed.has_producers()));
        let request = HandOver { version: version.0, topics: topics.collect() };
        tokio::select! {
            taken = neighbours.take_over(next, &bundle.0, bundle.1, &request) => taken?,
            () = self.clock.sleep(TAKE_OVER_MAX) => return Err(format!("no answer within {TAKE_OVER_MAX:?}")),
        }
        for (_, departed) in closed.drain(..) {
            // With listeners a client has its own address for that broker, which its lookup tells.
            if next.advertised_listeners.is_empty() {
                departed.send_to(&next.pulsar_service_url);
            }
        }
        Ok(())
    }

    /// Who is to have a bundle that this broker gives up; `None` if there is nobody else.
    pub(super) async fn successor(&self, bundle: &Bundle) -> Option<BrokerRecord> {
        let brokers = self.directory.now();
        let candidates = self.candidates(bundle).await;
        let mut candidates =
            candidates.inspect_err(|error| tracing::debug!(%error, "choose a successor")).ok()?;
        candidates.retain(|candidate| candidate.id != self.id());
        let name = format!("{}/{}", bundle.0, bundle.1);
        while !candidates.is_empty() {
            let picked = self.placement().pick(self.clock.now(), &name, &candidates)?;
            if let Some(record) = brokers.get(&picked)
                && self.probe.is_listening(&record.pulsar_service_url).await
            {
                return Some(record.clone());
            }
            self.placement().forget(&name);
            candidates.retain(|candidate| candidate.id != picked);
        }
        None
    }
}
