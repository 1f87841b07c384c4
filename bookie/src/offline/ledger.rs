//! Says what a bookie's files hold of one ledger.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Buf;
use magnetar_common::storage::Storage;
use magnetar_proto::ids::{EntryId, LedgerId};

use super::inspect::run_state;
use super::inventory::LedgerState;
use super::store::Store;
use super::walk::{Seen, walk};
use super::{Dirs, OfflineError};
use crate::entry_log::Log;
use crate::journal::record::Record;

/// What checkpoint, logs and journal hold of a ledger: what a start would know of it. Blocks.
pub fn inspect_ledger(
    storage: &Arc<dyn Storage>,
    dirs: &Dirs,
    ledger: LedgerId,
) -> Result<LedgerState, OfflineError> {
    let store = Store::open(storage, dirs)?;
    let mut state = LedgerState { ledger: ledger.0, ..LedgerState::default() };
    let mut entries = BTreeSet::new();
    restore(&store, ledger, &mut state);
    add_logs(&store, ledger, &mut state, &mut entries);
    replay(&store, ledger, &mut state, &mut entries)?;
    state.entries = entries.len() as u64;
    state.last_entry = entries.last().copied();
    Ok(state)
}

fn restore(store: &Store, ledger: LedgerId, state: &mut LedgerState) {
    if let Err(error) = &store.checkpoint {
        state.unreadable.push(error.to_string());
    }
    let rows = store.known_checkpoint().map_or(&[][..], |found| &found.ledgers);
    let Some(row) = rows.iter().find(|row| row.ledger == ledger) else { return };
    state.known = true;
    state.fenced = row.fenced;
    state.master_key = row.master_key.is_some();
    state.last_add_confirmed = row.last_add_confirmed.map(|lac| lac.0);
    state.explicit_lac = row.explicit_lac.is_some();
    state.deleted_ms = row.deleted_ms;
}

fn add_logs(store: &Store, ledger: LedgerId, state: &mut LedgerState, entries: &mut BTreeSet<u64>) {
    let named = |row: bool| row || store.checkpoint.is_err();
    for file in store.logs.iter().filter(|file| named(file.row.is_some())) {
        match Log::open(&store.storage, &file.path, file.log, store.instance) {
            Ok((_, runs)) => {
                for run in runs.iter().filter(|run| run.ledger == ledger) {
                    state.runs.push(run_state(file.log, run));
                    entries.extend(run.first.0..=run.last().0);
                }
            }
            Err(error) => state.unreadable.push(format!("{}: {error}", file.path.display())),
        }
    }
}

fn replay(
    store: &Store,
    ledger: LedgerId,
    state: &mut LedgerState,
    entries: &mut BTreeSet<u64>,
) -> Result<(), OfflineError> {
    let covered = store.replay_from().map_or(0, |from| from.sequence);
    let dir = &store.dirs.journal_dir;
    let mut in_journal = BTreeSet::new();
    walk(&store.storage, dir, store.instance, store.replay_from(), &mut |file, seen| match seen {
        Seen::Record { place, record, .. } if place.sequence > covered => {
            if let Some(entry) = apply(state, ledger, record) {
                in_journal.insert(entry);
            }
        }
        Seen::Hole(hole) if !hole.covered => {
            let (first, last) = hole.missing;
            let text = format!("{}: journal records {first} to {last}", file.path.display());
            state.unreadable.push(text);
        }
        Seen::Gap { .. } | Seen::Missing | Seen::Failed(_) => {
            state.unreadable.push(format!("{}: records are missing", file.path.display()));
        }
        _ => {}
    })
    .map_err(OfflineError::io(dir))?;
    state.in_journal = in_journal.difference(entries).copied().collect();
    entries.extend(in_journal);
    Ok(())
}

/// Takes a fact about the ledger; gives the entry, if it is one.
fn apply(state: &mut LedgerState, ledger: LedgerId, record: &Record) -> Option<u64> {
    let confirmed = |mut bytes: &[u8]| EntryId::from_wire(bytes.try_get_i64().ok()?).map(|lac| lac.0);
    match record {
        Record::Entry(body) => {
            let mut ids = &body[..];
            if ids.get_u64() != ledger.0 {
                return None;
            }
            state.known = true;
            let entry = ids.get_u64();
            state.last_add_confirmed = state.last_add_confirmed.max(confirmed(ids));
            return Some(entry);
        }
        Record::MasterKey { ledger: of, .. } if *of == ledger => state.master_key = true,
        Record::Fence { ledger: of } if *of == ledger => state.fenced = true,
        Record::ExplicitLac { ledger: of, body } if *of == ledger => {
            state.explicit_lac = true;
            let lac = body.get(8..).and_then(confirmed);
            state.last_add_confirmed = state.last_add_confirmed.max(lac);
        }
        _ => return None,
    }
    state.known = true;
    None
}
