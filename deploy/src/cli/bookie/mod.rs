//! `magnetar bookie`: serves as a bookie, or with a word behind it runs one of the tools that look after a bookie's
//! directories.
//!
//! Called by: the command line.
//! Must never know: what a tool does; a tool is a variant of [`Tool`] with its flags in a file beside this one.

mod cluster;
mod serve;
mod tools;
mod tuning;

use std::process::ExitCode;

/// Flags of `magnetar bookie`: those of the serving role, or a tool's after its name.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_value_name = "TOOL")]
pub(crate) struct Args {
    #[command(subcommand)]
    tool: Option<Tool>,
    #[command(flatten)]
    serve: serve::Args,
}

/// The tools, for a stopped bookie's directories and for a bookie's place in its cluster. Environment and config file give defaults to the serving role's flags only.
#[derive(Debug, clap::Subcommand)]
enum Tool {
    /// Tell what is in the directories of a bookie, of a ledger, or in one file; changes nothing
    Inspect(tools::inspect::Args),
    /// Check every checksum in the directories of a stopped bookie; changes nothing
    ///
    /// Exits with 0 when everything is as it was written, 1 when something is damaged, 2 when it cannot tell.
    Verify(tools::verify::Args),
    /// Mend what can be mended in the directories of a stopped bookie; without --write only tell what would be done
    ///
    /// Exits with 0 when nothing is left to mend, 1 when damage remains or would be mended, 2 when it failed.
    Repair(tools::repair::Args),
    /// Have everything that a running bookie holds copied to others, and tell how far that has come
    ///
    /// The bookie turns read-only. Exits with 0 once no ledger needs the bookie any more; stopping this command does not stop
    /// the copying.
    Drain(cluster::drain::Args),
    /// Remove the identity of a stopped bookie that no ledger needs any more, so that its name can be used anew
    Forget(cluster::forget::Args),
    /// List the ledgers that lack copies, and who looks after them
    UnderReplicated(cluster::under_replicated::Args),
}

/// Runs the tool that was named, or serves until a signal or a failure.
pub(crate) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    match args.tool {
        Some(Tool::Inspect(args)) => Ok(tools::inspect::run(&args)),
        Some(Tool::Verify(args)) => Ok(tools::verify::run(&args)),
        Some(Tool::Repair(args)) => Ok(tools::repair::run(&args)),
        Some(Tool::Drain(args)) => cluster::drain::run(args).await,
        Some(Tool::Forget(args)) => cluster::forget::run(args).await,
        Some(Tool::UnderReplicated(args)) => cluster::under_replicated::run(args).await,
        None => serve::run(args.serve).await.map(|()| ExitCode::SUCCESS),
    }
}
