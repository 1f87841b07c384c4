//! Rewriting logs: the live entries of some logs are copied into a new one, then the index is switched, then a
//! checkpoint names the new log and not the old ones, and only then they are unlinked. Until that checkpoint is durable
//! nothing depends on the copy: a crash leaves a file that no checkpoint names, or two good copies.

use std::io;
use std::sync::Arc;

use magnetar_proto::ids::{EntryId, LedgerId};

use super::disk::OpenLog;
use super::logs::{Live, RUNS_PER_TURN};
use super::{Engine, State};
use crate::checkpoint::LogRow;
use crate::entry_log::format::{self, ENTRY_HEADER_BYTES, RUN_BYTES, SLOT_BYTES};
use crate::entry_log::{self, Log, Run, Unreadable, Writer};
use crate::error::FatalError;

/// Most entries read at once.
const ENTRIES_PER_READ: u64 = 512;

/// What a log holds, headers and footers left out, as they cannot be saved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LogSpace {
    pub(crate) log: u64,
    /// Logs begun since.
    pub(crate) age: u64,
    /// Bytes of live entries, their slots and rows of the index.
    pub(crate) live: u64,
    /// Bytes that a rewrite would give back.
    pub(crate) dead: u64,
}

/// A rewrite under way. Dropping it leaves a temporary file, which the next start removes.
pub(crate) struct Compaction {
    log: u64,
    dir: usize,
    victims: Vec<Arc<Log>>,
    /// Live parts of the victims in (ledger, entry) order; those before `next` are copied.
    live: Vec<Live>,
    next: usize,
    writer: Writer,
}

