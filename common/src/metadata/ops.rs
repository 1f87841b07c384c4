//! Values, versions, expectations and the operations of a transaction.

use super::lease::LeaseId;
use bytes::Bytes;

/// Which change of the store gave a key its value: of etcd, the revision. No change has that of another, so that whoever knew
/// a key before it was deleted and created again cannot take the new one for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version(pub u64);

/// What must hold for an operation to be applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// Nothing.
    Any,
    /// The key must not exist.
    Missing,
    /// The key must exist with this version.
    Version(Version),
}

/// What a key holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Value {
    /// The bytes, as put.
    pub bytes: Bytes,
    /// The version to expect when changing what was read.
    pub version: Version,
    /// The lease that an ephemeral key lives by.
    pub lease: Option<LeaseId>,
}

/// One operation of a transaction.
#[derive(Clone, Debug)]
pub enum Op {
    /// Write a value.
    Put {
        /// The key.
        key: String,
        /// The new bytes.
        value: Bytes,
        /// What must hold.
        expect: Expect,
        /// The lease that the key is to live by, if any.
        lease: Option<LeaseId>,
    },
    /// Remove a key, which must exist.
    Delete {
        /// The key.
        key: String,
        /// What must hold.
        expect: Expect,
    },
    /// Change nothing, but let the transaction fail unless the expectation holds.
    Check {
        /// The key.
        key: String,
        /// What must hold.
        expect: Expect,
    },
}

impl Op {
    /// The key the operation is about.
    pub fn key(&self) -> &str {
        match self {
            Op::Put { key, .. } | Op::Delete { key, .. } | Op::Check { key, .. } => key,
        }
    }

    /// What must hold for it.
    pub fn expect(&self) -> Expect {
        match self {
            Op::Put { expect, .. } | Op::Delete { expect, .. } | Op::Check { expect, .. } => *expect,
        }
    }
}
