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
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use super::elsewhere::Elsewhere;
use super::loader::Loader;
use super::neighbours::Neighbours;
use super::{BrokerService, Connections, accept, balancing, http, idle};
use crate::config::{BrokerConfig, Membership};
use crate::managed_ledger::MlEnv;
use crate::namespace::{
    AutoCreate, BrokerRecord, Cluster, ClusterData, ClusterSettings, Listener, LoadTopic, NamespaceStore,
    Owner, Ownership, SchemaRegistry, SingleBroker, StoreError, TopicFeeds, TopicRegistry, bootstrap,
};
use crate::policies::{self, PolicySource, RecentPolicies};
use crate::protocol::outbound::Outbound;
use crate::topic::{ProducerNames, StoreElsewhere, TailBudget, TopicEnv, TopicLimits};

/// Counts the starts of brokers: part of the producer names that they make up (as in Pulsar).
const PRODUCER_NAMES: &str = "/counters/producer-name";

/// Topics that a broker compacts at the same time: each may take a quarter of a GiB for its keys.
const COMPACTIONS: usize = 2;

/// Closing topics flushes cursors to the bookies; what is not done by then is recovered at the next start. Together
/// with the two below it keeps a shutdown under 4 s.
const TOPICS_PATIENCE: Duration = Duration::from_millis(2_500);

/// For the last frames of each connection to leave.
const CONNECTIONS_PATIENCE: Duration = Duration::from_millis(700);

/// For those that are cut off to be gone.
const ABORT_PATIENCE: Duration = Duration::from_millis(100);

/// For HTTP requests under way.
const HTTP_PATIENCE: Duration = Duration::from_millis(300);

/// For handing over every bundle of a cluster's broker; those that are not by then are free when the lease ends.
const DRAIN_PATIENCE: Duration = Duration::from_secs(10);

/// After that clients still look their topics up here before the sockets close.
const LOOKUP_PATIENCE: Duration = Duration::from_millis(500);

/// For ending the lease.
const LEAVE_PATIENCE: Duration = Duration::from_secs(2);

/// Why a broker did not start; the text says what to do.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    Bind(#[from] BindError),
    #[error("cannot write the records of cluster {cluster}: {source}")]
    Bootstrap { cluster: String, source: StoreError },
    #[error("cannot join the brokers of cluster {cluster}: {source}")]
    Join { cluster: String, source: StoreError },
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

        let elsewhere = Arc::new(Elsewhere::new(Arc::clone(&environment.clock)));
        let shared = Arc::clone(&elsewhere) as Arc<dyn StoreElsewhere>;
        let policies = Arc::new(RecentPolicies::new(NamespaceStore::new(Arc::clone(&metadata))));
        let source = Arc::clone(&policies);
        let loader = loader(&config, &metadata, source, ledgers, &environment, &advertised, shared).await?;
        let cluster = join(&config, &metadata, &environment, &advertised).await?;
        let name = config.cluster.clone();
        let service = assemble_with(config, metadata, policies, environment, advertised, loader, cluster);
        let service = Arc::new(service);
        elsewhere.belongs_to(&service);
        let following = policies::follow(
            Arc::clone(&service.metadata),
            Arc::clone(&service.topics),
            Arc::clone(&service.policies) as Arc<dyn PolicySource>,
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
        if let Some(idle) = service.config.idle_topics {
            tokio::spawn(idle::drop_idle_topics(Arc::clone(&service), stop_accepting.clone(), idle));
        }
        let http = tokio::spawn(http::serve(Arc::clone(&service), http_listener, stop_http.clone()));
        if let Some(cluster) = &service.cluster {
            // From here on others send clients here.
            let neighbours = Arc::new(Neighbours(service.environment.clone()));
            let registered = cluster.register(&service.topics, neighbours).await;
            registered.map_err(|error| StartError::Join { cluster: name, source: error.into() })?;
            tokio::spawn(balancing::balance(Arc::clone(&service), Arc::clone(cluster)));
        }
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
    /// flushed), then all connections. Takes less than 4 s, whatever does not answer. A cluster's broker hands its bundles
    /// over first, while it still takes connections, and may take 17 s in all.
    pub async fn shutdown(self) {
        if let Some(cluster) = &self.service.cluster {
            let clock = &self.service.clock;
            tokio::select! {
                () = cluster.drain() => {}
                () = clock.sleep(DRAIN_PATIENCE) => tracing::warn!("not every bundle was handed over in time"),
            }
            if self.service.connections.count() > 0 {
                clock.sleep(LOOKUP_PATIENCE).await;
            }
        }
        self.stop_accepting.give();
        self.stop_http.give();
        self.following.abort();
        if tokio::time::timeout(TOPICS_PATIENCE, self.service.topics.shutdown()).await.is_err() {
            tracing::warn!("not every topic closed in time; those are recovered when they are loaded again");
        }
        for connection in self.service.connections.all() {
            connection.close();
        }
        let mut patience = CONNECTIONS_PATIENCE;
        while tokio::time::timeout(patience, self.connections.empty()).await.is_err() {
            // A writer looks at that first. One more may have come in while those before it were told.
            self.service.connections.all().iter().for_each(Outbound::abort);
            patience = ABORT_PATIENCE;
        }
        let mut http = self.http;
        if tokio::time::timeout(HTTP_PATIENCE, &mut http).await.is_err() {
            http.abort();
            let _ = http.await;
        }
        // It stops at the signal, which was given first.
        let _ = self.accepting.await;
        if let Some(cluster) = &self.service.cluster {
            tokio::select! {
                () = cluster.stop() => {}
                () = self.service.clock.sleep(LEAVE_PATIENCE) => {}
            }
        }
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
    policies: Arc<RecentPolicies>,
    ledgers: Client,
    environment: &Environment,
    advertised: &Owner,
    elsewhere: Arc<dyn StoreElsewhere>,
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
            random: Arc::clone(&environment.random),
        },
        config: config.managed_ledgers(),
        environment: environment.clone(),
        limits: TopicLimits::default(),
        names: Arc::new(ProducerNames::new(format!("{}-{start}", config.cluster))),
        broker: advertised.broker_url.as_str().into(),
        policies,
        tail_budget: Arc::new(TailBudget::new(config.tail_cache_bytes)),
        compactions: Arc::new(Semaphore::new(COMPACTIONS)),
        elsewhere,
    })))
}

