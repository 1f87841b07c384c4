//! Gives a bookie good copies of entries whose own copies it has found damaged: from its peers, in its place. Runs in the
//! bookie's own process.
//!
//! The ledger's record does not change, and need not be settled: the bookie held the entry before, and a copy with a right
//! digest is that entry.

use super::copy::{CopyError, Copying};
use super::metrics::Metrics;
use super::pace::Pace;
use crate::client::{Client, quorum_of};
use crate::error::LedgerError;
use hashbrown::HashSet;
use magnetar_proto::bookkeeper::BookieId;
use magnetar_proto::ids::{EntryId, LedgerId};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Between two looks at what is damaged.
const INTERVAL: Duration = Duration::from_secs(30);

/// Entries tried in vain, and told of, between two looks.
const FAILURES_MAX: usize = 20;

/// What a bookie has found damaged so far, each entry as long as it is remembered, and a number that tells its copies apart:
/// a good one that was put in the place of a damaged one may be found damaged in its turn.
pub type Damaged = Box<dyn Fn() -> Vec<(LedgerId, EntryId, u64)> + Send + Sync>;

/// See the module.
pub(crate) struct Mender {
    pub(crate) client: Client,
    pub(crate) me: BookieId,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) pace: Mutex<Pace>,
    pub(crate) damaged: Damaged,
}

impl Mender {
    /// Looks again and again, until cancelled.
    pub(crate) async fn run(&self) {
        // Bounded by what the bookie remembers.
        let mut mended = HashSet::new();
        loop {
            let damaged: HashSet<_> = (self.damaged)().into_iter().collect();
            mended.retain(|entry| damaged.contains(entry));
            let mut left: Vec<_> = damaged.into_iter().filter(|entry| !mended.contains(entry)).collect();
            // Those that cannot be mended must not hold up the others for ever.
            self.client.env().random.shuffle(&mut left);
            let mut failures = 0;
            for (ledger, entry, copy) in left {
                if failures == FAILURES_MAX {
                    break;
                }
                match self.mend(ledger, entry).await {
                    Ok(()) => drop(mended.insert((ledger, entry, copy))),
                    Err(error) => {
                        failures += 1;
                        tracing::warn!(%ledger, %entry, %error, "a damaged entry has no good copy yet; trying again");
                    }
                }
            }
            self.client.env().clock.sleep(INTERVAL).await;
        }
    }

    async fn mend(&self, ledger: LedgerId, entry: EntryId) -> Result<(), MendError> {
        let record = match self.client.metadata(ledger).await {
            Ok(record) => record,
            Err(LedgerError::NoSuchLedger(_)) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        let (quorum, ensemble) = (quorum_of(ledger, &record)?, record.ensemble_of(entry));
        // Others hold it now.
        if !quorum.write_set(entry).any(|slot| ensemble[slot] == self.me) {
            return Ok(());
        }
        let copying = Copying::new(&self.client, &self.metrics, &self.pace, ledger, quorum, &record);
        copying.copy(std::iter::once(entry), ensemble, &[], &self.me).await?;
        self.metrics.entries_mended.add(1);
        tracing::info!(%ledger, %entry, "a damaged entry has a good copy again");
        Ok(())
    }
}

#[derive(Debug, thiserror::Error)]
enum MendError {
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    #[error(transparent)]
    Copy(#[from] CopyError),
}
