//! Start and end of a broker.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use magnetar_common::Environment;
use magnetar_common::budget::ByteBudget;
use magnetar_common::metadata::SharedMetadata;
use magnetar_common::net::BindError;
use magnetar_common::shutdown::{Gate, Signal};
use magnetar_ledger::Client;
use tokio::task::JoinHandle;

use super::loader::Loader;
use super::{BrokerService, Connections, accept, http};
use crate::config::BrokerConfig;
use crate::managed_ledger::MlEnv;
use crate::namespace::{
    AutoCreate, ClusterData, LoadTopic, NamespaceStore, Owner, SchemaRegistry, SingleBroker, StoreError,
    TopicRegistry, bootstrap,
};
use crate::policies::{self, StoredPolicies};
use crate::topic::{ProducerNames, TailBudget, TopicEnv, TopicLimits};

/// Counts the starts of brokers: part of the producer names that they make up (as in Pulsar).
const PRODUCER_NAMES: &str = "/counters/producer-name";

/// Closing topics flushes cursors to the bookies; what is not done by then is recovered at the next start. Together
/// with the two below it keeps a shutdown under 4 s.
const TOPICS_PATIENCE: Duration = Duration::from_millis(2_500);

/// For the last frames of each connection to leave.
const CONNECTIONS_PATIENCE: Duration = Duration::from_millis(700);

/// For HTTP requests under way.
const HTTP_PATIENCE: Duration = Duration::from_millis(300);

/// Why a broker did not start; the text says what to do.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    Bind(#[from] BindError),
    #[error("cannot write the records of cluster {cluster}: {source}")]
    Bootstrap { cluster: String, source: StoreError },
}

/// A running broker. Dropping it leaves its tasks running: call [`Broker::shutdown`].
pub struct Broker {
    service: Arc<BrokerService>,
    broker_addr: SocketAddr,
    http_addr: SocketAddr,
    stop_accepting: Signal,
    stop_http: Signal,
    connections: Gate,
    accepting: JoinHandle<()>,
    http: JoinHandle<()>,
    /// Tells topics of changed policies.
    following: JoinHandle<()>,
}

impl Broker {
    /// Binds both ports, writes a new cluster's records, and serves. Nothing is left behind when it fails, but those
    /// records may be.
    pub async fn start(
        config: BrokerConfig,
        metadata: SharedMetadata,
        ledgers: Client,
        environment: Environment,
    ) -> Result<Broker, StartError> {
        let listener = environment.network.bind(SocketAddr::new(config.bind, config.broker_port)).await?;
        let broker_addr = listener.local_addr();
        let (http_listener, http_addr) = http::bind(SocketAddr::new(config.bind, config.http_port)).await?;
        let advertised = advertised(&config, broker_addr, http_addr);
        write_first_records(&config, &metadata, &advertised).await?;

        let loader = loader(&config, &metadata, ledgers, &environment, &advertised).await?;
        let service = Arc::new(assemble(config, metadata, environment, advertised, loader));
        let source = Arc::new(StoredPolicies(service.store.clone()));
        let following = policies::follow(
            Arc::clone(&service.metadata),
            Arc::clone(&service.topics),
            source,
            Arc::clone(&service.clock),
        );
        let following = tokio::spawn(following);
        let (stop_accepting, stop_http, connections) = (Signal::new(), Signal::new(), Gate::new());
        let accepting = tokio::spawn(accept::accept_connections(
            Arc::clone(&service),
            listener,
            stop_accepting.clone(),
            connections.clone(),
        ));
        let http = tokio::spawn(http::serve(Arc::clone(&service), http_listener, stop_http.clone()));
        Ok(Broker {
            service,
            broker_addr,
            http_addr,
            stop_accepting,
            stop_http,
            connections,
            accepting,
            http,
            following,
        })
    }

    /// Where the binary protocol is served.
    pub fn broker_addr(&self) -> SocketAddr {
        self.broker_addr
    }

    /// Where HTTP is served.
    pub fn http_addr(&self) -> SocketAddr {
        self.http_addr
    }

