//! `magnetar bookie`: serves as a bookie, or with a word behind it runs one of the tools that look after a bookie's
//! directories.
//!
//! Called by: the command line.
//! Must never know: what a tool does; a tool is a variant of [`Tool`] with its flags in a file beside this one.

mod serve;
mod tools;

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

/// The tools. Environment and config file give defaults to the serving role's flags only.
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
}

/// Runs the tool that was named, or serves until a signal or a failure.
pub(crate) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    match args.tool {
        Some(Tool::Inspect(args)) => Ok(tools::inspect::run(&args)),
        Some(Tool::Verify(args)) => Ok(tools::verify::run(&args)),
        Some(Tool::Repair(args)) => Ok(tools::repair::run(&args)),
        None => serve::run(args.serve).await.map(|()| ExitCode::SUCCESS),
    }
}
