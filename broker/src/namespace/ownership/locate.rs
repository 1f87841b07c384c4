//! Lookups: who serves a topic, and who is to serve it if nobody does.

use std::collections::BTreeMap;
use std::sync::PoisonError;
use std::time::Duration;

use futures_util::future::BoxFuture;
use magnetar_common::bundles::BundleRange;
use magnetar_common::layout;
use magnetar_common::metadata::Value;
use magnetar_common::topic_name::{NamespaceName, TopicName};

use super::boundaries::Cut;
use super::cluster::Cluster;
use super::record::{BrokerRecord, BundleOwner};
use super::table::{Bundle, State};
use super::{Asked, Located, Owner, Ownership};
use crate::balance::Candidate;
use crate::namespace::error::StoreError;

/// How long a lookup waits for a bundle that changes hands: well below the 30 s after which clients give up, and longer than
/// a lease.
const LOCATE_MAX: Duration = Duration::from_secs(10);
/// How long a request for a topic that is being handed over is held back, so that the client's next lookup finds the new
/// owner.
const SETTLE_MAX: Duration = Duration::from_secs(3);
/// Besides hearing of changes, look again this often.
const LOOK_AGAIN: Duration = Duration::from_millis(250);

/// Records read at a time.
const PAGE: usize = 1_000;

/// What one look at a bundle tells.
enum Look {
    Found(Located),
    /// Somebody gives it up, or is dead: wait for a change.
    Wait(&'static str),
    /// It has changed meanwhile.
    Again,
}

impl Ownership for Cluster {
    fn locate<'a>(
        &'a self,
        topic: &'a TopicName,
        asked: Asked<'a>,
    ) -> BoxFuture<'a, Result<Located, StoreError>> {
        Box::pin(self.find(topic, asked))
    }

    fn is_owned(&self, topic: &TopicName) -> bool {
        let state = self.table.find(topic.namespace(), topic.bundle_hash());
        state == Some(State::Serving) && self.is_in_session()
    }

    fn settled<'a>(&'a self, topic: &'a TopicName) -> BoxFuture<'a, ()> {
        Box::pin(async {
            let mut changes = self.table.changes();
            let settled = async {
                while self.table.find(topic.namespace(), topic.bundle_hash()) == Some(State::Releasing) {
                    if changes.changed().await.is_err() {
                        return;
                    }
                }
            };
            tokio::select! {
                () = settled => {}
                () = self.clock.sleep(SETTLE_MAX) => {}
            }
        })
    }

    fn is_shared(&self) -> bool {
        true
    }
}

impl Cluster {
    async fn find(&self, topic: &TopicName, asked: Asked<'_>) -> Result<Located, StoreError> {
        let end = self.clock.now() + LOCATE_MAX;
        loop {
            let (mut held, mut owners) = (self.table.changes(), self.owners.subscribe());
            let waits_for = match self.look(topic, asked).await? {
                Look::Found(located) => return Ok(located),
                Look::Wait(reason) => reason,
                Look::Again if self.clock.now() < end => continue,
                Look::Again => "it keeps changing hands",
            };
            if self.clock.now() >= end {
                return Err(StoreError::Unplaced(format!(
                    "nobody serves the bundle of {topic} yet ({waits_for}); look it up again"
                )));
            }
            tokio::select! {
                _ = held.changed() => {}
                _ = owners.changed() => {}
                () = self.clock.sleep(LOOK_AGAIN) => {}
            }
        }
    }

    async fn look(&self, topic: &TopicName, asked: Asked<'_>) -> Result<Look, StoreError> {
        let (namespace, hash) = (topic.namespace(), topic.bundle_hash());
        match self.table.find(namespace, hash) {
            Some(State::Serving) if self.is_in_session() => {
                return Ok(Look::Found(Located::Serves(self.record.owner(asked.listener)?)));
            }
            Some(State::Serving) => return Ok(Look::Wait("its broker asks whether it still has it")),
            Some(State::Releasing) => return Ok(Look::Wait("its broker hands it over")),
            None => {}
        }
        let cut = self.boundaries.get(namespace).await?;
        let bundle = (namespace.clone(), cut.bundles.of_hash(hash));
        let key = layout::bundle_owner(&bundle.0, bundle.1);
        let Some(found) = self.metadata.get(&key).await? else {
            return self.place(bundle, &cut, asked).await;
        };
        let corrupt = |error: serde_json::Error| StoreError::Corrupt { key, reason: error.to_string() };
        let record: BundleOwner = serde_json::from_slice(&found.bytes).map_err(corrupt)?;
        let left_by_us = found.lease.is_some() && found.lease == *self.session.borrow();
        if record.disabled && !left_by_us {
            return Ok(Look::Wait("its broker hands it over"));
        }
        if found.bytes == self.owner_json || left_by_us {
            // Ours, though we do not serve it: of an earlier process here, or a claim whose answer was lost.
            if self.draining.is_given() || !self.is_in_session() {
                return Ok(Look::Wait("its broker is not ready for it"));
            }
            self.adopt(&bundle).await?;
            return Ok(Look::Again);
        }
        if !self.probe.is_listening(&record.native_url).await {
            return Ok(Look::Wait("its broker is gone and its lease has not ended yet"));
        }
        Ok(Look::Found(Located::Serves(record.owner(asked.listener)?)))
    }

