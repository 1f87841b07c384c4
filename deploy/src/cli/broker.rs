//! `magnetar broker`: the flags of a broker process.

use std::net::IpAddr;
use std::path::PathBuf;

/// Flags of `magnetar broker`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// TOML file with a table [broker]; flags and environment win over it
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Metadata store shared by the cluster: etcd://host:2379[,host:2379...]
    #[arg(long, value_name = "URL")]
    metadata: Option<String>,
    /// Address to listen on
    #[arg(long, default_value = "0.0.0.0", value_name = "ADDRESS")]
    bind: IpAddr,
    /// Port of the Pulsar protocol; 0 takes any free one
    #[arg(long, default_value_t = 6650)]
    broker_port: u16,
    /// Port of the REST API and metrics; 0 takes any free one
    #[arg(long, default_value_t = 8080)]
    http_port: u16,
    /// Host that clients dial, where it differs from the address listened on
    #[arg(long, value_name = "HOST")]
    advertise: Option<String>,
    /// Bookies that a ledger is spread over
    #[arg(long, default_value_t = 3)]
    ensemble: u32,
    /// Bookies that store each entry
    #[arg(long, default_value_t = 3)]
    write_quorum: u32,
    /// Bookies that must have made an entry durable before it is acknowledged
    #[arg(long, default_value_t = 2)]
    ack_quorum: u32,
}

/// Refuses to start: a broker process is still to come.
pub(crate) fn run(args: Args) -> anyhow::Result<()> {
    tracing::debug!(?args, "broker role asked for");
    match args.metadata {
        None => anyhow::bail!("a broker needs --metadata etcd://host:2379: or run `magnetar standalone`"),
        Some(url) => anyhow::bail!("metadata {url}: this build's brokers run in `magnetar standalone` only"),
    }
}
