//! `magnetar bookie`: the flags of a bookie process.

use std::net::IpAddr;
use std::path::PathBuf;

/// Flags of `magnetar bookie`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// TOML file with a table [bookie]; flags and environment win over it
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Metadata store shared by the cluster: etcd://host:2379[,host:2379...]
    #[arg(long, value_name = "URL")]
    metadata: Option<String>,
    /// Directory of the journal, best on a fast disk of its own
    #[arg(long, value_name = "DIR")]
    journal_dir: Option<PathBuf>,
    /// Directories of the ledgers, best one a disk
    #[arg(long, value_name = "DIR", value_delimiter = ',')]
    ledger_dir: Vec<PathBuf>,
    /// Address to listen on
    #[arg(long, default_value = "0.0.0.0", value_name = "ADDRESS")]
    bind: IpAddr,
    /// Port of the BookKeeper protocol; 0 takes any free one
    #[arg(long, default_value_t = 3181)]
    port: u16,
    /// host:port that brokers dial, where it differs from the address listened on
    #[arg(long, value_name = "HOST:PORT")]
    advertise: Option<String>,
}

/// Refuses to start: a bookie process needs a metadata store that other processes can reach.
pub(crate) fn run(args: Args) -> anyhow::Result<()> {
    tracing::debug!(?args, "bookie role asked for");
    super::broker::refuse("bookie", args.metadata.as_deref())
}
