//! Finds ledgers that were deleted. A ledger is forgotten only on positive proof, twice: two point reads of its metadata
//! that succeeded and found nothing, the grace period apart, from a store that knows this bookie. Watches and listings
//! only say where to look; they are never trusted, and any error of the store ends a round with nothing forgotten.
//!
//! Deletions are heard of through a watch at once. What a watch may miss (while the bookie was down, or a burst that was
//! too long for it) is found by a sweep: the names next to each ledger of ours are listed, one request for up to 10,000
//! ledgers in a row, and who is not listed becomes a suspect. So a million ledgers cost the store a hundred requests a
//! sweep, not a million.
//!
//! Beside them, ledgers that other bookies hold now are let go: see `elsewhere`.

mod asked;
mod elsewhere;
mod heard;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt, TryStreamExt, stream};
use magnetar_common::clock::SharedClock;
use magnetar_common::metadata::{MetadataError, SharedMetadata};
use magnetar_proto::bookkeeper::paths::{self, ledger_path};
use magnetar_proto::ids::LedgerId;
use tokio::sync::Notify;

pub(crate) use self::asked::Asked;
use self::elsewhere::Elsewhere;
use self::heard::Heard;
use crate::background::Stop;
use crate::cookie;
use crate::engine::Engine;
use crate::identity::Identity;

/// Point reads that may be under way at once: some ten thousand a second against a store a millisecond away, and no
/// flood for one that is slower.
const READS_MAX: usize = 32;

/// A failed round is tried again after this; sweeps that a broken watch asks for are at least this far apart.
const RETRY: Duration = Duration::from_secs(5);

/// When ledgers are looked for and forgotten.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    /// Between two sweeps.
    pub(crate) interval: Duration,
    /// Between the two reads that prove an absence.
    pub(crate) grace: Duration,
}

/// See the module.
pub(crate) struct Collector<T> {
    pub(crate) engine: Arc<Engine<T>>,
    pub(crate) metadata: SharedMetadata,
    pub(crate) clock: SharedClock,
    /// Who the store must know us as.
    pub(crate) identity: Identity,
    pub(crate) settings: Settings,
    /// Told when ledgers were forgotten: there is space to be had.
    pub(crate) freed: Arc<Notify>,
    /// Tells when somebody wants a sweep.
    pub(crate) asked: Arc<Asked>,
    pub(crate) stop: Stop,
}

/// Why nothing is forgotten now.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoProof {
    #[error("{0}")]
    Metadata(#[from] MetadataError),
    #[error(
        "the metadata store does not know this bookie: it was emptied, or is another one; no ledger is forgotten"
    )]
    Stranger,
}

/// Ledgers that may have been deleted.
#[derive(Debug, Default)]
struct Suspects {
    /// Not looked at yet.
    new: BTreeSet<LedgerId>,
    /// Read once and not found, with the time after that read.
    absent: HashMap<LedgerId, Duration>,
}

