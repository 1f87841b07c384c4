//! New logs come into the index here, in steps that hold the engine's lock for a moment each.

use std::sync::Arc;

use magnetar_proto::ids::{EntryId, LedgerId};

use super::disk::OpenLog;
use super::read::Place;
use super::{Engine, State};
use crate::entry_log::{Log, OpenError, Run};
use crate::index::{Offsets, Part, Slot};

/// Runs taken into the index under one hold of the engine's lock.
pub(super) const RUNS_PER_TURN: usize = 512;

/// Live entries of a log, to be read one after the other.
pub(super) struct Live {
    pub(super) ledger: LedgerId,
    /// The first entry that was not read yet.
    pub(super) from: EntryId,
    part: Part,
    pub(super) log: Arc<Log>,
}

impl Live {
    pub(super) fn is_done(&self) -> bool {
        self.from > self.part.last()
    }

    /// Where the next entry lies, and up to `count` with it. There must be one.
    pub(super) fn place(&self, count: u64) -> Place {
        let stretch = (self.part.last().0 - self.from.0 + 1).min(count);
        let slot_at = self.log.slot_at(self.part.slot_of(self.from));
        Place { log: self.log.clone(), slot_at, stretch, ledger: self.ledger, entry: self.from }
    }
}

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

impl State {
    /// What is live of a run.
    fn live_parts(&self, log: &Arc<Log>, run: &Run) -> impl Iterator<Item = Live> {
        let ledger = self.ledgers.get(run.ledger);
        let parts = ledger.map_or(&[][..], |ledger| ledger.runs().within(run.first, run.last()));
        let parts = parts.iter().filter(|part| part.log() == log.id);
        parts.map(|part| Live { ledger: run.ledger, from: part.first(), part: *part, log: log.clone() })
    }
}

impl<T: Send + 'static> Engine<T> {
    /// What is live of a log, ascending by (ledger, entry). Blocks.
    pub(super) fn live_of(&self, log: &Arc<Log>) -> Result<Vec<Live>, OpenError> {
        let mut live = Vec::new();
        for runs in log.runs()?.chunks(RUNS_PER_TURN) {
            let state = self.lock();
            runs.iter().for_each(|run| live.extend(state.live_parts(log, run)));
        }
        Ok(live)
    }

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
