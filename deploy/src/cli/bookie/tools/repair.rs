//! `magnetar bookie repair`: mends what can be mended.

use std::process::ExitCode;

use magnetar_bookie::offline::{self, Repair, Repaired, Step};
use serde_json::json;

use super::verify::text as finding_text;
use super::{Common, failed, say, say_json};

/// Flags of `magnetar bookie repair`.
#[derive(Debug, clap::Args)]
pub(in crate::cli::bookie) struct Args {
    #[command(flatten)]
    common: Common,
    /// Write; without it the steps are only told
    #[arg(long)]
    write: bool,
    /// Give up what is lost and cannot be named: the bookie will say that it never had it
    #[arg(long)]
    accept_loss: bool,
}

pub(in crate::cli::bookie) fn run(args: &Args) -> ExitCode {
    let json = args.common.json();
    let how = Repair { write: args.write, accept_loss: args.accept_loss };
    let mut tell = |step: Step| if json { say_json(&step) } else { say(&text(&step, args.write)) };
    match offline::repair(&args.common.storage(), &args.common.dirs(), how, &mut tell) {
        Ok(repaired) => {
            if json {
                say_json(&json!({ "repaired": repaired }));
            } else {
                say(&summary(&repaired));
            }
            code(&repaired)
        }
        Err(error) => failed(&error),
    }
}

fn code(repaired: &Repaired) -> ExitCode {
    let remains = repaired.refused > 0 || repaired.unsaved > 0 || (repaired.files > 0 && !repaired.written);
    if remains { ExitCode::from(1) } else { ExitCode::SUCCESS }
}

fn text(step: &Step, write: bool) -> String {
    let doing = if write { "write" } else { "would write" };
    match step {
        Step::RewriteLog { file, damaged_kept_as, entries, unreadable } => format!(
            "{doing}: {} anew from {entries} whole entries ({unreadable} stay unreadable); the damaged file is kept as {}",
            file.display(),
            damaged_kept_as.display()
        ),
        Step::RewriteSegmentHeader { file, first_sequence } => {
            format!("{doing}: the header of {}, whose records begin with {first_sequence}", file.display())
        }
        Step::RewriteStamp { file } => format!("{doing}: the identity stamp {}", file.display()),
        Step::RewriteCheckpoint { file } => {
            format!("{doing}: the copy of the checkpoint {}, from one that is whole", file.display())
        }
        Step::DropLog { file } => {
            format!("{doing}: a checkpoint without {}, which does not exist", file.display())
        }
        Step::AcceptLoss { file } => {
            format!("{doing}: {} without the mark that acknowledged records are missing", file.display())
        }
        Step::Unsaved(finding) => format!("lost here: {}", finding_text(finding)),
        Step::Refused { file, reason } => format!("left alone: {}: {reason}", file.display()),
    }
}

fn summary(repaired: &Repaired) -> String {
    let done = if repaired.written { "written anew" } else { "to be written anew (use --write)" };
    format!(
        "{} files {done}, {} places that no repair brings back, {} files left alone",
        repaired.files, repaired.unsaved, repaired.refused
    )
}
