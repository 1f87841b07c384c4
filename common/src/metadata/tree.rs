//! The map itself, in memory: expectations, versions, children. Sans-IO; both local stores are built on it.

use super::error::MetadataError;
use super::lease::LeaseId;
use super::ops::{Expect, Op, Value, Version};
use super::watch::WatchEvent;
use bytes::Bytes;
use std::collections::{BTreeMap, HashSet};
use std::ops::Bound;
use std::sync::atomic::{AtomicU64, Ordering};

/// A planned change of one key: its new value, or `None` for a removal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Change {
    pub(super) key: String,
    pub(super) value: Option<Value>,
}

/// What is planned but not applied yet: the new value of a key, or `None` for a removal.
pub(super) type Pending = BTreeMap<String, Option<Value>>;

/// Every key with its value.
///
/// The latest version given is not kept anywhere: a tree read anew begins behind the latest one that a key still has. Nobody
/// who knew a later one of a key that is gone by then is left.
#[derive(Debug, Default)]
pub(super) struct Tree {
    values: BTreeMap<String, Value>,
    /// Versions up to this one were given to planned changes.
    given: AtomicU64,
}

/// A key is a path of non-empty components.
pub(super) fn check_key(key: &str) -> Result<(), MetadataError> {
    let valid = key.len() > 1 && key.starts_with('/') && !key.ends_with('/') && !key.contains("//");
    if valid { Ok(()) } else { Err(MetadataError::InvalidKey(key.to_owned())) }
}

/// Every key of a transaction is a path, and occurs once.
pub(super) fn check_keys(ops: &[Op]) -> Result<(), MetadataError> {
    let mut seen = HashSet::with_capacity(ops.len());
    for op in ops {
        check_key(op.key())?;
        if !seen.insert(op.key()) {
            return Err(MetadataError::InvalidKey(format!("{} (twice in one transaction)", op.key())));
        }
    }
    Ok(())
}

/// Why an operation cannot be applied to a key that has this version, or none.
pub(super) fn mismatch(op: &Op, found: Option<Version>) -> Option<MetadataError> {
    let holds = match op.expect() {
        Expect::Any => true,
        Expect::Missing => found.is_none(),
        Expect::Version(version) => found == Some(version),
    };
    let key = || op.key().to_owned();
    match op {
        _ if !holds => Some(MetadataError::Conflict { key: key() }),
        Op::Delete { .. } if found.is_none() => Some(MetadataError::NotFound { key: key() }),
        _ => None,
    }
}

/// The number given last: the value in 8 bytes, big-endian. Where it has none the version is that number: once, versions
/// counted the puts of their key.
fn sequence(last: &Value) -> u64 {
    last.bytes.as_ref().try_into().map_or(last.version.0, u64::from_be_bytes)
}

impl Tree {
    pub(super) fn insert(&mut self, key: String, value: Value) {
        self.given.fetch_max(value.version.0, Ordering::Relaxed);
        self.values.insert(key, value);
    }

    pub(super) fn get(&self, key: &str) -> Option<&Value> {
        self.values.get(key)
    }

    /// What a key holds once everything pending is applied.
    fn value<'a>(&'a self, pending: &'a Pending, key: &str) -> Option<&'a Value> {
        pending.get(key).map_or_else(|| self.values.get(key), Option::as_ref)
    }

    /// The version of a key once everything pending is applied.
    fn version(&self, pending: &Pending, key: &str) -> Option<Version> {
        self.value(pending, key).map(|value| value.version)
    }

