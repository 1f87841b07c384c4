//! A transaction as one etcd Txn: expectations become compares, and the answer becomes versions or the first key at fault.

use super::super::error::MetadataError;
use super::super::ops::{Expect, Op, Version};
use super::super::{Result, tree};
use etcd_client::{
    Compare, CompareOp, GetOptions, GetResponse, KeyValue, PutOptions, Txn, TxnOp, TxnOpResponse,
};

/// etcd's default for the operations of one Txn (`--max-txn-ops`), which a caller must not find out by chance.
const OPS_MAX: usize = 128;

/// etcd's own count of a key's puts begins anew when the key is created again; a revision belongs to one change.
pub(super) fn version_of(found: &KeyValue) -> Version {
    version_at(found.mod_revision())
}

fn version_at(revision: i64) -> Version {
    Version(u64::try_from(revision).unwrap_or(0))
}

/// A transaction ready to be sent.
pub(super) struct Plan {
    ops: Vec<Op>,
}

impl Plan {
    /// Checks what can be checked here.
    pub(super) fn new(ops: Vec<Op>) -> Result<Self> {
        tree::check_keys(&ops)?;
        if ops.len() > OPS_MAX {
            let reason = format!("etcd: {} operations are too many for one transaction", ops.len());
            return Err(MetadataError::Refused(reason));
        }
        Ok(Self { ops })
    }

    /// The request. Its success branch holds the operations; its failure branch reads every key, to find the one at fault.
    pub(super) fn request(&self) -> Txn {
        let compares: Vec<_> = self.ops.iter().filter_map(compare).collect();
        let success: Vec<_> = self.ops.iter().filter_map(apply).collect();
        let failure: Vec<_> = self.ops.iter().map(|op| read_version(op.key())).collect();
        Txn::new().when(compares).and_then(success).or_else(failure)
    }

    /// The new version of each put, `None` for the others: all that is put at once has the revision of the transaction.
    pub(super) fn versions(&self, revision: i64) -> Vec<Option<Version>> {
        self.ops.iter().map(|op| matches!(op, Op::Put { .. }).then(|| version_at(revision))).collect()
    }

    /// Why the transaction was not applied.
    pub(super) fn refusal(&self, answers: Vec<TxnOpResponse>) -> MetadataError {
        let mut reads = reads(answers);
        for op in &self.ops {
            let found = reads.next().and_then(|read| read.kvs().first().map(version_of));
            if let Some(error) = tree::mismatch(op, found) {
                return error;
            }
        }
        MetadataError::Corrupt("etcd: it refused a transaction whose expectations hold".into())
    }
}

fn compare(op: &Op) -> Option<Compare> {
    let key = op.key();
    match op.expect() {
        Expect::Missing => Some(Compare::create_revision(key, CompareOp::Equal, 0)),
        Expect::Version(version) => {
            // 0 is the revision of a key that is not there, and -1 is none that a key can have.
            let revision = i64::try_from(version.0).ok().filter(|revision| *revision > 0).unwrap_or(-1);
            Some(Compare::mod_revision(key, CompareOp::Equal, revision))
        }
        Expect::Any if matches!(op, Op::Delete { .. }) => {
            Some(Compare::create_revision(key, CompareOp::Greater, 0))
        }
        Expect::Any => None,
    }
}

fn apply(op: &Op) -> Option<TxnOp> {
    match op {
        Op::Put { key, value, lease, .. } => {
            let options = lease.map(|lease| PutOptions::new().with_lease(lease.0));
            Some(TxnOp::put(key.as_str(), value.to_vec(), options))
        }
        Op::Delete { key, .. } => Some(TxnOp::delete(key.as_str(), None)),
        Op::Check { .. } => None,
    }
}

/// A put of a key that counts its puts, and the read of the count.
pub(super) fn counted(key: &str) -> Txn {
    Txn::new().and_then([TxnOp::put(key, Vec::new(), None), read_version(key)])
}

/// What [`counted`] found: etcd counts from 1, we from 0.
pub(super) fn count(answers: Vec<TxnOpResponse>) -> Option<u64> {
    let count = reads(answers).next()?.kvs().first()?.version();
    u64::try_from(count).ok()?.checked_sub(1)
}

fn read_version(key: &str) -> TxnOp {
    TxnOp::get(key, Some(GetOptions::new().with_keys_only()))
}

fn reads(answers: Vec<TxnOpResponse>) -> impl Iterator<Item = GetResponse> {
    answers.into_iter().filter_map(|answer| match answer {
        TxnOpResponse::Get(read) => Some(read),
        TxnOpResponse::Put(_) | TxnOpResponse::Delete(_) | TxnOpResponse::Txn(_) => None,
    })
}
