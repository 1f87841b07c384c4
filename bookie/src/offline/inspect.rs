//! Says what is in a bookie's directories, or in one file of them.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;
use std::sync::Arc;

use magnetar_common::storage::Storage;
use magnetar_proto::ids::LedgerId;

use super::inventory::{
    CheckpointState, FileState, IdentityState, Inventory, LogState, Records, RunState, SegmentState,
    SegmentUse,
};
pub use super::ledger::inspect_ledger;
use super::store::{LogFile, Stamp, Store};
use super::walk::{Begin, Seen, SegmentFile, walk};
use super::{Dirs, OfflineError};
use crate::checkpoint;
use crate::entry_log::{Log, Run};
use crate::journal::record::Record;

/// What is in the directories. Reads the journal, the checkpoint and each log's index; no entries. A running bookie is
/// told of in the result. Blocks.
pub fn inspect(storage: &Arc<dyn Storage>, dirs: &Dirs) -> Result<Inventory, OfflineError> {
    let store = Store::open(storage, dirs)?;
    Ok(Inventory {
        in_use: store.in_use.clone(),
        instance: store.instance.to_string(),
        identities: store.stamps.iter().map(identity_state).collect(),
        checkpoint: checkpoint_state(&store),
        segments: segment_states(&store)?,
        logs: store.logs.iter().map(|file| log_state(&store, file).0).collect(),
    })
}

/// What one of the files in the directories says of itself, with the runs of a log. Blocks.
pub fn inspect_file(storage: &Arc<dyn Storage>, dirs: &Dirs, path: &Path) -> Result<FileState, OfflineError> {
    let store = Store::open(storage, dirs)?;
    let same = |found: &Path| found == path || (path.components().count() == 1 && found.ends_with(path));
    if dirs.all().any(|dir| same(&dir.join(checkpoint::NAME))) {
        return Ok(FileState::Checkpoint(checkpoint_state(&store)));
    }
    if let Some(stamp) = store.stamps.iter().find(|stamp| same(&stamp.path)) {
        return Ok(FileState::Identity(identity_state(stamp)));
    }
    if let Some(file) = store.logs.iter().find(|file| same(&file.path)) {
        let (log, runs) = log_state(&store, file);
        let runs = runs.iter().map(|run| run_state(file.log, run)).collect();
        return Ok(FileState::Log { log, runs });
    }
    let segment = segment_states(&store)?.into_iter().find(|segment| same(&segment.file));
    segment.map(FileState::Segment).ok_or_else(|| OfflineError::UnknownFile { path: path.to_owned() })
}

fn identity_state(stamp: &Stamp) -> IdentityState {
    let identity = stamp.found.as_ref().ok().and_then(Option::as_ref);
    let problem = match &stamp.found {
        Ok(Some(_)) => None,
        Ok(None) => Some("absent".to_owned()),
        Err(error) => Some(error.to_string()),
    };
    IdentityState {
        file: stamp.path.clone(),
        bookie: identity.map(|identity| identity.bookie.to_string()),
        instance: identity.map(|identity| identity.instance.to_string()),
        problem,
    }
}

fn checkpoint_state(store: &Store) -> CheckpointState {
    let found = store.known_checkpoint();
    let problem = match &store.checkpoint {
        Ok(Some(_)) => None,
        Ok(None) => Some("absent: nothing was checkpointed yet".to_owned()),
        Err(error) => Some(error.to_string()),
    };
    let ledgers = found.map_or(&[][..], |found| &found.ledgers);
    CheckpointState {
        file: store.checkpoint_path(),
        problem,
        sequence: found.map_or(0, |found| found.sequence),
        floor: found.map_or(0, |found| found.floor),
        next_log: found.map_or(0, |found| found.next_log),
        number: found.map_or(0, |found| found.number),
        incomplete: found.is_some_and(|found| found.incomplete),
        logs: found.map_or(0, |found| found.logs.len() as u64),
        ledgers: ledgers.len() as u64,
        ledgers_fenced: ledgers.iter().filter(|row| row.fenced).count() as u64,
        ledgers_deleted: ledgers.iter().filter(|row| row.deleted_ms.is_some()).count() as u64,
    }
}

