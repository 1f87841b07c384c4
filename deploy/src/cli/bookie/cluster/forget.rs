//! `magnetar bookie forget`: removes the identity of a bookie that is gone for good.

use std::process::ExitCode;

use magnetar_ledger::replication::drain;
use magnetar_proto::bookkeeper::BookieId;

use super::{connect, say};
use crate::cli::metadata;

/// Flags of `magnetar bookie forget`.
#[derive(Debug, clap::Args)]
pub(in crate::cli::bookie) struct Args {
    /// The bookie, by its id
    bookie: BookieId,
    #[command(flatten)]
    metadata: metadata::Args,
}

pub(in crate::cli::bookie) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let (store, env) = connect(args.metadata).await?;
    drain::forget(&store, &env.clock, &args.bookie).await?;
    say(&format!("bookie {} is forgotten", args.bookie));
    Ok(ExitCode::SUCCESS)
}
