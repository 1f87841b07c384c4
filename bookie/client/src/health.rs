//! Watches how quick the bookies are: gives [`SlowBookies`](crate::protocol::slow_bookies::SlowBookies) its windows, carries
//! out its probes, and tells the writers.
//!
//! A probe is an add, because only an add shows how the journal's disk does. It goes to a ledger whose id is taken from the
//! cluster's sequence and never recorded: no reader can meet it, and bookies drop it like any ledger without a record.

use crate::connection::{Add, AddReply};
use crate::ids;
use crate::pool::Pool;
use crate::protocol::slow_bookies::Verdict;
use crate::protocol::writer::AddOutcome;
use bytes::{Bytes, BytesMut};
use magnetar_common::metadata::{MetadataError, SharedMetadata};
use magnetar_proto::bookkeeper::entry::{BodyHeader, Digest, DigestType};
use magnetar_proto::bookkeeper::v2::{self, Flags};
use magnetar_proto::bookkeeper::{BookieId, master_key};
use magnetar_proto::ids::{EntryId, LedgerId};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::{OnceCell, mpsc};

/// How long adds are gathered before they are compared.
const WINDOW: Duration = Duration::from_millis(250);
/// While a bookie is set aside, writers look again after so many windows: only so many ledgers at a time may replace it.
const REMIND_WINDOWS: u32 = 4;
/// Enough that a page of the journal is written.
const PROBE_BYTES: usize = 64;

/// Runs until the pool has ended. Sleeps while nothing is sent and no bookie is set aside.
pub(crate) fn watch_over(pool: &Pool, metadata: SharedMetadata) {
    let clock = pool.context().env.clock.clone();
    let (weak, wake) = pool.downgrade();
    let probes = Arc::new(Probes { metadata, ledger: OnceCell::new(), next: AtomicU64::new(0) });
    tokio::spawn(async move {
        let mut windows: u32 = 0;
        loop {
            let Some(pool) = weak.upgrade() else { return };
            let idle = !pool.take_activity() && !pool.slow().any_quarantined();
            drop(pool);
            if idle {
                wake.notified().await;
            }
            clock.sleep(WINDOW).await;
            let Some(pool) = weak.upgrade() else { return };
            windows = windows.wrapping_add(1);
            window(&pool, &probes, windows.is_multiple_of(REMIND_WINDOWS));
        }
    });
}

fn window(pool: &Pool, probes: &Arc<Probes>, remind: bool) {
    let now = pool.context().env.clock.now();
    let latencies = pool.take_latencies();
    let bookies = pool.context().directory.now();
    let registered: Vec<BookieId> =
        bookies.writable().chain(bookies.read_only()).map(|(id, _)| id.clone()).collect();
    let mut slow = pool.slow();
    slow.on_window(now, &latencies, &registered);
    let mut tell = remind && slow.any_quarantined();
    while let Some(verdict) = slow.poll(now) {
        match verdict {
            Verdict::Quarantined { bookie, latency, peers } => {
                tracing::warn!(%bookie, ?latency, ?peers, "a bookie is far slower than its peers; replacing it");
                tell = true;
            }
            Verdict::Readmitted(bookie) => {
                tracing::info!(%bookie, "a bookie is as quick as its peers again");
                tell = true;
            }
            Verdict::Probe(bookie) => {
                let (pool, probes) = (pool.clone(), probes.clone());
                tokio::spawn(async move {
                    let latency = probes.probe(&pool, &bookie).await;
                    let now = pool.context().env.clock.now();
                    pool.slow().on_probe(now, &bookie, latency);
                });
            }
        }
    }
    drop(slow);
    if tell {
        pool.tell_slow();
    }
}

struct Probes {
    metadata: SharedMetadata,
    /// Taken at the first probe.
    ledger: OnceCell<LedgerId>,
    next: AtomicU64,
}

impl Probes {
    /// What an add took at this bookie; `None` when it failed, or when there is no ledger to add to.
    async fn probe(&self, pool: &Pool, bookie: &BookieId) -> Option<Duration> {
        let ledger = match self.ledger().await {
            Ok(ledger) => ledger,
            Err(error) => {
                tracing::debug!(%bookie, %error, "no ledger to probe a bookie with");
                return None;
            }
        };
        let entry = EntryId(self.next.fetch_add(1, Ordering::Relaxed));
        let payload = Bytes::from_static(&[0; PROBE_BYTES]);
        let header = BodyHeader { ledger_id: ledger, entry_id: entry, last_add_confirmed: None, length: 0 };
        let sealed = Digest::new(DigestType::Crc32c, b"").seal(&header, &payload);
        let mut head = BytesMut::new();
        v2::encode_add_header(&master_key(b""), Flags::NONE, sealed.as_ref(), payload.len(), &mut head);
        let (to, mut done) = mpsc::unbounded_channel();
        let reply = AddReply::new(to, 0, 0, entry, payload.len());
        let clock = &pool.context().env.clock;
        let sent = clock.now();
        pool.get(bookie).add(Add { ledger, entry, head: head.freeze(), payload, reply });
        let stored = done.recv().await.is_some_and(|done| done.outcome == AddOutcome::Stored);
        stored.then(|| clock.now().saturating_sub(sent))
    }

    async fn ledger(&self) -> Result<LedgerId, MetadataError> {
        self.ledger.get_or_try_init(|| ids::next(&self.metadata)).await.copied()
    }
}