/// Why logs are not rewritten. They stay as they are.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CompactError {
    #[error("entry {entry} of ledger {ledger} in entry log {log:016x} cannot be read ({reason}): the log is kept as it is", entry = .entry.0, ledger = .ledger.0)]
    Entry { log: u64, ledger: LedgerId, entry: EntryId, reason: Unreadable },
    #[error("the index of entry log {log:016x} cannot be read ({reason}): the log is kept as it is")]
    Index { log: u64, reason: entry_log::OpenError },
    #[error("cannot write the new entry log: {0}")]
    Write(#[from] io::Error),
    #[error("{0}")]
    Fatal(#[from] FatalError),
}

impl CompactError {
    /// The log that must be left alone, when it is one log's fault.
    pub(crate) fn unreadable_log(&self) -> Option<u64> {
        match self {
            CompactError::Entry { log, .. } | CompactError::Index { log, .. } => Some(*log),
            CompactError::Write(_) | CompactError::Fatal(_) => None,
        }
    }
}

impl State {
    pub(super) fn log_space(&self, log: &Log) -> LogSpace {
        let used = self.ledgers.use_of(log.id);
        let live = used.bytes + used.entries * SLOT_BYTES as u64 + used.parts * RUN_BYTES as u64;
        LogSpace {
            log: log.id,
            age: self.next_log - log.id,
            live,
            dead: log.content_bytes().saturating_sub(live),
        }
    }
}

impl<T: Send + 'static> Engine<T> {
    /// How much of each log is live at this moment; those that must be kept in any case are left out.
    pub(crate) fn log_spaces(&self) -> Vec<LogSpace> {
        let state = self.lock();
        let whole = state.logs.values().filter(|open| state.may_drop(open.log.id));
        whole.map(|open| state.log_space(&open.log)).collect()
    }

    /// Begins to rewrite these logs as one. Blocks.
    pub(crate) fn begin_compaction(&self, victims: &[u64]) -> Result<Compaction, CompactError> {
        let (log, victims) = {
            // No flush is under way: whatever a flush writes from here on takes a higher id, so that it wins over the
            // copies made here also when the index is built anew.
            let _no_flush = self.flush.hold();
            let mut state = self.lock();
            let open = victims.iter().filter_map(|log| Some(state.logs.get(log)?.log.clone()));
            let victims: Vec<_> = open.collect();
            (state.take_log_id(), victims)
        };
        let mut live = Vec::new();
        for victim in &victims {
            let parts = self.live_of(victim);
            live.extend(parts.map_err(|reason| CompactError::Index { log: victim.id, reason })?);
        }
        live.sort_unstable_by_key(|live| (live.ledger, live.from));
        let dir = self.dirs.candidates(log).first().copied().unwrap_or(0);
        let path = self.dirs.path(dir).join(format::temporary_name(log));
        match Writer::create(&self.disk.storage, &path, self.disk.instance, log) {
            Ok(writer) => Ok(Compaction { log, dir, victims, live, next: 0, writer }),
            Err(error) => {
                self.disk.discard_log(log, dir);
                Err(error.into())
            }
        }
    }

    /// Copies the next entries, about `bytes_max`, and returns their bytes; 0 when all are copied. After an error the
    /// rewrite must be [abandoned](Engine::abandon_compaction). Blocks.
    pub(crate) fn copy_some(&self, to: &mut Compaction, bytes_max: usize) -> Result<u64, CompactError> {
        let mut copied = 0;
        while let Some(live) = to.live.get_mut(to.next) {
            if live.is_done() || !self.knows(live.ledger) {
                to.next += 1;
                continue;
            }
            if copied >= bytes_max as u64 {
                break;
            }
            let read = live.place(ENTRIES_PER_READ).read(ENTRIES_PER_READ, bytes_max);
            let bodies = read.map_err(|reason| CompactError::Entry {
                log: live.log.id,
                ledger: live.ledger,
                entry: live.from,
                reason,
            })?;
            for body in &bodies {
                to.writer.add(live.ledger, live.from, body)?;
                live.from.0 += 1;
                copied += (ENTRY_HEADER_BYTES + body.len()) as u64;
            }
        }
        Ok(copied)
    }

    /// Puts the copy in the place of the logs and unlinks them; returns how many bytes that frees. Everything must have
    /// been copied. Blocks.
    pub(crate) fn finish_compaction(&self, done: Compaction) -> Result<u64, CompactError> {
        let Compaction { log, dir, victims, live, next, writer } = done;
        assert!(next == live.len(), "everything is copied");
        let sealed = self.seal(writer, log, dir);
        let (open, runs) = sealed.inspect_err(|_| self.disk.discard_log(log, dir))?;
        let bytes = open.log.bytes;
        let victims: Vec<u64> = victims.iter().map(|victim| victim.id).collect();
        let mut progress = self.flush.hold();
        self.switch_to(open, &runs, &victims);
        let dropped: Vec<OpenLog> = {
            let mut state = self.lock();
            let mut unused = victims;
            // Deleted meanwhile, all of it.
            unused.push(log);
            unused.retain(|log| state.ledgers.use_of(*log).entries == 0);
            unused.iter().filter_map(|log| state.logs.remove(log)).collect()
        };
        Ok(self.drop_logs(&mut progress, dropped)?.saturating_sub(bytes))
    }

    fn seal(&self, writer: Writer, log: u64, dir: usize) -> io::Result<(OpenLog, Vec<Run>)> {
        let bytes = writer.seal(&self.disk.storage, self.dirs.path(dir))?;
        self.disk.open_log(&LogRow { log, dir: dir as u32, bytes }).map_err(|error| match error {
            entry_log::OpenError::Io(error) => error,
            damaged => io::Error::new(io::ErrorKind::InvalidData, damaged),
        })
    }

    /// Gives up a copy and its space. Blocks.
    pub(crate) fn abandon_compaction(&self, given_up: Compaction) {
        let Compaction { log, dir, writer, .. } = given_up;
        drop(writer);
        self.disk.discard_log(log, dir);
    }

    /// Bytes that a new log may take, wherever it comes to lie. Blocks.
    pub(crate) fn compaction_room(&self) -> io::Result<u64> {
        let candidates = self.dirs.candidates(0);
        let with_space = candidates.iter().filter(|dir| self.dirs.has_space(**dir));
        // Where no directory has space, the emptiest is taken.
        let possible = with_space.chain(candidates.first());
        let free = possible.map(|dir| Ok(self.disk.storage.space(self.dirs.path(*dir))?.free));
        let free = free.collect::<io::Result<Vec<u64>>>()?;
        Ok(free.into_iter().min().unwrap_or(0))
    }

    /// Readers find each entry in the old log or in the new one, whichever the index names at that moment. The caller
    /// holds the flush.
    fn switch_to(&self, open: OpenLog, runs: &[Run], victims: &[u64]) {
        let log = open.log.clone();
        self.lock().logs.insert(log.id, open);
        for runs in runs.chunks(RUNS_PER_TURN) {
            self.lock().ledgers.move_runs(&log, runs, victims);
        }
    }
}
