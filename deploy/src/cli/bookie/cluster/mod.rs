//! The tools for a bookie's place in its cluster: they work on the metadata store, wherever they run.
//!
//! Called by: `magnetar bookie`.
//! Must never know: how copies are made; that is `magnetar_ledger::replication`.

pub(super) mod drain;
pub(super) mod forget;
pub(super) mod under_replicated;

use std::io::{self, Write};

use magnetar_common::Environment;
use magnetar_common::metadata::SharedMetadata;

use crate::cli::metadata;

/// The store that the flags name.
async fn connect(args: metadata::Args) -> anyhow::Result<(SharedMetadata, Environment)> {
    let env = Environment::system();
    let config = crate::metadata::Settings::from(args).config("bookie tool")?;
    Ok((crate::metadata::connect(&config, &env).await?, env))
}

/// Writes a line. Who has closed the pipe wants no more; the exit code still counts.
fn say(line: &str) {
    let _ = writeln!(io::stdout().lock(), "{line}");
}