    /// The changes that a transaction makes on top of what is pending, with the version of each put; nothing is
    /// applied yet.
    pub(super) fn plan(
        &self,
        pending: &Pending,
        ops: Vec<Op>,
    ) -> Result<(Vec<Change>, Vec<Option<Version>>), MetadataError> {
        self.check(pending, &ops)?;
        let version = Version(1 + self.given.fetch_add(1, Ordering::Relaxed));
        let mut changes = Vec::with_capacity(ops.len());
        let mut versions = Vec::with_capacity(ops.len());
        for op in ops {
            match op {
                Op::Put { key, value: bytes, lease, .. } => {
                    versions.push(Some(version));
                    changes.push(Change { key, value: Some(Value { bytes, version, lease }) });
                }
                Op::Delete { key, .. } => {
                    versions.push(None);
                    changes.push(Change { key, value: None });
                }
                Op::Check { .. } => versions.push(None),
            }
        }
        Ok((changes, versions))
    }

    fn check(&self, pending: &Pending, ops: &[Op]) -> Result<(), MetadataError> {
        check_keys(ops)?;
        let mut mismatches = ops.iter().filter_map(|op| mismatch(op, self.version(pending, op.key())));
        mismatches.next().map_or(Ok(()), Err)
    }

    /// The change of [`next_sequence`](super::MetadataStore::next_sequence).
    pub(super) fn plan_sequence(
        &self,
        pending: &Pending,
        parent: &str,
    ) -> Result<(Vec<Change>, u64), MetadataError> {
        let number = self.value(pending, parent).map_or(0, |last| 1 + sequence(last));
        let value = Bytes::copy_from_slice(&number.to_be_bytes());
        let op = Op::Put { key: parent.to_owned(), value, expect: Expect::Any, lease: None };
        let (changes, _) = self.plan(pending, vec![op])?;
        Ok((changes, number))
    }

    /// The removal of every key of a lease.
    pub(super) fn plan_lease_end(&self, pending: &Pending, lease: LeaseId) -> Vec<Change> {
        let applied = self.values.iter().filter(|(key, _)| !pending.contains_key(*key));
        let planned = pending.iter().filter_map(|(key, value)| Some((key, value.as_ref()?)));
        let keys = applied.chain(planned).filter(|(_, value)| value.lease == Some(lease));
        keys.map(|(key, _)| Change { key: key.clone(), value: None }).collect()
    }

    /// Applies planned changes and tells what watchers must hear.
    pub(super) fn apply(&mut self, changes: Vec<Change>) -> Vec<WatchEvent> {
        let mut events = Vec::with_capacity(changes.len());
        for Change { key, value } in changes {
            match value {
                Some(value) => {
                    let version = value.version;
                    let created = self.values.insert(key.clone(), value).is_none();
                    events.push(WatchEvent::Changed { key, version, created });
                }
                None => {
                    self.values.remove(&key);
                    events.push(WatchEvent::Deleted { key });
                }
            }
        }
        events
    }

    /// One look-up a child, not one a key: a deep subtree is skipped at once.
    pub(super) fn children(&self, key: &str) -> Vec<String> {
        let prefix = format!("{}/", key.trim_end_matches('/'));
        let mut names = Vec::new();
        let mut from = Bound::Included(prefix.clone());
        while let Some((found, _)) = self.values.range((from, Bound::Unbounded)).next() {
            let Some(rest) = found.strip_prefix(&prefix) else { break };
            let name = rest.split('/').next().unwrap_or(rest).to_owned();
            // '0' follows '/' in ASCII: everything below the child lies before "<child>0".
            from = if rest.len() == name.len() {
                Bound::Excluded(found.clone())
            } else {
                Bound::Included(format!("{prefix}{name}0"))
            };
            names.push(name);
        }
        names.sort_unstable();
        names.dedup();
        names
    }

    pub(super) fn scan(&self, prefix: &str, start_after: Option<&str>, limit: usize) -> Vec<(String, Value)> {
        let from = match start_after {
            Some(key) if key >= prefix => Bound::Excluded(key),
            _ => Bound::Included(prefix),
        };
        let range = self.values.range::<str, _>((from, Bound::Unbounded));
        let matching = range.take_while(|(key, _)| key.starts_with(prefix)).take(limit);
        matching.map(|(key, value)| (key.clone(), value.clone())).collect()
    }
}
