//! The next segment's file, made ready while the one before it is being written.
//!
//! To rename a file, to fill it with zeros and to make its name durable takes commits of the file system, and a commit
//! waits for whatever else the disk is busy with. The journal thread waits for none of that: it finds a file under its
//! live name, its blocks written before, with a mark where the header belongs, and overwrites that. A file that still has
//! its mark is free again after a restart.
//!
//! The zeros come at a pace: as fast as the disk takes them they would be a burst behind which the journal's own syncs wait.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use magnetar_common::storage::File;

use super::files::{Files, ZEROS};
use crate::identity::InstanceId;

/// Between two pieces of zeros: 64 MiB a second at most. A journal that is faster cuts the filling short.
const PAUSE: Duration = Duration::from_millis(4);

const _: () = assert!(ZEROS as u128 * (1000 / PAUSE.as_millis()) <= 64 << 20);

/// What the journal thread wants to have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) instance: InstanceId,
    pub(super) segment: u64,
    /// Whether blocks that were never written are filled with zeros: worth it for small batches.
    pub(super) filled: bool,
}

#[derive(Default)]
enum State {
    #[default]
    Idle,
    Wanted(Wanted),
    Working {
        /// The journal thread waits: no more zeros.
        hurry: bool,
    },
    /// `None`: there was no space for it. An error is the journal's, as if it had done this itself.
    Ready(io::Result<Option<Arc<dyn File>>>),
    Ended,
}

/// See the module.
pub(super) struct Ahead {
    files: Arc<Files>,
    segment_bytes: u64,
    state: Mutex<State>,
    changed: Condvar,
    /// [`take`](Self::take) will return an error.
    failed: AtomicBool,
    /// Whether a thread [runs](Self::run); otherwise whoever wants a file makes it.
    has_thread: bool,
}

impl Ahead {
    pub(super) fn new(files: Arc<Files>, segment_bytes: u64, has_thread: bool) -> Self {
        Ahead {
            files,
            segment_bytes,
            state: Mutex::default(),
            changed: Condvar::new(),
            failed: AtomicBool::new(false),
            has_thread,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Each change is one assignment.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks for the file of the next segment, at most once for each. Without a thread, blocks and makes it.
    pub(super) fn want(&self, wanted: Wanted) {
        if self.has_thread {
            *self.lock() = State::Wanted(wanted);
            self.changed.notify_all();
        } else {
            *self.lock() = State::Working { hurry: false };
            self.make(wanted);
        }
    }

    /// Whether the file could not be made, for another reason than want of space: the journal must not go on.
    pub(super) fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Relaxed)
    }

    /// The file of the next segment, if it was wanted and there was time and space for it. Blocks while it is being made,
    /// and cuts that short.
    pub(super) fn take(&self) -> io::Result<Option<Arc<dyn File>>> {
        let mut state = self.lock();
        loop {
            match &mut *state {
                State::Ended => return Ok(None),
                State::Working { hurry } => {
                    *hurry = true;
                    self.changed.notify_all();
                }
                State::Idle | State::Wanted(_) | State::Ready(_) => match std::mem::take(&mut *state) {
                    State::Ready(made) => return made,
                    _ => return Ok(None),
                },
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Makes the files that are wanted, until the end.
    pub(super) fn run(&self) {
        let mut state = self.lock();
        loop {
            match *state {
                State::Ended => return,
                State::Wanted(wanted) => {
                    *state = State::Working { hurry: false };
                    drop(state);
                    self.make(wanted);
                    state = self.lock();
                }
                _ => state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
            }
        }
    }

    /// While the state is that of working.
    fn make(&self, wanted: Wanted) {
        let panicked = io::Error::other("the thread that prepares journal segments panicked");
        let mut working = Working { ahead: self, made: Err(panicked) };
        let at_leisure = |state: &mut State| matches!(state, State::Working { hurry: false });
        let is_urgent = || {
            let mut state = self.lock();
            if self.has_thread {
                let waited = self.changed.wait_timeout_while(state, PAUSE, at_leisure);
                state = waited.unwrap_or_else(PoisonError::into_inner).0;
            }
            !at_leisure(&mut state)
        };
        working.made = self.files.prepare(wanted, self.segment_bytes, &is_urgent);
    }

    fn end(&self) {
        *self.lock() = State::Ended;
        self.changed.notify_all();
    }
}

/// Held by the only one who wants files: nothing is to be made any more when it is dropped.
pub(super) struct AheadOwner(pub(super) Arc<Ahead>);

impl Drop for AheadOwner {
    fn drop(&mut self) {
        self.0.end();
    }
}

/// Whoever waits for the file is told in any case.
struct Working<'a> {
    ahead: &'a Ahead,
    made: io::Result<Option<Arc<dyn File>>>,
}

impl Drop for Working<'_> {
    fn drop(&mut self) {
        let mut state = self.ahead.lock();
        if matches!(*state, State::Working { .. }) {
            let made = std::mem::replace(&mut self.made, Ok(None));
            self.ahead.failed.store(made.is_err(), Ordering::Relaxed);
            *state = State::Ready(made);
        }
        drop(state);
        self.ahead.changed.notify_all();
    }
}
