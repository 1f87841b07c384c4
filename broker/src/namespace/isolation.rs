//! The record of a cluster's isolation policies.

use magnetar_common::layout;
use magnetar_common::metadata::{Expect, MetadataError};

use super::error::StoreError;
use super::records::put;
use super::store::NamespaceStore;
use crate::balance::IsolationPolicies;

/// Operators change it, one at a time.
const ATTEMPTS: usize = 8;

impl NamespaceStore {
    /// The policies; none for a cluster without any.
    pub async fn isolation(&self, cluster: &str) -> Result<IsolationPolicies, StoreError> {
        Ok(self.records.get(&layout::isolation_policies(cluster)).await?.unwrap_or_default())
    }

    /// Changes the policies atomically; `change` may run several times. The cluster must exist.
    pub async fn change_isolation(
        &self,
        cluster: &str,
        mut change: impl FnMut(&mut IsolationPolicies),
    ) -> Result<(), StoreError> {
        if self.cluster(cluster).await?.is_none() {
            return Err(StoreError::NotFound(format!("cluster {cluster}")));
        }
        let key = layout::isolation_policies(cluster);
        for _ in 0..ATTEMPTS {
            let found = self.records.metadata.get(&key).await?;
            let expect = found.as_ref().map_or(Expect::Missing, |found| Expect::Version(found.version));
            let mut policies = match &found {
                Some(found) => serde_json::from_slice(&found.bytes)
                    .map_err(|error| StoreError::Corrupt { key: key.clone(), reason: error.to_string() })?,
                None => IsolationPolicies::new(),
            };
            change(&mut policies);
            match self.records.metadata.transact(vec![put(&key, &policies, expect)?]).await {
                Ok(_) => return Ok(()),
                Err(MetadataError::Conflict { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(StoreError::Contended(format!("the isolation policies of cluster {cluster}")))
    }
}
