//! `magnetar bookie verify`: whether everything is as it was written.

use std::process::ExitCode;

use magnetar_bookie::offline::{self, Finding, Verified, Weight};
use serde_json::json;

use super::{Common, FAILED, failed, say, say_json};

/// Flags of `magnetar bookie verify`.
#[derive(Debug, clap::Args)]
pub(in crate::cli::bookie) struct Args {
    #[command(flatten)]
    common: Common,
}

pub(in crate::cli::bookie) fn run(args: &Args) -> ExitCode {
    let json = args.common.json();
    let mut find = |finding: Finding| if json { say_json(&finding) } else { say(&text(&finding)) };
    match offline::verify(&args.common.storage(), &args.common.dirs(), &mut find) {
        Ok(verified) => {
            if json {
                say_json(&json!({ "verified": verified }));
            } else {
                say(&summary(&verified));
            }
            code(&verified)
        }
        Err(error) => failed(&error),
    }
}

fn code(verified: &Verified) -> ExitCode {
    match (verified.cannot_tell, verified.damages) {
        (0, 0) => ExitCode::SUCCESS,
        (0, _) => ExitCode::from(1),
        _ => ExitCode::from(FAILED),
    }
}

/// A finding as one line: what, where, whose.
pub(super) fn text(finding: &Finding) -> String {
    let weight = match finding.weight {
        Weight::Note => "note",
        Weight::Damage => "damage",
        Weight::CannotTell => "cannot tell",
    };
    let mut line = format!("{weight}: {}", finding.file.display());
    if let Some(offset) = finding.offset {
        line.push_str(&format!(" at byte {offset}"));
    }
    if let Some((ledger, entry)) = finding.ledger.zip(finding.entry) {
        let sure = if finding.ids_certain { "" } else { "probably " };
        line.push_str(&format!(": {sure}ledger {ledger} entry {entry}"));
    }
    line.push_str(&format!(": {}", finding.detail));
    if finding.harmless && finding.weight == Weight::Damage {
        line.push_str(" (nothing is lost)");
    }
    line
}

fn summary(verified: &Verified) -> String {
    format!(
        "checked {} journal segments with {} records, {} entry logs with {} entries, {} bytes: {} damaged, {} cannot be told, {} notes",
        verified.segments,
        verified.records,
        verified.logs,
        verified.entries,
        verified.bytes,
        verified.damages,
        verified.cannot_tell,
        verified.notes
    )
}
