//! Names for producers that bring none.

use std::sync::atomic::{AtomicU64, Ordering};

/// Makes up names for producers without one, unique in the cluster.
#[derive(Debug)]
pub struct ProducerNames {
    prefix: String,
    next: AtomicU64,
}

impl ProducerNames {
    /// `prefix` differs from that of any other broker and of any earlier start of this one, for instance
    /// `<cluster>-<start counter>`.
    pub fn new(prefix: impl Into<String>) -> Self {
        ProducerNames { prefix: prefix.into(), next: AtomicU64::new(0) }
    }

    pub(crate) fn next(&self) -> String {
        format!("{}-{}", self.prefix, self.next.fetch_add(1, Ordering::Relaxed))
    }
}
