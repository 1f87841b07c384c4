//! What the requests of one turn are counted as, and when: together, so that counting costs a turn, not a request.

use std::time::Duration;

use super::answer::{Answer, ReadOp};
use super::lane::Waiting;
use crate::metrics::{Asked, Counts, Metrics};

/// See the module. The times are those of [`Metrics::now`].
pub(crate) struct Tally {
    received: Duration,
    /// When there was room for the adds.
    begun: Duration,
    /// Answered with yes once durable.
    durable: Counts,
    /// Answered at once.
    succeeded: Counts,
    failed: Counts,
    /// Bytes of the adds accepted.
    bytes: u64,
    /// Bytes of entries answered at once.
    read_bytes: u64,
}

impl Tally {
    pub(super) fn new(received: Duration, begun: Duration) -> Self {
        let [durable, succeeded, failed] = std::array::from_fn(|_| Counts::default());
        Tally { received, begun, durable, succeeded, failed, bytes: 0, read_bytes: 0 }
    }

    pub(super) fn add(&mut self, accepted: bool, recovery: bool, bytes: usize) {
        let counts = if accepted { &mut self.durable } else { &mut self.failed };
        counts.add(Asked::Add);
        if recovery {
            counts.add(Asked::RecoveryAdd);
        }
        self.bytes += if accepted { bytes as u64 } else { 0 };
    }

    pub(super) fn when_durable(&mut self, asked: Asked) {
        self.durable.add(asked);
    }

    pub(super) fn now(&mut self, asked: Asked, answer: &Answer) {
        if answer.is_ok() {
            self.succeeded.add(asked)
        } else {
            self.failed.add(asked)
        }
        self.read_bytes += answer.body_bytes() as u64;
    }

    /// A read that is answered, and counted, later.
    pub(super) fn waiting(&self, read: ReadOp, asked: Asked) -> Waiting {
        Waiting { read, asked, since: self.received }
    }

    /// The turn is over.
    pub(super) fn answered(&self, metrics: &Metrics) {
        let elapsed = metrics.now() - self.received;
        metrics.server.succeeded(&self.succeeded, elapsed);
        metrics.server.failed(&self.failed, elapsed);
        metrics.server.write_bytes.add(self.bytes);
        metrics.server.read_bytes.add(self.read_bytes);
    }

    /// What it accepted is durable.
    pub(super) fn durable(&self, metrics: &Metrics, now: Duration) {
        metrics.server.succeeded(&self.durable, now - self.received);
        metrics.server.added(now - self.begun, self.durable.get(Asked::Add));
    }
}
