//! Where the bytes are, and which of them are damaged.

use tonic::Status;

use super::answer;
use crate::control_api::{DamagedEntry, ExplainResponse, LedgerSpace, ListDamagedResponse};
use crate::engine::{Findings, SpaceReport};

const LEDGERS: u32 = 100;
const LEDGERS_MAX: u32 = 10_000;

/// How many ledgers to name.
pub(super) fn ledgers_max(asked: u32) -> Result<usize, Status> {
    match asked {
        0 => Ok(LEDGERS as usize),
        1..=LEDGERS_MAX => Ok(asked as usize),
        _ => {
            let message =
                format!("ledgers_max is {asked}; ask for at most {LEDGERS_MAX}, or use ListLedgers");
            Err(Status::invalid_argument(message))
        }
    }
}

pub(super) fn explain(report: &SpaceReport, ledgers_max: usize) -> ExplainResponse {
    let ledgers = report.ledgers.iter().take(ledgers_max);
    ExplainResponse {
        total_bytes: report.total_bytes(),
        live_bytes: report.live_bytes,
        dead_bytes: report.dead_bytes,
        index_bytes: report.index_bytes,
        unreadable_log_bytes: report.unreadable_log_bytes,
        unnamed_log_bytes: report.unnamed_log_bytes,
        journal_live_bytes: report.journal_live_bytes,
        journal_free_bytes: report.journal_free_bytes,
        checkpoint_bytes: report.checkpoint_bytes,
        identity_bytes: report.identity_bytes,
        rounding_bytes: report.rounding_bytes,
        largest_ledgers: ledgers
            .map(|ledger| LedgerSpace {
                ledger_id: ledger.ledger.0,
                live_bytes: ledger.live_bytes,
                entries: ledger.entries,
            })
            .collect(),
    }
}

/// A page of the damage; the token is how many came before.
pub(super) fn damaged(findings: &Findings, from: u64, max: usize) -> ListDamagedResponse {
    let (counts, all) = (findings.counts(), findings.damaged());
    let from = usize::try_from(from).unwrap_or(usize::MAX).min(all.len());
    let to = all.len().min(from.saturating_add(max));
    let entries = all[from..to].iter().map(|(ledger, entry, log)| DamagedEntry {
        ledger_id: ledger.0,
        entry_id: entry.0,
        log_id: *log,
    });
    ListDamagedResponse {
        entries: entries.collect(),
        next_page_token: answer::token((to < all.len()).then_some(to as u64)),
        damaged_entries: counts.damaged_entries,
        scrubbed_entries: counts.scrubbed_entries,
        scrubbed_bytes: counts.scrubbed_bytes,
        scrub_passes: counts.scrub_passes,
    }
}
