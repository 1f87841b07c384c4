//! Ledgers whose entries lie here though their metadata names other bookies: what a replacement of this bookie, in whole
//! or for one ledger, has left behind.
//!
//! Only closed ledgers are looked at: the ensemble of an open one may be about to change. A replicator copies entries to
//! a bookie before the metadata names it, so that a ledger being copied here looks just like one that was left behind.
//! What tells them apart is time: entries are dropped only when two looks, [`QUIET`] apart, found the same version of the
//! metadata and the same entries here, and nobody holds the ledger's lock of re-replication. A fence is kept, so that a
//! writer that slept for long finds it.
//!
//! Every ledger of this bookie is looked at about once a day, a part of them at each sweep.

use std::collections::HashMap;
use std::time::Duration;

use futures_util::{StreamExt, TryStreamExt, stream};
use magnetar_common::metadata::Version;
use magnetar_proto::bookkeeper::metadata_format::{LedgerMetadata, LedgerState};
use magnetar_proto::bookkeeper::paths::ledger_path;
use magnetar_proto::bookkeeper::underreplication::lock_path;
use magnetar_proto::ids::LedgerId;

use super::{Collector, NoProof, READS_MAX};
use crate::engine::Holding;

/// Between the two looks. A replicator adds entries all the time, and names its bookie right after the last one.
pub(super) const QUIET: Duration = Duration::from_secs(3600);

/// A ledger is looked at at one of so many sweeps: with the default interval once a day. A million ledgers cost the store
/// ten thousand reads each quarter of an hour.
const SWEEPS: usize = 96;

/// Looked at in any case.
const LEDGERS_MIN: usize = 1000;

/// What is known of ledgers that seem to be elsewhere. Bounded by the ledgers of this bookie.
#[derive(Debug, Default)]
pub(super) struct Elsewhere {
    /// The last ledger that was looked at.
    after: Option<LedgerId>,
    seen: HashMap<LedgerId, Seen>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Seen {
    at: Duration,
    version: Version,
    holding: Holding,
}

impl Elsewhere {
    /// The ledgers whose turn it is, of all in ascending order, and those whose second look is due.
    fn turn(&mut self, all: &[LedgerId], now: Duration) -> Vec<LedgerId> {
        let from = self.after.map_or(0, |after| all.partition_point(|ledger| *ledger <= after));
        let some = &all[from..];
        let some = &some[..some.len().min(LEDGERS_MIN.max(all.len().div_ceil(SWEEPS)))];
        // From the beginning after the last one.
        self.after = some.last().copied().filter(|last| Some(last) != all.last());
        let due = self.seen.iter().filter(|(_, seen)| now >= seen.at + QUIET).map(|(ledger, _)| *ledger);
        let mut turn: Vec<_> = due.chain(some.iter().copied()).collect();
        turn.sort_unstable();
        turn.dedup();
        turn
    }

    /// Takes note of a look; whether it proves that the ledger was left behind.
    fn look(&mut self, ledger: LedgerId, now: Duration, found: Option<(Version, Holding)>) -> bool {
        let Some((version, holding)) = found else {
            self.seen.remove(&ledger);
            return false;
        };
        match self.seen.get(&ledger) {
            Some(seen) if (seen.version, seen.holding) == (version, holding) => now >= seen.at + QUIET,
            _ => {
                self.seen.insert(ledger, Seen { at: now, version, holding });
                false
            }
        }
    }
}

impl<T: Send + 'static> Collector<T> {
    /// One look at the ledgers whose turn it is; drops the entries of those that were proven to be left behind.
    pub(super) async fn look_elsewhere(&self, elsewhere: &mut Elsewhere) -> Result<(), NoProof> {
        let mut all = self.engine.ledgers();
        all.sort_unstable();
        let mut proven = Vec::new();
        let now = self.clock.now();
        for (ledger, version) in self.read_elsewhere(elsewhere.turn(&all, now)).await? {
            let holding = self.engine.holding(ledger);
            let found = version.zip(holding.filter(|holding| holding.is_at_rest()));
            if elsewhere.look(ledger, now, found) {
                proven.extend(holding.map(|holding| (ledger, holding)));
            }
        }
        let mut left = Vec::new();
        for (ledger, holding) in proven {
            if self.metadata.get(&lock_path(ledger)).await?.is_none() {
                left.push((ledger, holding));
            }
            elsewhere.seen.remove(&ledger);
        }
        if left.is_empty() {
            return Ok(());
        }
        self.be_known().await?;
        let (engine, now_ms) = (self.engine.clone(), self.clock.unix_ms());
        let dropped = tokio::task::spawn_blocking(move || engine.leave(&left, now_ms)).await;
        // The runtime is ending when this cannot be done.
        let ledgers = dropped.unwrap_or(0);
        tracing::info!(ledgers, "dropped entries of closed ledgers that other bookies hold");
        self.freed.notify_one();
        Ok(())
    }

    /// Point reads: the version of each ledger's metadata if that is of a closed ledger and does not name this bookie.
    async fn read_elsewhere(
        &self,
        ledgers: Vec<LedgerId>,
    ) -> Result<Vec<(LedgerId, Option<Version>)>, NoProof> {
        let reads = stream::iter(ledgers).map(|ledger| async move {
            let value = self.metadata.get(&ledger_path(ledger)).await?;
            let version = value.filter(|value| self.is_elsewhere(&value.bytes)).map(|value| value.version);
            Ok((ledger, version))
        });
        reads.buffer_unordered(READS_MAX).try_collect().await
    }

    /// What cannot be read may name this bookie.
    fn is_elsewhere(&self, record: &[u8]) -> bool {
        let Ok(metadata) = LedgerMetadata::decode(record) else { return false };
        let names_us = metadata.segments.values().flatten().any(|bookie| *bookie == self.identity.bookie);
        matches!(metadata.state, LedgerState::Closed { .. }) && !names_us
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_ledger_has_its_turn_within_a_day_of_sweeps() {
        let all: Vec<_> = (0..1_000_000).map(LedgerId).collect();
        let mut elsewhere = Elsewhere::default();
        let mut seen = Vec::new();
        for _ in 0..SWEEPS {
            let turn = elsewhere.turn(&all, Duration::ZERO);
            assert!(turn.len() < 10_500, "{}", turn.len());
            seen.extend(turn);
        }
        seen.sort_unstable();
        assert_eq!(seen, all);
        assert_eq!(elsewhere.turn(&all[..3], Duration::ZERO), all[..3]);
    }
}
