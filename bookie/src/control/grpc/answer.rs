//! From what the bookie knows to what the service tells.

use std::path::Path;

use magnetar_proto::ids::EntryId;
use tonic::Status;

use crate::control_api::{Ledger, LedgerDir, Log};
use crate::engine::{LedgerFacts, LogFacts, Mode};
use crate::metrics::DirGauges;

const PAGE_SIZE: u32 = 1000;
const PAGE_SIZE_MAX: u32 = 10_000;

/// What a request for a page means: where to begin, and how many.
pub(super) fn page(size: u32, token: &str) -> Result<(u64, usize), Status> {
    if size > PAGE_SIZE_MAX {
        let message =
            format!("page_size is {size}; ask for at most {PAGE_SIZE_MAX}, and follow next_page_token");
        return Err(Status::invalid_argument(message));
    }
    let from = match token {
        "" => 0,
        token => token.parse().map_err(|_| {
            Status::invalid_argument(
                "page_token is none that this method gave out; leave it empty to begin anew",
            )
        })?,
    };
    Ok((from, if size == 0 { PAGE_SIZE } else { size } as usize))
}

pub(super) fn token(next: Option<u64>) -> String {
    next.map(|next| next.to_string()).unwrap_or_default()
}

pub(super) fn reasons(mode: Mode) -> Vec<String> {
    mode.reasons().map(|reason| reason.to_string()).collect()
}

pub(super) fn path(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

pub(super) fn ledger(facts: LedgerFacts) -> Ledger {
    Ledger {
        ledger_id: facts.ledger.0,
        fenced: facts.fenced,
        last_entry: facts.last_entry.map(|EntryId(entry)| entry),
        last_add_confirmed: facts.last_add_confirmed.map(|EntryId(entry)| entry),
        runs: facts.runs,
        live_bytes: facts.live_bytes,
        deleted: facts.deleted,
    }
}

pub(super) fn log(facts: LogFacts) -> Log {
    Log {
        log_id: facts.log,
        dir: path(&facts.dir),
        bytes: facts.bytes,
        entries: facts.contents.map(|(entries, _)| entries),
        live_bytes: facts.contents.map(|(_, live)| live.bytes),
        live_entries: facts.contents.map(|(_, live)| live.entries),
        damaged: facts.contents.is_none(),
    }
}

pub(super) fn dir(dir: DirGauges) -> LedgerDir {
    LedgerDir {
        path: path(&dir.path),
        writable: dir.writable,
        free_bytes: dir.space.map(|(free, _)| free),
        total_bytes: dir.space.map(|(_, total)| total),
    }
}