    pub fn service(&self) -> &Arc<BrokerService> {
        &self.service
    }

    /// Takes no more connections, closes all topics (their clients get CLOSE_PRODUCER and CLOSE_CONSUMER; cursors are
    /// flushed), then all connections. Takes less than 4 s, whatever does not answer.
    pub async fn shutdown(self) {
        self.stop_accepting.give();
        self.stop_http.give();
        self.following.abort();
        if tokio::time::timeout(TOPICS_PATIENCE, self.service.topics.shutdown()).await.is_err() {
            tracing::warn!("not every topic closed in time; those are recovered when they are loaded again");
        }
        for connection in self.service.connections.all() {
            connection.close();
        }
        if tokio::time::timeout(CONNECTIONS_PATIENCE, self.connections.empty()).await.is_err() {
            for connection in self.service.connections.all() {
                connection.abort();
            }
        }
        let mut http = self.http;
        if tokio::time::timeout(HTTP_PATIENCE, &mut http).await.is_err() {
            http.abort();
        }
        // It stops at the signal, which was given first.
        let _ = self.accepting.await;
    }
}

fn advertised(config: &BrokerConfig, broker: SocketAddr, http: SocketAddr) -> Owner {
    let host = config.advertised_host();
    Owner {
        broker_url: format!("pulsar://{host}:{}", broker.port()),
        http_url: format!("http://{host}:{}", http.port()),
    }
}

async fn write_first_records(
    config: &BrokerConfig,
    metadata: &SharedMetadata,
    advertised: &Owner,
) -> Result<(), StartError> {
    let data = ClusterData {
        service_url: Some(advertised.http_url.clone()),
        broker_service_url: Some(advertised.broker_url.clone()),
        ..ClusterData::default()
    };
    bootstrap(metadata, &config.cluster, &data, config.default_bundles)
        .await
        .map_err(|source| bootstrap_error(config, source))
}

async fn loader(
    config: &BrokerConfig,
    metadata: &SharedMetadata,
    ledgers: Client,
    environment: &Environment,
    advertised: &Owner,
) -> Result<Arc<dyn LoadTopic>, StartError> {
    let start = metadata
        .next_sequence(PRODUCER_NAMES)
        .await
        .map_err(|error| bootstrap_error(config, error.into()))?;
    Ok(Arc::new(Loader(TopicEnv {
        managed_ledgers: MlEnv {
            ledgers,
            metadata: Arc::clone(metadata),
            clock: Arc::clone(&environment.clock),
        },
        config: config.managed_ledgers(),
        environment: environment.clone(),
        limits: TopicLimits::default(),
        names: Arc::new(ProducerNames::new(format!("{}-{start}", config.cluster))),
        broker: advertised.broker_url.as_str().into(),
        policies: Arc::new(StoredPolicies(NamespaceStore::new(Arc::clone(metadata)))),
        tail_budget: Arc::new(TailBudget::new(config.tail_cache_bytes)),
    })))
}

fn bootstrap_error(config: &BrokerConfig, source: StoreError) -> StartError {
    StartError::Bootstrap { cluster: config.cluster.clone(), source }
}

/// The service without its ports, over any way to load topics.
pub(crate) fn assemble(
    config: BrokerConfig,
    metadata: SharedMetadata,
    environment: Environment,
    advertised: Owner,
    loader: Arc<dyn LoadTopic>,
) -> BrokerService {
    let store = NamespaceStore::new(Arc::clone(&metadata));
    let auto_create = AutoCreate {
        topics: config.auto_create_topics,
        subscriptions: config.auto_create_subscriptions,
        partitions_max: config.max_partitions,
    };
    BrokerService {
        schemas: SchemaRegistry::new(Arc::clone(&metadata), Arc::clone(&environment.clock)),
        topics: TopicRegistry::new(store.clone(), loader, auto_create),
        store,
        ownership: Arc::new(SingleBroker(advertised.clone())),
        advertised,
        connections: Connections::default(),
        publish_budget: ByteBudget::new(config.publish_buffer_bytes),
        metadata,
        clock: environment.clock,
        random: environment.random,
        config,
    }
}
