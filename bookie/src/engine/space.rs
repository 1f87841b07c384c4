//! Free space: watched, so that the bookie goes read-only before a disk is full and comes back by itself.

use std::io;

use super::dirs::is_full;
use super::{Engine, ReadOnlyReason};

/// Below this part of the reserve, recovery adds are refused too: what is left is for compaction and checkpoints.
const EXHAUSTED_PART: u64 = 4;

impl<T: Send + 'static> Engine<T> {
    /// Looks at the free space of every disk and sets the mode accordingly. A disk whose space cannot be read keeps
    /// what was known of it. Blocks.
    pub(crate) fn check_space(&self) {
        let reserve = self.limits.free_bytes_min;
        let free = |path| self.disk.storage.space(path).map(|space| space.free);
        let usable = self.dirs.usable();
        for dir in &usable {
            let free = free(self.dirs.path(*dir));
            if let Err(error) = &free {
                tracing::warn!(dir = %self.dirs.path(*dir).display(), %error, "cannot read the free space");
            }
            self.dirs.set_free(*dir, free.ok(), reserve);
        }
        let journal = free(&self.disk.journal_dir).ok();
        let was_low = self.mode.borrow().reasons().any(|reason| reason == ReadOnlyReason::LowSpace);
        // The same slack as for the ledger directories.
        let needed = if was_low { reserve.saturating_add(reserve / 4) } else { reserve };
        let journal_low = journal.map_or(was_low, |free| free < needed);
        let (_, _, with_space) = self.dirs.counts();
        let least = journal.unwrap_or(u64::MAX).min(self.dirs.most_free());
        self.set_low_space(journal_low || with_space == 0, least < reserve / EXHAUSTED_PART);
        if with_space > 0 && self.flush.is_stuck() {
            self.flush.request();
        }
    }

    /// A write found no space: recovery adds are refused too, until the next look at the disks.
    pub(super) fn found_no_space(&self) {
        self.set_low_space(true, true);
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

    /// Runs `write` in the directories where log number `log` may go, one after the other, until it succeeds. A
    /// directory that fails otherwise than by being full is lost, as long as another one is left. `Ok(None)` when all
    /// are full. Blocks.
    pub(super) fn in_some_dir<R, E: std::error::Error>(
        &self,
        log: u64,
        cause: impl Fn(&E) -> Option<&io::Error>,
        mut write: impl FnMut(usize) -> Result<R, E>,
    ) -> Result<Option<R>, E> {
        let mut last = None;
        for dir in self.dirs.candidates(log) {
            match write(dir) {
                Ok(written) => return Ok(Some(written)),
                Err(error) if cause(&error).is_some_and(is_full) => self.dirs.set_full(dir),
                Err(error) => {
                    tracing::error!(dir = %self.dirs.path(dir).display(), %error, "a ledger directory fails; going on without it");
                    // Of the last directory nothing could be gained by giving it up.
                    if self.dirs.counts().1 > 1 {
                        self.dirs.lose(dir);
                    }
                    last = Some(error);
                }
            }
        }
        match last {
            Some(error) if self.dirs.candidates(log).len() <= 1 => Err(error),
            _ => Ok(None),
        }
    }
}
