//! `magnetar bookie`: serves as a bookie, or with a word behind it runs one of the tools that look after a bookie's
//! directories.
//!
//! Called by: the command line.
//! Must never know: what a tool does; a tool is a variant of [`Tool`] with its flags in a file beside this one.

mod serve;

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
enum Tool {}

/// Runs the tool that was named, or serves until a signal or a failure.
pub(crate) async fn run(args: Args) -> anyhow::Result<()> {
    match args.tool {
        Some(tool) => match tool {},
        None => serve::run(args.serve).await,
    }
}
