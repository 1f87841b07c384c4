//! `magnetar broker`: the flags of a broker process.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::broker::{Config, Role};
use crate::standalone::StopSignals;

/// Flags of `magnetar broker`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// TOML file with a table [broker]; flags and environment win over it
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    metadata: super::metadata::Args,
    /// Name of the cluster; the first start creates it
    #[arg(long, default_value = "standalone", value_name = "NAME")]
    cluster: String,
    /// Address to listen on
    #[arg(long, default_value = "0.0.0.0", value_name = "ADDRESS")]
    bind: IpAddr,
    /// Port of the Pulsar protocol; 0 takes any free one
    #[arg(long, default_value_t = 6650)]
    broker_port: u16,
    /// Port of the REST API and metrics; 0 takes any free one
    #[arg(long, default_value_t = 8080)]
    http_port: u16,
    /// Host that clients and other brokers dial, where it differs from the address listened on
    #[arg(long, value_name = "HOST")]
    advertise: Option<String>,
    /// Further addresses for clients that ask for them by name: name=pulsar://host:port
    #[arg(long, value_delimiter = ',', value_parser = listener, value_name = "NAME=URL")]
    listeners: Vec<(String, String)>,
    /// Seconds of silence after which other brokers take this one's bundles (etcd takes 2 at least)
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(2..=300), value_name = "SECONDS")]
    lease: u64,
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

fn listener(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, url)) if !name.is_empty() && url.starts_with("pulsar://") => {
            Ok((name.into(), url.into()))
        }
        _ => Err("write name=pulsar://host:port".into()),
    }
}

/// Starts the broker, prints the ready line, and serves until a signal.
pub(crate) async fn run(args: Args) -> anyhow::Result<()> {
    magnetar_common::telemetry::init();
    let mut signals = StopSignals::install()?;
    let config = Config {
        metadata: args.metadata.into(),
        cluster: args.cluster,
        bind: args.bind,
        broker_port: args.broker_port,
        http_port: args.http_port,
        advertise: args.advertise,
        listeners: args.listeners.into_iter().collect::<BTreeMap<_, _>>(),
        lease: Duration::from_secs(args.lease),
        ensemble: args.ensemble,
        write_quorum: args.write_quorum,
        ack_quorum: args.ack_quorum,
    };
    let role = tokio::select! {
        started = Role::start(config) => started?,
        // Nothing was promised to anybody yet, so there is nothing to hand over.
        () = signals.received() => return Ok(()),
    };
    println!("{}", role.ready_line());
    role.serve(signals).await
}
