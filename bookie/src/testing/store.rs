//! An engine over files in memory, for tests of what goes on beside serving.

use std::path::Path;
use std::sync::{Arc, mpsc};

use bytes::{BufMut, Bytes, BytesMut};
use futures_util::FutureExt;
use magnetar_common::storage::Storage;
use magnetar_proto::ids::{EntryId, LedgerId};

use super::{add, body, instance, metrics};
use crate::engine::{Add, Disk, Engine, Limits, Lookup};
use crate::journal::DeviceOptions;

pub(crate) const JOURNAL: &str = "/journal";
pub(crate) const LEDGERS: &str = "/ledgers";

/// The length of the bodies that [`Store::add`] stores.
pub(crate) const BODY_BYTES: usize = 1000;

pub(crate) struct Store {
    pub(crate) engine: Arc<Engine<u64>>,
    done: mpsc::Receiver<u64>,
}

/// The body of an entry, told apart from all others also by its `copy`.
pub(crate) fn copy_of(ledger: u64, entry: u64, copy: u8) -> Bytes {
    let mut bytes = BytesMut::from(&body(ledger, entry)[..]);
    bytes.put_bytes(copy, BODY_BYTES - bytes.len());
    bytes.freeze()
}

impl Store {
    pub(crate) fn open(storage: &Arc<dyn Storage>) -> Store {
        Store::open_in(storage, JOURNAL, LEDGERS)
    }

    pub(crate) fn open_in(
        storage: &Arc<dyn Storage>,
        journal: impl AsRef<Path>,
        ledgers: impl AsRef<Path>,
    ) -> Store {
        let disk = Disk {
            storage: storage.clone(),
            journal_dir: journal.as_ref().to_owned(),
            ledger_dirs: vec![ledgers.as_ref().to_owned()],
            instance: instance(),
        };
        let limits = Limits {
            write_cache_bytes: 8 << 20,
            read_cache_bytes: 1 << 20,
            journal_bytes: 64 << 20,
            segment_bytes: 1 << 20,
            journal_device: DeviceOptions::default(),
            free_bytes_min: 0,
        };
        let (send, done) = mpsc::channel();
        let complete =
            Box::new(move |tokens: &mut Vec<u64>| tokens.drain(..).for_each(|token| _ = send.send(token)));
        Store { engine: Engine::open(disk, limits, metrics(), complete).unwrap(), done }
    }

    /// Stores a copy of an entry, durably.
    pub(crate) fn put(&self, ledger: u64, entry: u64, copy: u8) {
        let room = self.engine.room(2 * BODY_BYTES).now_or_never().flatten();
        let mut turn = self.engine.turn();
        turn.add(Add { body: copy_of(ledger, entry, copy), ..add(ledger, entry) }).unwrap();
        turn.finish(room, Some(0));
        self.done.recv().unwrap();
    }

    pub(crate) fn add(&self, ledger: u64, entries: impl IntoIterator<Item = u64>) {
        entries.into_iter().for_each(|entry| self.put(ledger, entry, 0));
    }

    pub(crate) fn flush(&self) {
        assert!(self.engine.flush_now().unwrap(), "no disk is full");
    }

    /// The entry, `None` when it is truly not there.
    pub(crate) fn read(&self, ledger: u64, entry: u64) -> Option<Bytes> {
        match self.engine.turn().lookup(LedgerId(ledger), Some(EntryId(entry))) {
            Lookup::Here(body) => Some(body),
            Lookup::OnDisk(place) => Some(place.read(1, 0).unwrap().remove(0)),
            Lookup::NoEntry | Lookup::NoLedger => None,
            Lookup::Unknown => panic!("no log is damaged"),
        }
    }

    /// That each of these entries reads as it was added.
    pub(crate) fn holds(&self, ledger: u64, entries: impl IntoIterator<Item = u64>) {
        for entry in entries {
            assert_eq!(self.read(ledger, entry), Some(copy_of(ledger, entry, 0)), "{ledger}:{entry}");
        }
    }
}

/// Bytes of all entry logs.
pub(crate) fn log_bytes(storage: &Arc<dyn Storage>) -> u64 {
    let logs = super::files(storage, LEDGERS, ".elog");
    logs.iter().map(|path| storage.open(path).unwrap().len().unwrap()).sum()
}
