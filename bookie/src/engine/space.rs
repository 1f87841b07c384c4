//! Free space: watched, so that the bookie goes read-only before a disk is full and comes back by itself.

use std::io;
use std::path::Path;

use magnetar_common::storage::Space;

use super::dirs::recovered;
use super::{Engine, ReadOnlyReason, State};

/// Below this part of the reserve, recovery adds are refused too: what is left is for compaction and checkpoints.
const EXHAUSTED_PART: u64 = 4;

/// The reserve is at most this part of a disk, so that small disks can be used at all.
const RESERVE_PART_MAX: u64 = 10;

/// The rest of the segment being written, and the next one.
const RESERVED_SEGMENTS: u64 = 2;

/// The journal's space is reserved when the free space is below so many times it and the reserve: with the defaults at 2.5
/// GiB, seconds before a fast disk is full.
const RESERVE_AHEAD: u64 = 4;

/// One look at a disk.
#[derive(Clone, Copy)]
struct Look {
    free: u64,
    reserve: u64,
}

impl Look {
    /// Bytes above the reserve.
    fn spare(&self) -> u64 {
        self.free.saturating_sub(self.reserve)
    }

    fn is_low(&self, was_low: bool) -> bool {
        self.free < if was_low { recovered(self.reserve) } else { self.reserve }
    }
}

impl<T: Send + 'static> Engine<T> {
    /// Looks at the free space of every disk and sets the mode accordingly. A disk whose space cannot be read keeps
    /// what was known of it. Blocks.
    pub(crate) fn check_space(&self) {
        let was_low = self.mode.borrow().reasons().any(|reason| reason == ReadOnlyReason::LowSpace);
        let mut dirs: Vec<Look> = Vec::new();
        for dir in self.dirs.usable() {
            let Some(look) = self.look(self.dirs.path(dir)) else { continue };
            self.dirs.set_free(dir, look.free, look.reserve);
            dirs.push(look);
        }
        let journal = self.look(&self.disk.journal_dir);
        if let Some(look) = journal {
            self.keep_journal_going(look);
        }
        // The same slack as for the ledger directories.
        let journal_low = journal.map_or(was_low, |look| look.is_low(was_low));
        let (_, _, with_space) = self.dirs.counts();
        let best = dirs.iter().max_by_key(|look| look.spare()).copied();
        let disks = || journal.iter().chain(&best);
        let exhausted = disks().any(|look| look.free < look.reserve / EXHAUSTED_PART);
        // An entry goes to the journal and to a log, which may lie on the same disk.
        let credit = disks().map(|look| look.spare() / 2).min();
        self.lock().space_credit = credit.unwrap_or(u64::MAX);
        self.set_low_space(journal_low || with_space == 0, exhausted);
        if with_space > 0 && self.flush.is_stuck() {
            self.flush.request();
        }
    }

    /// While there is still some space, takes what the journal needs to make durable all that the write cache can hold: others
    /// may fill the disk faster than the mode follows. Far from that nothing is taken, and a young journal is small.
    fn keep_journal_going(&self, look: Look) {
        let ahead = RESERVED_SEGMENTS * self.limits.segment_bytes;
        let is_near = look.free < RESERVE_AHEAD * (look.reserve + ahead);
        if is_near
            && look.free >= 2 * ahead
            && let Err(error) = self.journal.reserve()
        {
            tracing::warn!(%error, "cannot reserve space for the journal");
        }
    }

    fn look(&self, path: &Path) -> Option<Look> {
        match self.disk.storage.space(path) {
            Ok(Space { free, total }) => {
                let reserve = self.limits.free_bytes_min.min(total / RESERVE_PART_MAX);
                Some(Look { free, reserve })
            }
            Err(error) => {
                tracing::warn!(dir = %path.display(), %error, "cannot read the free space");
                None
            }
        }
    }

    /// A write found no space: recovery adds are refused too, until the next look at the disks.
    pub(super) fn found_no_space(&self) {
        self.set_low_space(true, true);
    }

    /// Takes note of accepted bytes. Disks fill up between two looks at them too: what was spare at the last one is all
    /// that is accepted until the next.
    pub(super) fn spend_space(&self, state: &mut State, bytes: u64) {
        state.space_credit = state.space_credit.saturating_sub(bytes);
        if state.space_credit == 0 {
            let mode = state.mode.with(ReadOnlyReason::LowSpace, true);
            self.change_mode(state, mode);
        }
    }

    fn set_low_space(&self, low: bool, exhausted: bool) {
        let mut state = self.lock();
        let mut mode = state.mode.with(ReadOnlyReason::LowSpace, low);
        mode.exhausted = low && exhausted;
        self.change_mode(&mut state, mode);
    }

    /// Free and total bytes of the ledger directories that can be used. Blocks.
    pub(crate) fn space(&self) -> io::Result<(u64, u64)> {
        let mut sum = (0, 0);
        for dir in self.dirs.usable() {
            let space = self.disk.storage.space(self.dirs.path(dir))?;
            sum = (sum.0 + space.free, sum.1 + space.total);
        }
        Ok(sum)
    }
}
