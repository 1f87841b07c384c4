//! Finds ledgers that were deleted. A ledger is forgotten only on positive proof, twice: a point read of its metadata
//! that succeeded and found nothing, in two rounds an interval apart. Listings are never trusted, and any error of the
//! metadata store ends the round with nothing forgotten.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use magnetar_common::clock::SharedClock;
use magnetar_common::metadata::{MetadataError, SharedMetadata};
use magnetar_proto::bookkeeper::paths::ledger_path;
use magnetar_proto::ids::LedgerId;

use crate::engine::Engine;
use crate::server::Durable;

pub(crate) struct Collector {
    pub(crate) engine: Arc<Engine<Durable>>,
    pub(crate) metadata: SharedMetadata,
    pub(crate) clock: SharedClock,
}

impl Collector {
    /// A round every `interval`, until aborted.
    pub(crate) async fn run(self, interval: Duration) {
        let mut suspects = HashSet::new();
        loop {
            self.clock.sleep(interval).await;
            match self.round(&suspects).await {
                Ok(absent) => suspects = absent,
                Err(error) => tracing::warn!(%error, "cannot look for deleted ledgers now"),
            }
        }
    }

    /// Forgets the ledgers that are absent now and were `suspects` before; returns those absent for the first time.
    pub(crate) async fn round(
        &self,
        suspects: &HashSet<LedgerId>,
    ) -> Result<HashSet<LedgerId>, MetadataError> {
        let mut dead = Vec::new();
        let mut absent = HashSet::new();
        // Taken before the reads: metadata exists before a ledger's first add, so a new ledger cannot look deleted.
        for ledger in self.engine.ledgers() {
            if self.metadata.get(&ledger_path(ledger)).await?.is_some() {
                continue;
            }
            if suspects.contains(&ledger) {
                dead.push(ledger);
            } else {
                absent.insert(ledger);
            }
        }
        if !dead.is_empty() {
            tracing::info!(ledgers = dead.len(), "forgetting deleted ledgers");
        }
        let (engine, now_ms) = (self.engine.clone(), self.clock.unix_ms());
        let forget = tokio::task::spawn_blocking(move || {
            engine.forget(&dead, now_ms);
            engine.expire_deleted(now_ms);
            engine.drop_dead_logs()
        });
        let forget = forget.await;
        if let Ok(Err(error)) = forget {
            self.engine.fail(error);
        }
        Ok(absent)
    }
}
