//! Opening the engine: what is stored is loaded, then the threads start.

use std::collections::HashMap;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex};

use magnetar_common::storage::Storage;
use tokio::sync::{Semaphore, watch};

use super::dirs::Dirs;
use super::disk::{Disk, OpenLog};
use super::flush::{FlushSignal, Progress};
use super::load::Loader;
use super::waiters::Waiters;
use super::{Engine, Findings, Limits, Mode, ReadOnlyReason, State};
use crate::cache::{ReadCache, WriteCache};
use crate::checkpoint::LogRow;
use crate::entry_log::Run;
use crate::error::{FatalError, OpenError};
use crate::identity::InstanceId;
use crate::index::Ledgers;
use crate::journal::{self, Complete, Hooks, Journal, Replayed};
use crate::metrics::Metrics;

/// [`Journal::start`], or its like.
type StartJournal<T> =
    fn(Arc<dyn Storage>, &Path, InstanceId, journal::Options, Replayed, Hooks<T>) -> io::Result<Journal<T>>;

impl<T: Send + 'static> Engine<T> {
    /// Opens what `disk` holds, replays the journal and starts the threads. `complete` gets tokens as they become
    /// durable (see [`Complete`]). Blocks.
    pub(crate) fn open(
        disk: Disk,
        limits: Limits,
        metrics: Arc<Metrics>,
        complete: Complete<T>,
    ) -> Result<Arc<Engine<T>>, OpenError> {
        let engine = Self::assemble(disk, limits, metrics, complete, Journal::start)?;
        engine.start_flushing()?;
        Ok(engine)
    }

    /// As [`open`](Self::open), but without threads: nothing becomes durable but by [`step_journal`](Self::step_journal),
    /// and nothing is flushed but by [`flush_now`](Self::flush_now).
    pub(crate) fn open_stepped(
        disk: Disk,
        limits: Limits,
        metrics: Arc<Metrics>,
        complete: Complete<T>,
    ) -> Result<Arc<Engine<T>>, OpenError> {
        Self::assemble(disk, limits, metrics, complete, Journal::start_stepped)
    }

    fn assemble(
        disk: Disk,
        limits: Limits,
        metrics: Arc<Metrics>,
        complete: Complete<T>,
        start_journal: StartJournal<T>,
    ) -> Result<Arc<Engine<T>>, OpenError> {
        let room = Arc::new(Semaphore::new(limits.write_cache_bytes));
        let dirs = Dirs::open(&*disk.storage, &disk.ledger_dirs);
        let mut loader = Loader::new(&disk, &dirs, limits, room.clone());
        let from = loader.load_checkpoint()?;
        let replayed = journal::replay(
            &disk.storage,
            &disk.journal_dir,
            disk.instance,
            from,
            &mut |sequence, record| loader.apply(sequence, record),
        )?;
        for damage in &replayed.damage {
            tracing::error!(%damage, "the journal is damaged; going on read-only, and nothing is called absent");
        }
        loader.state.incomplete |= !replayed.damage.is_empty();
        loader.settle_unnamed()?;
        let Loader { mut state, covered, recorder, pending, .. } = loader;
        let is_stuck = pending.is_some();
        if state.incomplete {
            state.mode = state.mode.with(ReadOnlyReason::Incomplete, true);
        }
        let (mode, _) = watch::channel(state.mode);
        let (failed, _) = watch::channel(None);
        let reporting = failed.clone();
        let hooks = Hooks {
            complete,
            failed: Box::new(move |error| {
                reporting.send_replace(Some(FatalError::journal(error)));
            }),
            metrics: metrics.clone(),
        };
        let options = journal::Options { segment_bytes: limits.segment_bytes, device: limits.journal_device };
        let journal =
            start_journal(disk.storage.clone(), &disk.journal_dir, disk.instance, options, replayed, hooks)?;
        let engine = Arc::new(Engine {
            disk,
            dirs,
            limits,
            state: Mutex::new(state),
            journal,
            room,
            reads: Arc::new(ReadCache::new(limits.read_cache_bytes)),
            flush: FlushSignal::new(Progress::new(covered, recorder, pending)),
            failed,
            metrics,
            mode,
            findings: Findings::default(),
        });
        if engine.lock().incomplete {
            // The journal's evidence may be freed by the next flush.
            engine.write_checkpoint(&mut engine.flush.hold())?;
        }
        engine.check_space();
        if is_stuck {
            // Whatever the file system says of its space. The next look tries again.
            engine.found_no_space();
        }
        Ok(engine)
    }
}

impl State {
    pub(super) fn empty() -> Self {
        State {
            ledgers: Ledgers::default(),
            cache: WriteCache::default(),
            logs: HashMap::new(),
            damaged_logs: Vec::new(),
            incomplete_logs: Vec::new(),
            next_log: 1,
            journal_bytes: 0,
            incomplete: false,
            mode: Mode::default(),
            waiters: Waiters::default(),
            space_credit: u64::MAX,
        }
    }

    /// Takes a log while nobody else needs the state: it may read other logs.
    pub(super) fn add_log(&mut self, open: OpenLog, runs: &[Run]) {
        let log = open.log.clone();
        self.logs.insert(log.id, open);
        let offsets = self.offsets(&self.ledgers.slots_to_cut(&log, runs)).read();
        self.ledgers.add_runs(&log, runs, &offsets);
    }

    /// What a checkpoint says about the logs.
    pub(super) fn log_rows(&self) -> Vec<LogRow> {
        let mut rows: Vec<LogRow> =
            self.logs.values().map(|open| open.row()).chain(self.damaged_logs.iter().copied()).collect();
        rows.sort_unstable();
        rows
    }
}
