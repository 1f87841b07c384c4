//! Where namespaces are cut into bundles: a record a namespace, whose version every claim and split is conditional on.
//!
//! Must never let a claim through that rests on boundaries of yesterday: a bundle that is no more would be served beside
//! its parts.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use magnetar_common::bundles::Bundles;
use magnetar_common::layout;
use magnetar_common::metadata::{Expect, MetadataError, Op, SharedMetadata, Version};
use magnetar_common::topic_name::NamespaceName;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::super::error::StoreError;
use super::super::policies::Policies;

/// Namespaces remembered; beyond it all are read again.
const REMEMBERED_MAX: usize = 100_000;
/// Several brokers may cut or create at the same moment; more rounds than this mean that something else is wrong.
const ATTEMPTS: usize = 8;

/// The record below `/admin/local-policies`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct LocalPolicies {
    bundles: Bundles,
    #[serde(flatten)]
    others: BTreeMap<String, Value>,
}

/// A namespace's bundles as of a version of their record.
#[derive(Clone, Debug)]
pub struct Cut {
    pub bundles: Bundles,
    pub(super) version: Version,
    others: BTreeMap<String, Value>,
}

/// Reads and changes boundaries. What was read is remembered until somebody says that it has changed.
pub struct Boundaries {
    metadata: SharedMetadata,
    remembered: Mutex<Remembered>,
}

#[derive(Default)]
struct Remembered {
    cuts: HashMap<NamespaceName, Cut>,
    /// Rises whenever something is forgotten: what was read before may be what was to be forgotten.
    forgotten: u64,
}

impl Boundaries {
    pub fn new(metadata: SharedMetadata) -> Self {
        Self { metadata, remembered: Mutex::default() }
    }

    /// The bundles. A namespace that has only its policies gets the record that they ask for.
    pub async fn get(&self, namespace: &NamespaceName) -> Result<Cut, StoreError> {
        let forgotten = {
            let remembered = self.remembered();
            if let Some(cut) = remembered.cuts.get(namespace) {
                return Ok(cut.clone());
            }
            remembered.forgotten
        };
        let cut = self.read(namespace).await?;
        let mut remembered = self.remembered();
        if remembered.forgotten == forgotten {
            if remembered.cuts.len() >= REMEMBERED_MAX {
                remembered.cuts.clear();
            }
            remembered.cuts.insert(namespace.clone(), cut.clone());
        }
        Ok(cut)
    }

    /// The bundles as stored now.
    pub(super) async fn read(&self, namespace: &NamespaceName) -> Result<Cut, StoreError> {
        let key = layout::local_policies(namespace);
        for _ in 0..ATTEMPTS {
            if let Some(found) = self.metadata.get(&key).await? {
                let record: LocalPolicies = parse(&key, &found.bytes)?;
                let LocalPolicies { bundles, others } = record;
                return Ok(Cut { bundles, version: found.version, others });
            }
            let bundles = self.wanted(namespace).await?;
            let record = LocalPolicies { bundles, ..LocalPolicies::default() };
            match self.metadata.put(&key, json(&key, &record)?, Expect::Missing).await {
                Ok(_) | Err(MetadataError::Conflict { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(StoreError::Contended(format!("the bundles of namespace {namespace}")))
    }

    /// For a namespace that is made anew: the record of an earlier one of that name, which is never deleted, gets the new
    /// boundaries.
    pub async fn reset(&self, namespace: &NamespaceName, bundles: &Bundles) -> Result<(), StoreError> {
        let key = layout::local_policies(namespace);
        self.forget(namespace);
        if self.metadata.get(&key).await?.is_some() {
            let record = LocalPolicies { bundles: bundles.clone(), ..LocalPolicies::default() };
            self.metadata.put(&key, json(&key, &record)?, Expect::Any).await?;
        }
        Ok(())
    }

    /// The write that replaces `cut`, if nobody else has meanwhile.
    pub(super) fn change(
        &self,
        namespace: &NamespaceName,
        cut: &Cut,
        bundles: &Bundles,
    ) -> Result<Op, StoreError> {
        let key = layout::local_policies(namespace);
        let record = LocalPolicies { bundles: bundles.clone(), others: cut.others.clone() };
        let value = json(&key, &record)?;
        Ok(Op::Put { key, value, expect: Expect::Version(cut.version), lease: None })
    }

    /// Has it read again. Called for every change of the record that is heard of.
    pub(super) fn forget(&self, namespace: &NamespaceName) {
        let mut remembered = self.remembered();
        remembered.forgotten += 1;
        remembered.cuts.remove(namespace);
    }

    pub(super) fn forget_all(&self) {
        let mut remembered = self.remembered();
        remembered.forgotten += 1;
        remembered.cuts.clear();
    }

    async fn wanted(&self, namespace: &NamespaceName) -> Result<Bundles, StoreError> {
        let key = layout::namespace(namespace);
        let missing = || StoreError::NotFound(format!("namespace {namespace}"));
        let found = self.metadata.get(&key).await?.ok_or_else(missing)?;
        Ok(parse::<Policies>(&key, &found.bytes)?.bundles)
    }

    fn remembered(&self) -> MutexGuard<'_, Remembered> {
        self.remembered.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn parse<T: serde::de::DeserializeOwned>(key: &str, bytes: &[u8]) -> Result<T, StoreError> {
    serde_json::from_slice(bytes)
        .map_err(|error| StoreError::Corrupt { key: key.to_owned(), reason: error.to_string() })
}

fn json<T: Serialize>(key: &str, value: &T) -> Result<Bytes, StoreError> {
    let no_json = |error| StoreError::Invalid(format!("record {key} has no JSON form: {error}"));
    serde_json::to_vec(value).map(Bytes::from).map_err(no_json)
}