fn segment_states(store: &Store) -> Result<Vec<SegmentState>, OfflineError> {
    let covered = store.replay_from().map_or(0, |from| from.sequence);
    let mut states: BTreeMap<_, SegmentState> = BTreeMap::new();
    let dir = &store.dirs.journal_dir;
    walk(&store.storage, dir, store.instance, store.replay_from(), &mut |file, seen| {
        let state = states.entry(file.path.clone()).or_insert_with(|| unused(file));
        match seen {
            Seen::Segment(begin) => {
                (state.used, state.first_sequence) = match begin {
                    Begin::Live { first, .. } => (SegmentUse::Live, Some(first)),
                    Begin::BelowFloor => (SegmentUse::Stale, None),
                    Begin::NeverBegun => (SegmentUse::NeverBegun, None),
                    Begin::Free => (SegmentUse::Free, None),
                    Begin::Foreign => (SegmentUse::Foreign, None),
                    Begin::Newer { .. } => (SegmentUse::Newer, None),
                };
                state.damaged += u64::from(matches!(begin, Begin::Live { header_whole: false, .. }));
            }
            Seen::Record { place, record, bytes, .. } => {
                state.last_sequence = Some(place.sequence);
                state.record_bytes += bytes;
                state.records_to_replay += u64::from(place.sequence > covered);
                let records = &mut state.records;
                *match record {
                    Record::Entry(_) => &mut records.entries,
                    Record::MasterKey { .. } => &mut records.master_keys,
                    Record::Fence { .. } => &mut records.fences,
                    Record::ExplicitLac { .. } => &mut records.explicit_lacs,
                } += 1;
            }
            Seen::Hole(_) | Seen::Gap { .. } => state.damaged += 1,
            Seen::Torn { .. } => state.torn_tail = true,
            Seen::Missing => state.used = SegmentUse::Missing,
            Seen::Failed(_) => state.used = SegmentUse::Failed,
        }
    })
    .map_err(OfflineError::io(dir))?;
    Ok(states.into_values().collect())
}

fn unused(file: &SegmentFile) -> SegmentState {
    SegmentState {
        file: file.path.clone(),
        segment: file.id,
        used: SegmentUse::Free,
        bytes: file.bytes,
        record_bytes: 0,
        first_sequence: None,
        last_sequence: None,
        records: Records::default(),
        records_to_replay: 0,
        damaged: 0,
        torn_tail: false,
    }
}

fn log_state(store: &Store, file: &LogFile) -> (LogState, Vec<Run>) {
    let mut state = LogState {
        file: file.path.clone(),
        log: file.log,
        dir: file.dir,
        bytes: 0,
        entries: 0,
        runs: 0,
        ledgers: 0,
        ledgers_live: 0,
        named: file.row.is_some(),
        problem: None,
    };
    let runs = match Log::open(&store.storage, &file.path, file.log, store.instance) {
        Ok((log, runs)) => {
            state.bytes = log.bytes;
            runs
        }
        Err(error) => {
            state.bytes = store.storage.open(&file.path).and_then(|file| file.len()).unwrap_or(0);
            state.problem = Some(error.to_string());
            Vec::new()
        }
    };
    let ledgers: HashSet<LedgerId> = runs.iter().map(|run| run.ledger).collect();
    state.runs = runs.len() as u64;
    state.entries = runs.iter().map(|run| run.count).sum();
    state.ledgers = ledgers.len() as u64;
    if let Some(checkpoint) = store.known_checkpoint() {
        let live = checkpoint.ledgers.iter().filter(|row| row.deleted_ms.is_none());
        state.ledgers_live = live.filter(|row| ledgers.contains(&row.ledger)).count() as u64;
    }
    (state, runs)
}

pub(super) fn run_state(log: u64, run: &Run) -> RunState {
    RunState {
        log,
        ledger: run.ledger.0,
        first_entry: run.first.0,
        last_entry: run.last().0,
        slots_at: run.slots_at,
    }
}
