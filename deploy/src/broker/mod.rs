//! One broker as a process of its own, over metadata and bookies that it shares with the rest of a cluster.
//!
//! Called by: `magnetar broker`.
//! Must never know: how a broker does its work; this connects it to the cluster, waits, and stops it.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use anyhow::Context;
use magnetar_broker::config::{BrokerConfig, Membership};
use magnetar_broker::service::Broker;
use magnetar_common::{Environment, cluster};

use crate::bookie::address;
use crate::metadata;
use crate::standalone::StopSignals;

/// For a stop in order, bundles handed over: below the 30 s after which service managers kill.
const STOP_MAX: Duration = Duration::from_secs(20);

/// What a user may set.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    pub(crate) metadata: metadata::Settings,
    pub(crate) cluster: String,
    pub(crate) bind: IpAddr,
    pub(crate) broker_port: u16,
    pub(crate) http_port: u16,
    pub(crate) advertise: Option<String>,
    pub(crate) listeners: BTreeMap<String, String>,
    pub(crate) lease: Duration,
    pub(crate) ensemble: u32,
    pub(crate) write_quorum: u32,
    pub(crate) ack_quorum: u32,
}

/// A running broker.
pub(crate) struct Role {
    broker: Broker,
}

impl Role {
    /// Connects to the metadata store, writes what a new cluster lacks, and starts the broker. When this returns clients are
    /// served and the other brokers know of this one. After an error the process should end.
    pub(crate) async fn start(config: Config) -> anyhow::Result<Self> {
        anyhow::ensure!(
            config.ack_quorum >= 1
                && config.ack_quorum <= config.write_quorum
                && config.write_quorum <= config.ensemble,
            "--ensemble {} --write-quorum {} --ack-quorum {}: each must be at least the next, and the last at least 1",
            config.ensemble,
            config.write_quorum,
            config.ack_quorum
        );
        let env = Environment::system();
        let etcd = config.metadata.config("broker")?;
        let store = metadata::connect(&etcd, &env).await?;
        cluster::initialize(&store, &*env.random).await.context("metadata store")?;
        let advertise = match config.advertise {
            Some(advertise) => advertise,
            None if config.bind.is_unspecified() => address::towards(etcd.endpoints).await?.to_string(),
            None => config.bind.to_string(),
        };
        let broker = BrokerConfig {
            cluster: config.cluster,
            membership: Membership::Cluster { lease: config.lease },
            listeners: config.listeners,
            bind: config.bind,
            broker_port: config.broker_port,
            http_port: config.http_port,
            advertise: Some(address::bracketed(&advertise)),
            ensemble: config.ensemble,
            write_quorum: config.write_quorum,
            ack_quorum: config.ack_quorum,
            ..BrokerConfig::default()
        };
        let client = magnetar_ledger::ClientConfig::default();
        let ledgers = magnetar_ledger::Client::new(store.clone(), env.clone(), client);
        let ledgers = ledgers.await.context("ledger client")?;
        let broker = Broker::start(broker, store, ledgers, env).await.context("broker")?;
        Ok(Self { broker })
    }

    /// The line that tells scripts where to connect.
    pub(crate) fn ready_line(&self) -> String {
        let advertised = &self.broker.service().advertised;
        format!("magnetar broker ready broker={} http={}", advertised.broker_url, advertised.http_url)
    }

    /// Serves until SIGTERM or SIGINT, then hands its bundles over and stops.
    pub(crate) async fn serve(self, mut signals: StopSignals) -> anyhow::Result<()> {
        signals.received().await;
        signals.end_at_the_next();
        tracing::info!("handing over");
        if tokio::time::timeout(STOP_MAX, self.broker.shutdown()).await.is_err() {
            tracing::warn!(
                "the broker did not drain in time; its topics are recovered when they are loaded again"
            );
        }
        Ok(())
    }
}
