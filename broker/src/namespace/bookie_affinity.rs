//! Which bookies a namespace's ledgers may lie on: Pulsar's bookie affinity group, a property of the record below
//! `/admin/local-policies`, beside the namespace's bundles.

use magnetar_common::layout;
use magnetar_common::metadata::{Expect, MetadataError};
use magnetar_common::topic_name::NamespaceName;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::error::StoreError;
use super::records::put;
use super::store::NamespaceStore;

const PROPERTY: &str = "bookieAffinityGroup";

/// Brokers change the record when they split bundles, operators now and then.
const ATTEMPTS: usize = 8;

/// Names of groups in the record `/bookies`; several stand with commas between them. (Pulsar's `BookieAffinityGroupData`.)
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BookieAffinityGroup {
    #[serde(rename = "bookkeeperAffinityGroupPrimary", default)]
    pub primary: Option<String>,
    #[serde(rename = "bookkeeperAffinityGroupSecondary", default)]
    pub secondary: Option<String>,
}

impl NamespaceStore {
    /// The namespace's group; `None` when its ledgers may lie anywhere.
    pub async fn bookie_affinity(
        &self,
        name: &NamespaceName,
    ) -> Result<Option<BookieAffinityGroup>, StoreError> {
        let key = layout::local_policies(name);
        let record: Option<Map<String, Value>> = self.records.get(&key).await?;
        let Some(value) = record.and_then(|mut record| record.remove(PROPERTY)) else { return Ok(None) };
        serde_json::from_value(value).map_err(|error| StoreError::Corrupt { key, reason: error.to_string() })
    }

    /// Sets the group, or removes it. It counts for ledgers that are made from then on. The namespace must exist.
    pub async fn set_bookie_affinity(
        &self,
        name: &NamespaceName,
        group: Option<&BookieAffinityGroup>,
    ) -> Result<(), StoreError> {
        let what = || format!("namespace {name}");
        let key = layout::local_policies(name);
        let invalid = |error: serde_json::Error| StoreError::Invalid(error.to_string());
        let group = group.map(serde_json::to_value).transpose().map_err(invalid)?;
        for _ in 0..ATTEMPTS {
            let found = self.records.metadata.get(&key).await?;
            let expect = found.as_ref().map_or(Expect::Missing, |found| Expect::Version(found.version));
            let mut record: Map<String, Value> = match &found {
                Some(found) => serde_json::from_slice(&found.bytes)
                    .map_err(|error| StoreError::Corrupt { key: key.clone(), reason: error.to_string() })?,
                None if group.is_none() => return Ok(()),
                None => {
                    let policies = self.namespace(name).await?.ok_or_else(|| StoreError::NotFound(what()))?;
                    let bundles = serde_json::to_value(policies.bundles).map_err(invalid)?;
                    Map::from_iter([("bundles".to_owned(), bundles)])
                }
            };
            match &group {
                Some(group) => drop(record.insert(PROPERTY.to_owned(), group.clone())),
                None => drop(record.remove(PROPERTY)),
            }
            match self.records.write(vec![put(&key, &record, expect)?]).await {
                Ok(()) => return Ok(()),
                Err(MetadataError::Conflict { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(StoreError::Contended(format!("the local policies of {}", what())))
    }
}
