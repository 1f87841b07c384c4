//! The election: the broker whose lease holds the leader's key assigns bundles.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use magnetar_common::layout;
use magnetar_common::metadata::{Expect, MetadataError};

use super::cluster::Cluster;
use super::record::LeaderRecord;
use crate::namespace::error::StoreError;

/// Besides hearing of changes, look again this often.
const LOOK_AGAIN: Duration = Duration::from_secs(2);

impl Cluster {
    /// The leader's id as stored now: its key goes with its other keys, so whoever found a bundle freed by a lease's end
    /// does not find that broker as leader any more.
    pub async fn current_leader(&self) -> Result<Option<String>, StoreError> {
        let Some(found) = self.metadata.get(layout::LEADER_BROKER).await? else { return Ok(None) };
        let key = layout::LEADER_BROKER.to_owned();
        let corrupt = |error: serde_json::Error| StoreError::Corrupt { key, reason: error.to_string() };
        let record: LeaderRecord = serde_json::from_slice(&found.bytes).map_err(corrupt)?;
        Ok(Some(record.broker_id))
    }

    /// Whether this broker was the leader when it last looked.
    pub fn is_leader(&self) -> bool {
        self.leading.load(Ordering::Acquire)
    }

    /// Runs for leader whenever there is none.
    pub(super) async fn stand_for_leader(self: Arc<Self>) {
        let mut changes = self.metadata.watch(layout::LEADER_BROKER);
        let mut session = self.session.subscribe();
        loop {
            let leads = self.run_for_leader().await.unwrap_or_else(|error| {
                tracing::debug!(%error, "the election");
                false
            });
            if self.leading.swap(leads, Ordering::AcqRel) != leads {
                tracing::info!(broker = self.id(), leads, "leadership");
            }
            tokio::select! {
                () = self.stopped.given() => return,
                event = changes.next() => if event.is_none() { return },
                changed = session.changed() => if changed.is_err() { return },
                () = self.clock.sleep(LOOK_AGAIN) => {}
            }
        }
    }

    async fn run_for_leader(&self) -> Result<bool, StoreError> {
        let key = layout::LEADER_BROKER;
        let Some(lease) = self.session.borrow().filter(|_| !self.draining.is_given()) else {
            return Ok(false);
        };
        let record = LeaderRecord {
            broker_id: self.id().to_owned(),
            service_url: self.record.web_service_url.clone(),
        };
        let json = serde_json::to_vec(&record).map_err(|error| StoreError::Invalid(error.to_string()))?;
        let expect = match self.metadata.get(key).await? {
            Some(found) if found.lease == Some(lease) => return Ok(true),
            // Of our earlier lease.
            Some(found) if found.bytes == json => Expect::Version(found.version),
            Some(_) => return Ok(false),
            None => Expect::Missing,
        };
        match self.metadata.put_ephemeral(key, json.into(), expect, lease).await {
            Ok(_) => Ok(true),
            Err(MetadataError::Conflict { .. } | MetadataError::LeaseLost) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}
