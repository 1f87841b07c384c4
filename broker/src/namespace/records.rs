//! JSON records in the metadata store: typed reads and compare-and-set writes.

use bytes::Bytes;
use magnetar_common::metadata::{Expect, MetadataError, Op, SharedMetadata, Version};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::error::StoreError;

/// A record is changed by people and by first use, never in a hot loop: losing the race this often in a row means
/// that something is wrong.
const UPDATE_ATTEMPTS: usize = 16;

#[derive(Clone)]
pub(super) struct Records {
    pub(super) metadata: SharedMetadata,
}

impl Records {
    pub(super) async fn get<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>, StoreError> {
        Ok(self.read(key).await?.map(|(value, _)| value))
    }

    pub(super) async fn exists(&self, key: &str) -> Result<bool, StoreError> {
        Ok(self.metadata.get(key).await?.is_some())
    }

    /// Names of the records directly below a key, sorted.
    pub(super) async fn names(&self, key: &str) -> Result<Vec<String>, StoreError> {
        Ok(self.metadata.children(key).await?)
    }

    /// Writes a new record if `parent` exists. `what` names it in errors.
    pub(super) async fn create<T: Serialize>(
        &self,
        key: &str,
        value: &T,
        what: &str,
        parent: Option<(&str, &str)>,
    ) -> Result<(), StoreError> {
        let mut ops = vec![put(key, value, Expect::Missing)?];
        if let Some((parent_key, parent_what)) = parent {
            let Some(found) = self.metadata.get(parent_key).await? else {
                return Err(StoreError::NotFound(parent_what.to_owned()));
            };
            ops.push(Op::Check { key: parent_key.to_owned(), expect: Expect::Version(found.version) });
        }
        match self.metadata.transact(ops).await {
            Ok(_) => Ok(()),
            Err(MetadataError::Conflict { key: failed }) if failed == key => {
                Err(StoreError::Exists(what.to_owned()))
            }
            Err(MetadataError::Conflict { .. }) => Err(StoreError::Contended(what.to_owned())),
            Err(other) => Err(other.into()),
        }
    }

    /// Changes an existing record; `change` may run several times.
    pub(super) async fn update<T: Serialize + DeserializeOwned>(
        &self,
        key: &str,
        what: &str,
        mut change: impl FnMut(&mut T) -> Result<(), StoreError>,
    ) -> Result<T, StoreError> {
        for _ in 0..UPDATE_ATTEMPTS {
            let (mut value, version) =
                self.read::<T>(key).await?.ok_or_else(|| StoreError::NotFound(what.to_owned()))?;
            change(&mut value)?;
            match self.metadata.transact(vec![put(key, &value, Expect::Version(version))?]).await {
                Ok(_) => return Ok(value),
                Err(MetadataError::Conflict { .. }) => {}
                Err(other) => return Err(other.into()),
            }
        }
        Err(StoreError::Contended(what.to_owned()))
    }

    pub(super) async fn delete(&self, key: &str, what: &str) -> Result<(), StoreError> {
        match self.metadata.delete(key, Expect::Any).await {
            Err(MetadataError::NotFound { .. }) => Err(StoreError::NotFound(what.to_owned())),
            other => Ok(other?),
        }
    }

    async fn read<T: DeserializeOwned>(&self, key: &str) -> Result<Option<(T, Version)>, StoreError> {
        let Some(found) = self.metadata.get(key).await? else { return Ok(None) };
        let value = serde_json::from_slice(&found.bytes)
            .map_err(|error| StoreError::Corrupt { key: key.to_owned(), reason: error.to_string() })?;
        Ok(Some((value, found.version)))
    }
}

/// A put of a record's JSON.
pub(super) fn put<T: Serialize>(key: &str, value: &T, expect: Expect) -> Result<Op, StoreError> {
    let json = serde_json::to_vec(value)
        .map_err(|error| StoreError::Invalid(format!("record {key} has no JSON form: {error}")))?;
    Ok(Op::Put { key: key.to_owned(), value: Bytes::from(json), expect, lease: None })
}