impl<T: Send + 'static> Collector<T> {
    /// Looks for deleted ledgers until told to stop.
    pub(crate) async fn run(self) {
        let heard = Heard::default();
        // The watch begins before the first sweep, which then need not be repeated for what it may have missed.
        tokio::select! {
            biased;
            () = self.stop.wait() => {}
            () = self.listen(&heard) => {}
            () = self.hear_wishes(&heard) => {}
            () = self.collect(&heard) => {}
        }
    }

    /// Notes down what the watch says, without ever making it wait.
    async fn listen(&self, heard: &Heard) {
        loop {
            let mut watch = self.metadata.watch(&format!("{}/", paths::ROOT));
            // Whatever was deleted before this watch, nobody will tell.
            heard.missed_some();
            while let Some(event) = watch.next().await {
                heard.take(event, |ledger| self.engine.knows(ledger));
            }
            self.clock.sleep(RETRY).await;
        }
    }

    async fn hear_wishes(&self, heard: &Heard) {
        loop {
            self.asked.next().await;
            heard.missed_some();
        }
    }

    async fn collect(&self, heard: &Heard) {
        let (mut suspects, mut elsewhere) = (Suspects::default(), Elsewhere::default());
        let (mut last_sweep, mut next_sweep) = (None, self.clock.now());
        loop {
            let wake = suspects.next_due(self.settings.grace).map_or(next_sweep, |due| due.min(next_sweep));
            let wait = self.clock.sleep(wake.saturating_sub(self.clock.now()));
            tokio::select! {
                () = heard.something() => {}
                () = wait => {}
            }
            let (deleted, missed) = heard.drain();
            suspects.new.extend(deleted);
            if missed {
                next_sweep = next_sweep.min(last_sweep.map_or(Duration::ZERO, |last| last + RETRY));
            }
            let sweep = self.clock.now() >= next_sweep;
            let begun = self.clock.now();
            let mut round = self.round(&mut suspects, sweep).await;
            if sweep && round.is_ok() {
                round = self.look_elsewhere(&mut elsewhere).await;
            }
            self.engine.metrics().gc.round.ended(self.clock.now() - begun, &round);
            match round {
                Ok(()) if sweep => {
                    last_sweep = Some(self.clock.now());
                    if self.asked.is_pending() {
                        self.asked.done();
                        self.freed.notify_one();
                    }
                    next_sweep = self.clock.now() + self.settings.interval;
                }
                Ok(()) => {}
                Err(error) => {
                    tracing::warn!(%error, "cannot look for deleted ledgers now");
                    self.clock.sleep(RETRY).await;
                }
            }
        }
    }

    /// One step for every suspect whose time has come.
    async fn round(&self, suspects: &mut Suspects, sweep: bool) -> Result<(), NoProof> {
        if sweep {
            let (engine, now_ms) = (self.engine.clone(), self.clock.unix_ms());
            // The runtime is ending when this cannot be done.
            let _ = tokio::task::spawn_blocking(move || engine.expire_deleted(now_ms)).await;
            suspects.new.append(&mut self.unlisted().await?);
        }
        let new: Vec<_> = suspects.new.iter().copied().collect();
        for (ledger, present) in self.read(new).await? {
            suspects.new.remove(&ledger);
            if !present {
                suspects.absent.entry(ledger).or_insert(self.clock.now());
            }
        }
        let due = suspects.due(self.clock.now(), self.settings.grace);
        if due.is_empty() {
            return Ok(());
        }
        let read = self.read(due).await?;
        self.be_known().await?;
        let dead: Vec<_> = read.iter().filter(|(_, present)| !present).map(|(ledger, _)| *ledger).collect();
        for (ledger, _) in &read {
            suspects.absent.remove(ledger);
        }
        tracing::info!(ledgers = dead.len(), "forgetting deleted ledgers");
        let (engine, now_ms) = (self.engine.clone(), self.clock.unix_ms());
        let _ = tokio::task::spawn_blocking(move || engine.forget(&dead, now_ms)).await;
        self.freed.notify_one();
        Ok(())
    }

    /// Ledgers of ours that no listing names.
    async fn unlisted(&self) -> Result<BTreeSet<LedgerId>, NoProof> {
        let mut folders: BTreeMap<String, Vec<LedgerId>> = BTreeMap::new();
        // Taken before the store is asked: metadata exists before a ledger's first add, so a new ledger cannot look
        // deleted.
        for ledger in self.engine.ledgers() {
            folders.entry(folder_and_name(ledger).0).or_default().push(ledger);
        }
        let mut unlisted = BTreeSet::new();
        // One at a time: a sweep has no hurry.
        for (folder, ledgers) in folders {
            let listed: HashSet<String> = self.metadata.children(&folder).await?.into_iter().collect();
            unlisted
                .extend(ledgers.into_iter().filter(|ledger| !listed.contains(&folder_and_name(*ledger).1)));
        }
        Ok(unlisted)
    }

    /// Point reads: whether each ledger has metadata. The first error is the result of all.
    async fn read(&self, ledgers: Vec<LedgerId>) -> Result<Vec<(LedgerId, bool)>, NoProof> {
        let reads = stream::iter(ledgers).map(|ledger| async move {
            let present = self.metadata.get(&ledger_path(ledger)).await?.is_some();
            Ok((ledger, present))
        });
        reads.buffer_unordered(READS_MAX).try_collect().await
    }

    /// A store that was emptied has no ledgers, and not this bookie's cookie either.
    async fn be_known(&self) -> Result<(), NoProof> {
        let known = cookie::known_instance(&self.metadata, &self.identity.bookie).await?;
        (known == Some(self.identity.instance.to_string())).then_some(()).ok_or(NoProof::Stranger)
    }
}

impl Suspects {
    /// When the next absence may be proved.
    fn next_due(&self, grace: Duration) -> Option<Duration> {
        self.absent.values().min().map(|since| *since + grace)
    }

    fn due(&self, now: Duration, grace: Duration) -> Vec<LedgerId> {
        let due = self.absent.iter().filter(|(_, since)| now >= **since + grace);
        due.map(|(ledger, _)| *ledger).collect()
    }
}

fn folder_and_name(ledger: LedgerId) -> (String, String) {
    let path = ledger_path(ledger);
    let (folder, name) = path.rsplit_once('/').expect("a ledger's key has folders");
    (folder.to_owned(), name.to_owned())
}
