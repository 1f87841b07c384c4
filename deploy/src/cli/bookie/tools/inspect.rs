//! `magnetar bookie inspect`: what is in a bookie's directories.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use magnetar_bookie::offline::{
    self, CheckpointState, FileState, IdentityState, Inventory, LedgerState, LogState, OfflineError,
    RunState, SegmentState,
};
use magnetar_proto::ids::LedgerId;

use super::table::{cell, table};
use super::{Common, failed, say, say_json};

/// Flags of `magnetar bookie inspect`.
#[derive(Debug, clap::Args)]
pub(in crate::cli::bookie) struct Args {
    #[command(flatten)]
    common: Common,
    /// Tell what the files hold of this ledger instead
    #[arg(long, value_name = "ID", conflicts_with = "file")]
    ledger: Option<u64>,
    /// Tell what this file of the directories holds instead: its path, or its name
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
}

pub(in crate::cli::bookie) fn run(args: &Args) -> ExitCode {
    match inspect(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(&error),
    }
}

fn inspect(args: &Args) -> Result<(), OfflineError> {
    let (storage, dirs, json) = (args.common.storage(), args.common.dirs(), args.common.json());
    let lines = if let Some(ledger) = args.ledger {
        let found = offline::inspect_ledger(&storage, &dirs, LedgerId(ledger))?;
        if json {
            say_json(&found);
        }
        ledger_lines(&found)
    } else if let Some(file) = &args.file {
        let found = offline::inspect_file(&storage, &dirs, file)?;
        if json {
            say_json(&found);
        }
        file_lines(&found)
    } else {
        let found = offline::inspect(&storage, &dirs)?;
        if json {
            say_json(&found);
        }
        inventory_lines(&found)
    };
    if !json {
        lines.iter().for_each(|line| say(line));
    }
    Ok(())
}

fn inventory_lines(found: &Inventory) -> Vec<String> {
    let mut lines = vec![format!("instance {}", found.instance)];
    if let Some(dir) = &found.in_use {
        lines.push(format!("a bookie runs on {}: what follows may be changing", dir.display()));
    }
    lines.push(String::new());
    lines.extend(identity_lines(&found.identities));
    lines.push(String::new());
    lines.extend(checkpoint_lines(&found.checkpoint));
    lines.push(String::new());
    lines.extend(segment_lines(&found.segments));
    lines.push(String::new());
    lines.extend(log_lines(&found.logs));
    lines
}

fn file_lines(found: &FileState) -> Vec<String> {
    match found {
        FileState::Identity(found) => identity_lines(std::slice::from_ref(found)),
        FileState::Checkpoint(found) => checkpoint_lines(found),
        FileState::Segment(found) => segment_lines(std::slice::from_ref(found)),
        FileState::Log { log, runs } => {
            let mut lines = log_lines(std::slice::from_ref(log));
            lines.push(String::new());
            lines.extend(run_lines(runs));
            lines
        }
    }
}

fn path(path: &Path) -> String {
    path.display().to_string()
}

fn identity_lines(found: &[IdentityState]) -> Vec<String> {
    let rows: Vec<_> = found
        .iter()
        .map(|stamp| {
            let problem = cell(stamp.problem.clone());
            vec![path(&stamp.file), cell(stamp.bookie.clone()), cell(stamp.instance.clone()), problem]
        })
        .collect();
    table(&["stamp", "bookie", "instance", "problem"], &rows)
}

fn checkpoint_lines(found: &CheckpointState) -> Vec<String> {
    let mut problem = found.problem.clone();
    if found.incomplete {
        problem.get_or_insert("acknowledged journal records are missing".to_owned());
    }
    let row = vec![
        path(&found.file),
        found.number.to_string(),
        found.sequence.to_string(),
        format!("{:016x}", found.floor),
        format!("{:016x}", found.next_log),
        found.logs.to_string(),
        found.ledgers.to_string(),
        found.ledgers_fenced.to_string(),
        found.ledgers_deleted.to_string(),
        cell(problem),
    ];
    let head = [
        "checkpoint",
        "number",
        "sequence",
        "floor",
        "next log",
        "logs",
        "ledgers",
        "fenced",
        "deleted",
        "problem",
    ];
    table(&head, &[row])
}