    /// Who has the bundle; `None` if nobody has.
    pub async fn owner_of(
        &self,
        namespace: &NamespaceName,
        range: BundleRange,
    ) -> Result<Option<Owner>, StoreError> {
        let key = layout::bundle_owner(namespace, range);
        let Some(found) = self.metadata.get(&key).await? else { return Ok(None) };
        let corrupt = |error: serde_json::Error| StoreError::Corrupt { key, reason: error.to_string() };
        let record: BundleOwner = serde_json::from_slice(&found.bytes).map_err(corrupt)?;
        record.owner(None).map(Some)
    }

    /// `tenant/namespace/range` of every bundle that somebody has, with the HTTP address of that broker.
    pub async fn owners(&self) -> Result<BTreeMap<String, String>, StoreError> {
        let prefix = format!("{}/", layout::BUNDLE_OWNERS);
        let mut owners = BTreeMap::new();
        let mut after: Option<String> = None;
        loop {
            let page = self.metadata.scan(&prefix, after.as_deref(), PAGE).await?;
            after = page.last().map(|(key, _)| key.clone());
            if page.is_empty() {
                return Ok(owners);
            }
            let entry = |(key, value): (String, Value)| {
                let record: BundleOwner = serde_json::from_slice(&value.bytes).ok()?;
                Some((key.strip_prefix(&prefix)?.to_owned(), record.http_url))
            };
            owners.extend(page.into_iter().filter_map(entry));
        }
    }

    /// Nobody has the bundle: the leader says who is to, and that one claims it.
    async fn place(&self, bundle: Bundle, cut: &Cut, asked: Asked<'_>) -> Result<Look, StoreError> {
        if !self.draining.is_given() && !self.is_in_session() {
            return Ok(Look::Wait("this broker is taking another lease"));
        }
        if asked.authoritative && !self.draining.is_given() {
            self.claim(&bundle, cut).await?;
            return Ok(Look::Again);
        }
        let leader = self.current_leader().await?;
        let brokers = self.directory.now();
        let other = leader.filter(|leader| leader != self.id());
        if let Some(record) = other.and_then(|leader| brokers.get(&leader))
            && self.probe.is_listening(&record.pulsar_service_url).await
        {
            let broker = record.owner(asked.listener)?;
            return Ok(Look::Found(Located::Ask { broker, authoritative: false }));
        }
        self.assign(bundle, cut, asked).await
    }

    async fn assign(&self, bundle: Bundle, cut: &Cut, asked: Asked<'_>) -> Result<Look, StoreError> {
        let brokers = self.directory.now();
        let mut candidates = self.candidates(&bundle).await?;
        let now = self.clock.now();
        let name = format!("{}/{}", bundle.0, bundle.1);
        while !candidates.is_empty() {
            let picked = self.placement().pick(now, &name, &candidates);
            let Some(picked) = picked else { break };
            if picked == self.id() {
                self.claim(&bundle, cut).await?;
                return Ok(Look::Again);
            }
            let record: Option<&BrokerRecord> = brokers.get(&picked);
            if let Some(record) = record
                && self.probe.is_listening(&record.pulsar_service_url).await
            {
                let broker = record.owner(asked.listener)?;
                return Ok(Look::Found(Located::Ask { broker, authoritative: true }));
            }
            self.placement().forget(&name);
            candidates.retain(|candidate| candidate.id != picked);
        }
        Ok(Look::Wait("no broker can take it"))
    }

    /// The brokers that may have the bundle.
    pub(super) async fn candidates(&self, bundle: &Bundle) -> Result<Vec<Candidate>, StoreError> {
        let brokers = self.directory.now();
        let mut candidates: Vec<Candidate> = brokers.values().map(Candidate::from).collect();
        if self.draining.is_given() {
            candidates.retain(|candidate| candidate.id != self.id());
        } else if !brokers.contains_key(self.id()) {
            candidates.push(Candidate::from(&self.record));
        }
        let isolation = self.isolation().await?;
        let there: Vec<String> = candidates.iter().map(|candidate| candidate.id.clone()).collect();
        let there = there.iter().map(String::as_str);
        candidates.retain(|candidate| isolation.may(bundle.0.as_str(), &candidate.id, there.clone()));
        Ok(candidates)
    }

    pub(super) fn placement(&self) -> std::sync::MutexGuard<'_, crate::balance::Placement> {
        self.placement.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
