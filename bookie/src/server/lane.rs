//! Reads that must wait: for the disk, or for a fence to be durable. One lane a connection, so that a slow disk read
//! holds up neither adds nor cached reads of its own connection, and nobody else's.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::Notify;

use super::Shared;
use super::answer::{Answer, ReadOp, answer_from_disk};
use super::outbound::Outbound;
use crate::metrics::Asked;

/// Reads that may wait in a lane; a client that sends more is not read from until some are answered.
const WAITING_MAX: usize = 4096;

/// Answers made in one blocking job, before looking whether the client still takes them.
const JOB_BYTES: usize = 1 << 20;

/// Disk jobs of all connections at once: what one NVMe device serves well, and few enough blocking threads.
pub(super) const DISK_JOBS_MAX: usize = 8;

/// A read in a lane, and what it will be counted as.
pub(crate) struct Waiting {
    pub(super) read: ReadOp,
    pub(super) asked: Asked,
    /// When it was received.
    pub(super) since: Duration,
}

#[derive(Default)]
pub(super) struct Lane {
    waiting: Mutex<VecDeque<Waiting>>,
    added: Notify,
    taken: Notify,
}

impl Lane {
    /// Queues reads and wakes the lane.
    pub(super) fn push(&self, reads: impl IntoIterator<Item = Waiting>) {
        self.waiting.lock().expect("nothing panics while holding a lane").extend(reads);
        self.added.notify_one();
    }

    fn len(&self) -> usize {
        self.waiting.lock().expect("nothing panics while holding a lane").len()
    }

    /// Waits until the lane takes more.
    pub(super) async fn not_full(&self, outbound: &Outbound) {
        while self.len() >= WAITING_MAX && !outbound.is_closed() {
            self.taken.notified().await;
        }
    }

    /// Lets who waits see that the connection is closed.
    pub(super) fn close(&self) {
        self.added.notify_one();
        self.taken.notify_one();
    }

    /// Answers reads until the connection is closed.
    pub(super) async fn run(self: Arc<Self>, shared: Arc<Shared>, outbound: Arc<Outbound>) {
        loop {
            let mut reads =
                std::mem::take(&mut *self.waiting.lock().expect("nothing panics while holding a lane"));
            if outbound.is_closed() {
                return;
            }
            if reads.is_empty() {
                self.added.notified().await;
                continue;
            }
            self.taken.notify_one();
            while !reads.is_empty() {
                outbound.drained().await;
                let Some(rest) = job(&shared, &outbound, reads).await else { return };
                outbound.wake();
                reads = rest;
            }
        }
    }
}

/// Answers some of `reads` on a blocking thread and gives back the rest; `None` when the runtime ends.
async fn job(
    shared: &Arc<Shared>,
    outbound: &Arc<Outbound>,
    mut reads: VecDeque<Waiting>,
) -> Option<VecDeque<Waiting>> {
    let mut ticket = shared.answer_bytes.acquire(JOB_BYTES).await;
    let _permit = shared.disk_jobs.acquire().await.ok()?;
    let job = {
        let (shared, outbound) = (shared.clone(), outbound.clone());
        tokio::task::spawn_blocking(move || {
            let answers = answer_from_disk(&shared, &mut reads, JOB_BYTES, || outbound.is_closed());
            if outbound.is_closed() {
                reads.clear();
            }
            (reads, answers)
        })
    };
    let (reads, answers) = job.await.ok()?;
    let bytes: usize = answers.iter().map(Answer::body_bytes).sum();
    if bytes > JOB_BYTES {
        // The last answer's size was not known before. With the permit held, few connections can be at this point.
        ticket.merge(shared.answer_bytes.acquire(bytes - JOB_BYTES).await);
    }
    ticket.keep(bytes);
    outbound.push(answers, Some(ticket));
    Some(reads)
}
