//! One bookie as a process of its own, over metadata that it shares with the rest of a cluster.
//!
//! Called by: `magnetar bookie`.
//! Must never know: how a bookie does its work; this connects it to the cluster, waits, and stops it.

pub(crate) mod address;
mod recovery;

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::Context;
use magnetar_bookie::Bookie;
use magnetar_common::metadata::SharedMetadata;
use magnetar_common::{Environment, cluster};
use magnetar_ledger::replication::Settings;
use magnetar_ledger::{Client, ClientConfig};
use magnetar_proto::bookkeeper::BookieId;

use self::recovery::Recovery;
use crate::metadata;
use crate::standalone::StopSignals;

/// For a stop in order: below the 30 s after which service managers kill. What is cut short is replayed at the next start.
const STOP_MAX: Duration = Duration::from_secs(20);

/// What a user may set.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    pub(crate) metadata: metadata::Settings,
    /// Directories, and all that has nothing to do with the cluster.
    pub(crate) bookie: magnetar_bookie::Config,
    pub(crate) bind: IpAddr,
    pub(crate) port: u16,
    pub(crate) grpc_port: Option<u16>,
    pub(crate) http_port: u16,
    pub(crate) advertise: Option<String>,
    pub(crate) bookie_id: Option<BookieId>,
    pub(crate) rack: Option<String>,
    pub(crate) session_timeout: Duration,
    /// `None`: this process takes no part in re-replication.
    pub(crate) auto_recovery: Option<Settings>,
}

/// A running bookie and its way to the cluster.
pub(crate) struct Role {
    bookie: Bookie,
    recovery: Option<Recovery>,
    /// `host[:port]`.
    advertised: String,
    /// Outlives the bookie, which signs off here.
    _metadata: SharedMetadata,
}

impl Role {
    /// Connects to the metadata store, writes what a new cluster lacks, and starts the bookie. When this returns the bookie
    /// serves and is announced. After an error the process should end.
    pub(crate) async fn start(config: Config) -> anyhow::Result<Self> {
        let env = Environment::system();
        let etcd = config.metadata.config("bookie")?;
        let store = metadata::connect(&etcd, &env).await?;
        cluster::initialize(&store, &*env.random).await.context("metadata store")?;
        let advertise = match config.advertise {
            Some(advertise) => advertise,
            None if config.bind.is_unspecified() => address::towards(etcd.endpoints).await?.to_string(),
            None => config.bind.to_string(),
        };
        let advertise = address::bracketed(&advertise);
        let bookie = magnetar_bookie::Config {
            bind: SocketAddr::new(config.bind, config.port),
            grpc: config.grpc_port.map(|port| SocketAddr::new(config.bind, port)),
            http: Some(SocketAddr::new(config.bind, config.http_port)),
            advertise: Some(advertise.clone()),
            bookie_id: config.bookie_id,
            rack: config.rack,
            lease_ttl: config.session_timeout,
            ..config.bookie
        };
        let client = Client::new(store.clone(), env.clone(), ClientConfig::default()).await?;
        let welcome = recovery::welcome(client.clone());
        let bookie = Bookie::start_if_welcome(bookie, store.clone(), env, welcome).await?;
        let recovery = match config.auto_recovery {
            Some(settings) => Some(Recovery::start(client, &bookie, settings).await?),
            None => None,
        };
        Ok(Self { bookie, recovery, advertised: advertise, _metadata: store })
    }

    /// The line that tells scripts who this is and where to connect.
    pub(crate) fn ready_line(&self) -> String {
        let (advertised, bookie) = (&self.advertised, &self.bookie);
        let address = address::with_port(advertised, bookie.local_addr().port());
        let mut line = format!("magnetar bookie ready id={} bookie={address}", bookie.id());
        let host = address::host(advertised);
        if let Some(http) = bookie.http_addr() {
            line.push_str(&format!(" http=http://{host}:{}", http.port()));
        }
        if let Some(grpc) = bookie.grpc_addr() {
            line.push_str(&format!(" grpc={host}:{}", grpc.port()));
        }
        line
    }

    /// Serves until SIGTERM or SIGINT, then stops in order. A bookie that can no longer make entries durable ends the
    /// process with an error: its restart replays the journal.
    pub(crate) async fn serve(mut self, mut signals: StopSignals) -> anyhow::Result<()> {
        tokio::select! {
            () = signals.received() => {}
            () = recovery::follow_draining(self.recovery.as_ref(), &self.bookie) => {}
            error = self.bookie.failed() => anyhow::bail!("{error}: check its disk, then start again"),
        }
        signals.end_at_the_next();
        tracing::info!("stopping");
        if let Some(recovery) = self.recovery.take() {
            recovery.stop().await;
        }
        match tokio::time::timeout(STOP_MAX, self.bookie.shutdown()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "the bookie will replay its journal at the next start"),
            Err(_) => tracing::warn!(
                "the bookie did not flush in time; it will replay its journal at the next start"
            ),
        }
        Ok(())
    }
}
