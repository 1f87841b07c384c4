//! The tools for a stopped bookie's directories: their flags, and how their results are written.
//!
//! Called by: `magnetar bookie`.
//! Must never know: what a file holds; that is `magnetar_bookie::offline`.

pub(super) mod inspect;
pub(super) mod repair;
mod table;
pub(super) mod verify;

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use magnetar_bookie::offline::{Dirs, OfflineError};
use magnetar_common::storage::{RealStorage, Storage};
use serde::Serialize;

/// Nothing could be said or done.
const FAILED: u8 = 2;

/// Where the bookie's files are, and how to write what is found.
#[derive(Debug, clap::Args)]
pub(super) struct Common {
    /// Directory of the journal
    #[arg(long, value_name = "DIR", env = "MAGNETAR_BOOKIE_JOURNAL_DIR")]
    journal_dir: PathBuf,
    /// Directories of the ledgers, in the order that the bookie is configured with
    #[arg(
        long,
        value_name = "DIR",
        value_delimiter = ',',
        required = true,
        env = "MAGNETAR_BOOKIE_LEDGER_DIR"
    )]
    ledger_dir: Vec<PathBuf>,
    /// How to write it: a table, or JSON for programs
    #[arg(long, value_enum, default_value_t = Output::Table)]
    output: Output,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Output {
    Table,
    Json,
}

impl Common {
    fn storage(&self) -> Arc<dyn Storage> {
        Arc::new(RealStorage)
    }

    fn dirs(&self) -> Dirs {
        Dirs { journal_dir: self.journal_dir.clone(), ledger_dirs: self.ledger_dir.clone() }
    }

    fn json(&self) -> bool {
        self.output == Output::Json
    }
}

/// Writes a line. Who has closed the pipe wants no more; the exit code still counts.
fn say(line: &str) {
    let _ = writeln!(io::stdout().lock(), "{line}");
}

/// Writes a value as one line of JSON.
fn say_json(value: &impl Serialize) {
    match serde_json::to_string(value) {
        Ok(line) => say(&line),
        Err(error) => eprintln!("magnetar: a result cannot be written as JSON: {error}"),
    }
}

/// Reports why a tool could not do its work.
fn failed(error: &OfflineError) -> ExitCode {
    eprintln!("magnetar: {error}");
    ExitCode::from(FAILED)
}
