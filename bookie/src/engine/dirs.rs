//! The state of the ledger directories: which are lost, and which are short of space.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard};

use magnetar_common::storage::Storage;

/// A directory that was low is good again with a quarter of the threshold to spare: a log that is written must not make
/// the mode flap.
pub(super) fn recovered(threshold: u64) -> u64 {
    threshold.saturating_add(threshold / 4)
}

/// What is known of one directory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct State {
    /// It failed: nothing is written there any more in this life of the bookie.
    lost: bool,
    low: bool,
    free: u64,
}

/// See the module.
pub(super) struct Dirs {
    paths: Vec<PathBuf>,
    states: Mutex<Vec<State>>,
}

impl Dirs {
    /// A directory that cannot be listed counts as lost. Blocks.
    pub(super) fn open(storage: &dyn Storage, paths: &[PathBuf]) -> Self {
        let states = paths.iter().map(|path| State { lost: unusable(storage, path), ..State::default() });
        Dirs { paths: paths.to_vec(), states: Mutex::new(states.collect()) }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<State>> {
        self.states.lock().expect("nothing panics while holding the directories' states")
    }

    pub(super) fn path(&self, dir: usize) -> &Path {
        &self.paths[dir]
    }

    /// Directories in which log number `log` may be written, best first.
    pub(super) fn candidates(&self, log: u64) -> Vec<usize> {
        let states = self.lock();
        let turn = (log % states.len() as u64) as usize;
        let mut dirs: Vec<usize> = (0..states.len()).map(|at| (turn + at) % states.len()).collect();
        dirs.retain(|dir| !states[*dir].lost);
        // Stable: directories with space take turns, those without come last, the emptiest first.
        dirs.sort_by_key(|dir| {
            (states[*dir].low, if states[*dir].low { u64::MAX - states[*dir].free } else { 0 })
        });
        dirs
    }

    /// Those that are not lost.
    pub(super) fn usable(&self) -> Vec<usize> {
        let states = self.lock();
        (0..states.len()).filter(|dir| !states[*dir].lost).collect()
    }

    /// Whether a directory is neither lost nor low.
    pub(super) fn has_space(&self, dir: usize) -> bool {
        let state = self.lock()[dir];
        !state.lost && !state.low
    }

    pub(super) fn lose(&self, dir: usize) {
        self.lock()[dir].lost = true;
    }

    /// Takes note of a directory's free space. Returns whether it is low now.
    pub(super) fn set_free(&self, dir: usize, free: u64, threshold: u64) -> bool {
        let mut states = self.lock();
        let state = &mut states[dir];
        let needed = if state.low { recovered(threshold) } else { threshold };
        (state.free, state.low) = (free, free < needed);
        state.low
    }

    /// A write found the file system full, whatever was known before.
    pub(super) fn set_full(&self, dir: usize) {
        let state = &mut self.lock()[dir];
        (state.low, state.free) = (true, 0);
    }

    /// How many directories there are, are not lost, and have space.
    pub(super) fn counts(&self) -> (usize, usize, usize) {
        let states = self.lock();
        let usable = states.iter().filter(|state| !state.lost);
        (states.len(), usable.clone().count(), usable.filter(|state| !state.low).count())
    }
}

impl Dirs {
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
        for dir in self.candidates(log) {
            match write(dir) {
                Ok(written) => return Ok(Some(written)),
                Err(error) if cause(&error).is_some_and(is_full) => self.set_full(dir),
                Err(error) => {
                    tracing::error!(dir = %self.path(dir).display(), %error, "a ledger directory fails; going on without it");
                    // Of the last directory nothing could be gained by giving it up.
                    if self.counts().1 > 1 {
                        self.lose(dir);
                    }
                    last = Some(error);
                }
            }
        }
        match last {
            Some(error) if self.candidates(log).len() <= 1 => Err(error),
            _ => Ok(None),
        }
    }
}

fn unusable(storage: &dyn Storage, path: &Path) -> bool {
    match storage.list(path) {
        Ok(_) => false,
        Err(error) => {
            tracing::error!(dir = %path.display(), %error, "a ledger directory is lost; its entries must come from other bookies");
            true
        }
    }
}

/// Whether a write failed only because the file system is full.
pub(super) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::memory;

    fn dirs() -> Dirs {
        let paths = ["/a", "/b", "/c"];
        Dirs::open(&*memory(&paths), &paths.map(PathBuf::from))
    }

    #[test]
    fn directories_take_turns_and_those_low_or_lost_are_avoided() {
        let dirs = dirs();
        assert_eq!([dirs.candidates(3), dirs.candidates(4)], [vec![0, 1, 2], vec![1, 2, 0]]);
        dirs.lose(1);
        assert_eq!(dirs.candidates(4), [2, 0]);
        assert!(dirs.set_free(2, 5, 100));
        assert!(!dirs.set_free(0, 100, 100));
        assert_eq!(dirs.candidates(4), [0, 2]);
        assert!(dirs.set_free(0, 7, 100));
        assert_eq!(dirs.candidates(5), [0, 2], "the emptiest first");
        assert_eq!(dirs.counts(), (3, 2, 0));
    }

    #[test]
    fn a_low_directory_is_good_again_only_with_room_to_spare() {
        let dirs = dirs();
        assert!(dirs.set_free(0, 99, 100));
        assert!(dirs.set_free(0, 124, 100));
        assert!(!dirs.set_free(0, 125, 100));
        assert!(!dirs.set_free(0, 100, 100));
    }

    #[test]
    fn a_directory_that_cannot_be_listed_is_lost() {
        let dirs = Dirs::open(&*memory(&["/a"]), &["/a".into(), "/b".into()]);
        assert_eq!(dirs.candidates(1), [0]);
    }
}
