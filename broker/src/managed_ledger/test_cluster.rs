//! Three real bookies over a metadata store in memory, for the tests of managed ledgers and cursors.

use super::test_store::Lost;
use super::{ManagedLedger, MlConfig, MlEnv, MlEvent};
use bytes::Bytes;
use magnetar_bookie::Bookie;
use magnetar_common::Environment;
use magnetar_common::metadata::{MemoryStore, SharedMetadata};
use magnetar_ledger::{Client, ClientConfig};
use magnetar_proto::bookkeeper::BookieId;
use magnetar_proto::ids::{EntryId, LedgerId, Position};
use std::sync::Arc;

pub(crate) struct Cluster {
    pub(crate) env: MlEnv,
    bookies: Vec<Bookie>,
    _dir: tempfile::TempDir,
}

impl Cluster {
    pub(crate) async fn start() -> Self {
        let environment = Environment::system();
        let metadata: SharedMetadata = Arc::new(MemoryStore::new());
        let dir = tempfile::tempdir().expect("a directory");
        let mut bookies = Vec::new();
        for number in 0..3 {
            let path = dir.path().join(number.to_string());
            let mut config = magnetar_bookie::Config::new(path.join("journal"), vec![path.join("ledgers")]);
            config.bookie_id = Some(BookieId::new(&format!("bookie-{number}")).expect("an id"));
            bookies
                .push(Bookie::start(config, metadata.clone(), environment.clone()).await.expect("a bookie"));
        }
        let (clock, random) = (environment.clock.clone(), environment.random.clone());
        let ledgers =
            Client::new(metadata.clone(), environment, ClientConfig::default()).await.expect("a client");
        Self { env: MlEnv { ledgers, metadata, clock, random }, bookies, _dir: dir }
    }

    pub(crate) async fn open(&self, config: MlConfig) -> ManagedLedger {
        ManagedLedger::open(self.env.clone(), NAME, config).await.expect("opened")
    }

    /// As seen by an owner whose store is lost at its transaction after the next `left` ones, applied or not.
    pub(crate) fn env_lost_after(&self, left: usize, applies: bool) -> MlEnv {
        let store = Lost { store: self.env.metadata.clone(), left: left.into(), applies };
        MlEnv { metadata: Arc::new(store), ..self.env.clone() }
    }

    pub(crate) async fn ledger_exists(&self, id: LedgerId) -> bool {
        self.env.ledgers.metadata(id).await.is_ok()
    }

    pub(crate) async fn stop(self) {
        for bookie in self.bookies {
            bookie.shutdown().await.expect("a clean end");
        }
    }
}

pub(crate) const NAME: &str = "public/default/persistent/topic";

/// Rolls over after a few entries.
pub(crate) fn small_ledgers() -> MlConfig {
    MlConfig { max_entries_per_ledger: 10, ..MlConfig::default() }
}

pub(crate) fn payload(number: usize) -> Bytes {
    Bytes::from(format!("entry {number}"))
}

/// Waits until this position is confirmed.
pub(crate) async fn confirmed(ml: &mut ManagedLedger, position: Position) {
    while ml.last_confirmed().is_none_or(|last| last < position) {
        if let MlEvent::Failed(error) = ml.next().await {
            panic!("{error}");
        }
    }
}

pub(crate) async fn append(ml: &mut ManagedLedger, numbers: std::ops::Range<usize>) -> Vec<Position> {
    ml.make_writable().await.expect("writable");
    let positions: Vec<Position> = numbers.map(|number| ml.append(payload(number)).expect("taken")).collect();
    confirmed(ml, *positions.last().expect("some")).await;
    positions
}

/// Everything that is there, read in small steps.
pub(crate) async fn read_all(ml: &ManagedLedger) -> Vec<(Position, Bytes)> {
    let (reader, mut all) = (ml.reader(), Vec::new());
    let Some(up_to) = ml.last_confirmed() else { return all };
    let mut from = Position::new(LedgerId(0), EntryId(0));
    loop {
        let batch = reader.read(from, 7, 50, up_to).await.expect("readable");
        let Some((last, _)) = batch.last() else { return all };
        from = ml.ledgers().next_valid(*last);
        all.extend(batch);
    }
}