fn segment_lines(found: &[SegmentState]) -> Vec<String> {
    let row = |segment: &SegmentState| {
        let mut state =
            serde_json::to_value(segment.used).ok().and_then(|used| used.as_str().map(str::to_owned));
        if segment.torn_tail {
            state = state.map(|used| format!("{used}, torn tail"));
        }
        vec![
            path(&segment.file),
            cell(state),
            cell(segment.first_sequence),
            cell(segment.last_sequence),
            segment.records.entries.to_string(),
            segment.records.master_keys.to_string(),
            segment.records.fences.to_string(),
            segment.records.explicit_lacs.to_string(),
            segment.records_to_replay.to_string(),
            segment.record_bytes.to_string(),
            segment.bytes.to_string(),
            segment.damaged.to_string(),
        ]
    };
    let head = [
        "segment",
        "state",
        "first",
        "last",
        "entries",
        "keys",
        "fences",
        "lacs",
        "to replay",
        "bytes",
        "file bytes",
        "damaged",
    ];
    table(&head, &found.iter().map(row).collect::<Vec<_>>())
}

fn log_lines(found: &[LogState]) -> Vec<String> {
    let row = |log: &LogState| {
        let problem = match (&log.problem, log.named) {
            (Some(problem), _) => problem.clone(),
            (None, false) => "no checkpoint names it".to_owned(),
            (None, true) => "-".to_owned(),
        };
        vec![
            path(&log.file),
            log.entries.to_string(),
            log.runs.to_string(),
            log.ledgers.to_string(),
            log.ledgers_live.to_string(),
            log.bytes.to_string(),
            problem,
        ]
    };
    let head = ["log", "entries", "runs", "ledgers", "live", "bytes", "problem"];
    table(&head, &found.iter().map(row).collect::<Vec<_>>())
}

fn run_lines(runs: &[RunState]) -> Vec<String> {
    let row = |run: &RunState| {
        vec![
            format!("{:016x}", run.log),
            run.ledger.to_string(),
            run.first_entry.to_string(),
            run.last_entry.to_string(),
            run.slots_at.to_string(),
        ]
    };
    table(&["log", "ledger", "first", "last", "slots at"], &runs.iter().map(row).collect::<Vec<_>>())
}

fn ledger_lines(found: &LedgerState) -> Vec<String> {
    let yes = |value: bool| if value { "yes" } else { "no" };
    let mut lines = vec![
        format!("ledger {}", found.ledger),
        format!("known: {}", yes(found.known)),
        format!("fenced: {}", yes(found.fenced)),
        format!("master key: {}", yes(found.master_key)),
        format!("last add confirmed: {}", cell(found.last_add_confirmed)),
        format!("explicit LAC: {}", yes(found.explicit_lac)),
        format!("deleted (Unix time, ms): {}", cell(found.deleted_ms)),
        format!("entries: {}, the last one {}", found.entries, cell(found.last_entry)),
        format!("only in the journal: {}", ranges(&found.in_journal)),
    ];
    lines.extend(found.unreadable.iter().map(|what| format!("cannot be read, and may hold more: {what}")));
    lines.push(String::new());
    lines.extend(run_lines(&found.runs));
    lines
}

/// Ascending numbers, consecutive ones joined.
fn ranges(numbers: &[u64]) -> String {
    let mut ranges: Vec<(u64, u64)> = Vec::new();
    for number in numbers {
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == *number => *last = *number,
            _ => ranges.push((*number, *number)),
        }
    }
    let text = |(first, last): &(u64, u64)| {
        if first == last { first.to_string() } else { format!("{first}-{last}") }
    };
    if ranges.is_empty() { "none".to_owned() } else { ranges.iter().map(text).collect::<Vec<_>>().join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn consecutive_numbers_are_joined() {
        assert_eq!(ranges(&[]), "none");
        assert_eq!(ranges(&[1, 2, 3, 7, 9, 10]), "1-3, 7, 9-10");
    }
}
