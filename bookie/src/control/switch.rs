//! The operator's wish that the bookie be read-only, kept over restarts: an empty file in the journal directory, there
//! or not, so that no crash leaves half a wish.

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use magnetar_common::storage::Storage;

use crate::engine::{Engine, ReadOnlyReason};

const NAME: &str = "READ_ONLY";

/// See the module.
pub(crate) struct Switch {
    storage: Arc<dyn Storage>,
    dir: PathBuf,
    /// Held while the wish changes, so that the file and the engine say the same afterwards.
    changing: Mutex<()>,
}

impl Switch {
    pub(crate) fn new(storage: Arc<dyn Storage>, journal_dir: PathBuf) -> Self {
        Switch { storage, dir: journal_dir, changing: Mutex::new(()) }
    }

    /// Makes the engine read-only if that was the last wish. Blocks.
    pub(crate) fn restore<T: Send + 'static>(&self, engine: &Engine<T>) -> io::Result<()> {
        if self.storage.exists(&self.dir.join(NAME))? {
            engine.set_read_only(ReadOnlyReason::Operator, true);
        }
        Ok(())
    }

    /// Makes the engine read-only for the operator, or no longer, now and after a restart. After an error the engine is
    /// read-only, and what a restart brings is not known. Idempotent. Blocks.
    pub(super) fn set<T: Send + 'static>(&self, engine: &Engine<T>, on: bool) -> io::Result<()> {
        let _one_at_a_time = self.changing.lock().expect("nothing panics while the switch changes");
        // On before it is durable and off after: the engine never takes an add that a durable wish forbids.
        if on {
            engine.set_read_only(ReadOnlyReason::Operator, true);
        }
        self.record(on)?;
        engine.set_read_only(ReadOnlyReason::Operator, on);
        Ok(())
    }

    fn record(&self, on: bool) -> io::Result<()> {
        let path = self.dir.join(NAME);
        match self.storage.exists(&path)? {
            there if there == on => {}
            true => self.storage.remove(&path)?,
            false => {
                self.storage.create(&path)?.sync_data()?;
            }
        }
        // Also when nothing changed: an earlier attempt may have failed here.
        self.storage.sync_dir(&self.dir)
    }
}
