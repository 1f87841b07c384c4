//! `magnetar admin`: administer a cluster over the REST of one of its brokers.
//!
//! Called by: the command line. Must never know: what a verb means; [`crate::admin`] does.

use std::io::Write;

use crate::admin::{Output, Request};

/// Flags of `magnetar admin`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A broker's REST; it sends on to the broker that owns what a request is about
    #[arg(
        long = "admin-url",
        value_name = "URL",
        default_value = "http://127.0.0.1:8080",
        env = "MAGNETAR_ADMIN_URL",
        global = true
    )]
    admin_url: String,
    /// How answers are printed
    #[arg(long, default_value = "table", global = true)]
    output: Output,
    #[command(subcommand)]
    request: Request,
}

/// Sends one request and prints its answer.
pub(crate) async fn run(args: Args) -> anyhow::Result<()> {
    let Args { admin_url, output, request } = args;
    let text = tokio::task::spawn_blocking(move || request.run(&admin_url, output)).await??;
    if !text.is_empty() {
        writeln!(std::io::stdout(), "{text}")?;
    }
    Ok(())
}