async fn join(
    config: &BrokerConfig,
    metadata: &SharedMetadata,
    environment: &Environment,
    advertised: &Owner,
) -> Result<Option<Arc<Cluster>>, StartError> {
    let Membership::Cluster { lease } = config.membership else { return Ok(None) };
    let listener = |(name, url): (&String, &String)| {
        (name.clone(), Listener { broker_service_url: Some(url.clone()), ..Listener::default() })
    };
    let record = BrokerRecord {
        broker_id: advertised.http_url.trim_start_matches("http://").to_owned(),
        web_service_url: advertised.http_url.clone(),
        pulsar_service_url: advertised.broker_url.clone(),
        advertised_listeners: config.listeners.iter().map(listener).collect(),
        persistent_topics_enabled: true,
        broker_version_string: concat!("magnetar-", env!("CARGO_PKG_VERSION")).to_owned(),
        start_timestamp: environment.clock.unix_ms(),
        last_update: environment.clock.unix_ms(),
        load_report_type: "LocalBrokerData".into(),
        load_manager_class_name: "magnetar".into(),
        ..BrokerRecord::default()
    };
    let settings = ClusterSettings { name: config.cluster.clone(), record, lease };
    let joined = Cluster::join(Arc::clone(metadata), environment, settings).await;
    joined.map(Some).map_err(|source| StartError::Join { cluster: config.cluster.clone(), source })
}

fn bootstrap_error(config: &BrokerConfig, source: StoreError) -> StartError {
    StartError::Bootstrap { cluster: config.cluster.clone(), source }
}

/// The service of the only broker without its ports, over any way to load topics.
#[cfg(test)]
pub(crate) fn assemble(
    config: BrokerConfig,
    metadata: SharedMetadata,
    environment: Environment,
    advertised: Owner,
    loader: Arc<dyn LoadTopic>,
) -> BrokerService {
    let policies = Arc::new(RecentPolicies::new(NamespaceStore::new(Arc::clone(&metadata))));
    assemble_with(config, metadata, policies, environment, advertised, loader, None)
}

/// The service without its ports, over any way to load topics.
pub(crate) fn assemble_with(
    config: BrokerConfig,
    metadata: SharedMetadata,
    policies: Arc<RecentPolicies>,
    environment: Environment,
    advertised: Owner,
    loader: Arc<dyn LoadTopic>,
    cluster: Option<Arc<Cluster>>,
) -> BrokerService {
    let ownership: Arc<dyn Ownership> = match &cluster {
        Some(cluster) => Arc::clone(cluster) as Arc<dyn Ownership>,
        None => Arc::new(SingleBroker(advertised.clone())),
    };
    let store = policies.store().clone();
    let auto_create = AutoCreate {
        topics: config.auto_create_topics,
        subscriptions: config.auto_create_subscriptions,
        partitions_max: config.max_partitions,
    };
    BrokerService {
        schemas: SchemaRegistry::new(Arc::clone(&metadata), Arc::clone(&environment.clock)),
        topics: TopicRegistry::new(store.clone(), loader, auto_create, Arc::clone(&ownership)),
        feeds: TopicFeeds::new(store.clone(), Arc::clone(&environment.clock)),
        policies,
        store,
        ownership,
        cluster,
        environment: environment.clone(),
        advertised,
        connections: Connections::default(),
        publish_budget: ByteBudget::new(config.publish_buffer_bytes),
        metadata,
        clock: environment.clock,
        random: environment.random,
        config,
    }
}
