//! A transaction as one etcd Txn: expectations become compares, and the answer becomes versions or the first key at fault.

use super::super::error::MetadataError;
use super::super::ops::{Expect, Op, Version};
use super::super::{Result, tree};
use etcd_client::{
    Compare, CompareOp, GetOptions, GetResponse, KeyValue, PutOptions, Txn, TxnOp, TxnOpResponse,
};

/// etcd's default for the operations of one Txn (`--max-txn-ops`), which a caller must not find out by chance.
const OPS_MAX: usize = 128;

/// etcd counts puts from 1, we from 0; etcd's 0 means that the key does not exist.
pub(super) fn version_of(found: &KeyValue) -> Version {
    Version(u64::try_from(found.version()).unwrap_or(0).saturating_sub(1))
}

/// A transaction ready to be sent.
pub(super) struct Plan {
    ops: Vec<Op>,
}

impl Plan {
    /// Checks what can be checked here.
    pub(super) fn new(ops: Vec<Op>) -> Result<Self> {
        tree::check_keys(&ops)?;
        let applied: usize = ops.iter().map(|op| apply(op).len()).sum();
        if applied.max(ops.len()) > OPS_MAX {
            let reason = format!("etcd: {} operations are too many for one transaction", ops.len());
            return Err(MetadataError::Refused(reason));
        }
        Ok(Self { ops })
    }

    /// The request. Its success branch holds the operations and, where the new version cannot be told beforehand, a read
    /// of it; its failure branch reads every key, to find the one at fault.
    pub(super) fn request(&self) -> Txn {
        let compares: Vec<_> = self.ops.iter().filter_map(compare).collect();
        let success: Vec<_> = self.ops.iter().flat_map(apply).collect();
        let failure: Vec<_> = self.ops.iter().map(|op| read_version(op.key())).collect();
        Txn::new().when(compares).and_then(success).or_else(failure)
    }

    /// The new version of each put, `None` for the others.
    pub(super) fn versions(&self, answers: Vec<TxnOpResponse>) -> Result<Vec<Option<Version>>> {
        let mut reads = reads(answers);
        self.ops.iter().map(|op| new_version(op, &mut reads)).collect()
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
            // A version beyond what etcd can count never holds: -1 is none that a key can have.
            let version = version.0.checked_add(1).and_then(|count| i64::try_from(count).ok()).unwrap_or(-1);
            Some(Compare::version(key, CompareOp::Equal, version))
        }
        Expect::Any if matches!(op, Op::Delete { .. }) => {
            Some(Compare::create_revision(key, CompareOp::Greater, 0))
        }
        Expect::Any => None,
    }
}

fn apply(op: &Op) -> Vec<TxnOp> {
    match op {
        Op::Put { key, value, expect, lease } => {
            let options = lease.map(|lease| PutOptions::new().with_lease(lease.0));
            let put = TxnOp::put(key.as_str(), value.to_vec(), options);
            if *expect == Expect::Any { vec![put, read_version(key)] } else { vec![put] }
        }
        Op::Delete { key, .. } => vec![TxnOp::delete(key.as_str(), None)],
        Op::Check { .. } => Vec::new(),
    }
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

fn new_version(op: &Op, reads: &mut impl Iterator<Item = GetResponse>) -> Result<Option<Version>> {
    let Op::Put { key, expect, .. } = op else { return Ok(None) };
    let version = match expect {
        Expect::Missing => Some(Version(0)),
        Expect::Version(version) => Some(Version(version.0 + 1)),
        Expect::Any => reads.next().and_then(|read| read.kvs().first().map(version_of)),
    };
    let missing = || MetadataError::Corrupt(format!("etcd: {key} is missing in the answer to its put"));
    version.ok_or_else(missing).map(Some)
}
