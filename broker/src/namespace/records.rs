//! JSON records in the metadata store: typed reads and compare-and-set writes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

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
    pub(super) changes: PolicyChanges,
}

/// How often policies may have changed: by this broker, which notes it when it has written any, or by others, which the
/// watch on the records notes. Clones count together.
#[derive(Clone, Debug, Default)]
pub struct PolicyChanges(Arc<AtomicU64>);

impl PolicyChanges {
    /// What was read after this call holds as long as the number stays the same and the watch is not behind.
    pub fn count(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }

    /// Policies may be others from now on.
    pub fn note(&self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
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
        match self.write(ops).await {
            Ok(()) => Ok(()),
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
            match self.write(vec![put(key, &value, Expect::Version(version))?]).await {
                Ok(()) => return Ok(value),
                Err(MetadataError::Conflict { .. }) => {}
                Err(other) => return Err(other.into()),
            }
        }
        Err(StoreError::Contended(what.to_owned()))
    }

    pub(super) async fn delete(&self, key: &str, what: &str) -> Result<(), StoreError> {
        match self.write(vec![Op::Delete { key: key.to_owned(), expect: Expect::Any }]).await {
            Err(MetadataError::NotFound { .. }) => Err(StoreError::NotFound(what.to_owned())),
            other => Ok(other?),
        }
    }

    /// Applies operations on records, which may be policies. Whatever comes of it, it is noted.
    pub(super) async fn write(&self, ops: Vec<Op>) -> Result<(), MetadataError> {
        let _noted = Noted(&self.changes);
        self.metadata.transact(ops).await.map(drop)
    }

    async fn read<T: DeserializeOwned>(&self, key: &str) -> Result<Option<(T, Version)>, StoreError> {
        let Some(found) = self.metadata.get(key).await? else { return Ok(None) };
        let value = serde_json::from_slice(&found.bytes)
            .map_err(|error| StoreError::Corrupt { key: key.to_owned(), reason: error.to_string() })?;
        Ok(Some((value, found.version)))
    }
}

/// Notes a change when it has been tried, also when whoever asked for it has gone.
struct Noted<'a>(&'a PolicyChanges);

impl Drop for Noted<'_> {
    fn drop(&mut self) {
        self.0.note();
    }
}

/// A put of a record's JSON.
pub(super) fn put<T: Serialize>(key: &str, value: &T, expect: Expect) -> Result<Op, StoreError> {
    let json = serde_json::to_vec(value)
        .map_err(|error| StoreError::Invalid(format!("record {key} has no JSON form: {error}")))?;
    Ok(Op::Put { key: key.to_owned(), value: Bytes::from(json), expect, lease: None })
}
