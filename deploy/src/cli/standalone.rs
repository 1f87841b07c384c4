//! `magnetar standalone`: the flags of the whole system in one process.

use std::net::IpAddr;
use std::path::PathBuf;

use crate::standalone::{Config, Standalone, StopSignals};

/// Flags of `magnetar standalone`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// TOML file with a table [standalone]; flags and environment win over it
    #[arg(long, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
    /// Directory for metadata, journals and ledgers; made when missing
    #[arg(long, default_value = "./data", value_name = "DIR")]
    pub(super) data_dir: PathBuf,
    /// Address to listen on
    #[arg(long, default_value = "127.0.0.1", value_name = "ADDRESS")]
    pub(super) bind: IpAddr,
    /// Port of the Pulsar protocol; 0 takes any free one
    #[arg(long, default_value_t = 6650)]
    pub(super) broker_port: u16,
    /// Port of the REST API and metrics; 0 takes any free one
    #[arg(long, default_value_t = 8080)]
    pub(super) http_port: u16,
    /// Number of bookies; entries go to three of them (to all, if fewer)
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub(super) bookies: u32,
    /// Metadata store: embedded
    #[arg(long, default_value = "embedded", value_name = "STORE")]
    pub(super) metadata: String,
    /// Host that clients dial, where it differs from the address listened on
    #[arg(long, value_name = "HOST")]
    pub(super) advertise: Option<String>,
    /// Name of the cluster that the first start creates
    #[arg(long, default_value = "standalone", value_name = "NAME")]
    pub(super) cluster: String,
}

/// Starts everything, prints the ready line, and serves until a signal or a failure.
pub(crate) async fn run(args: Args) -> anyhow::Result<()> {
    if args.metadata != "embedded" {
        anyhow::bail!(
            "metadata {}: standalone keeps its metadata in its data directory and shares it with nobody: use \
             --metadata embedded, or run `magnetar bookie` and `magnetar broker` over etcd",
            args.metadata
        );
    }
    magnetar_common::telemetry::init();
    let mut signals = StopSignals::install()?;
    let config = Config {
        data_dir: args.data_dir,
        bind: args.bind,
        broker_port: args.broker_port,
        http_port: args.http_port,
        bookies: args.bookies,
        advertise: args.advertise,
        cluster: args.cluster,
    };
    let standalone = tokio::select! {
        started = Standalone::start(config) => started?,
        // Nothing was promised to anybody yet, so there is nothing to drain.
        () = signals.received() => return Ok(()),
    };
    println!("{}", standalone.ready_line());
    standalone.serve(signals).await
}
