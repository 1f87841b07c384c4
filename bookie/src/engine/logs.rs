//! New logs come into the index here, in steps that hold the engine's lock for a moment each.

use std::sync::Arc;

use super::disk::OpenLog;
use super::{Engine, State};
use crate::entry_log::{Log, Run};
use crate::index::{Offsets, Slot};

/// Runs taken into the index under one hold of the engine's lock.
pub(super) const RUNS_PER_TURN: usize = 512;

/// Slots to read from logs that are kept readable.
pub(super) struct Unread(Vec<(Slot, Arc<Log>)>);

impl Unread {
    /// Reads them, as far as they can be. Blocks.
    pub(super) fn read(self) -> Offsets {
        let mut offsets = Offsets::default();
        for (slot, log) in self.0 {
            match log.offset(slot.slot) {
                Ok(offset) => offsets.insert(slot, offset),
                Err(error) => tracing::warn!(log = log.id, %error, "cannot read a slot of an entry log"),
            }
        }
        offsets
    }
}

impl State {
    /// An id higher than every log's so far. Whoever takes it later has seen a newer state of the ledgers: that is
    /// what makes the copy in the higher log the newer one.
    pub(super) fn take_log_id(&mut self) -> u64 {
        self.next_log += 1;
        self.next_log - 1
    }

    pub(super) fn offsets(&self, slots: &[Slot]) -> Unread {
        let log = |slot: &Slot| Some((*slot, self.logs.get(&u64::from(slot.log))?.log.clone()));
        Unread(slots.iter().filter_map(log).collect())
    }
}

impl<T: Send + 'static> Engine<T> {
    /// Takes a flushed log, newer than all before. Blocks. The caller holds the flush: parts come and move nowhere
    /// else, so that what was read before the cut still holds.
    pub(super) fn index_log(&self, open: OpenLog, runs: &[Run]) {
        let log = open.log.clone();
        self.lock().logs.insert(log.id, open);
        for runs in runs.chunks(RUNS_PER_TURN) {
            let unread = {
                let state = self.lock();
                state.offsets(&state.ledgers.slots_to_cut(&log, runs))
            };
            let offsets = unread.read();
            self.lock().ledgers.add_runs(&log, runs, &offsets);
        }
    }
}
