//! The whole system in one process: embedded metadata, bookies and a broker, meeting on loopback sockets.
//!
//! Called by: `magnetar standalone`.
//! Must never know: how any part works; it starts them in order, waits, and stops them in the opposite order.

mod data_dir;
mod signals;

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use magnetar_bookie::{Bookie, FatalError};
use magnetar_broker::config::BrokerConfig;
use magnetar_broker::service::Broker;
use magnetar_common::Environment;
use magnetar_common::metadata::{EmbeddedStore, SharedMetadata};
use magnetar_proto::bookkeeper::BookieId;
use tokio::task::JoinSet;

use self::data_dir::DataDir;
pub(crate) use self::signals::StopSignals;

/// What each half of the shutdown may take; together below the five seconds that are promised. The broker bounds its own
/// steps, at 3.5 s in all.
const BROKER_STOP_MAX: Duration = Duration::from_millis(3_600);
const BOOKIES_STOP_MAX: Duration = Duration::from_millis(1_200);

/// Requests and answers in flight in each bookie: they share one machine, and serve one broker.
const IN_FLIGHT_BYTES: usize = 64 << 20;

/// Copies of an entry, if there are that many bookies.
const WRITE_QUORUM: u32 = 3;
/// Read cache of each bookie: less than a bookie of its own takes, because several share the process.
const READ_CACHE_BYTES: usize = 16 << 20;

/// What a user may set.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    pub(crate) data_dir: PathBuf,
    pub(crate) bind: IpAddr,
    pub(crate) broker_port: u16,
    pub(crate) http_port: u16,
    pub(crate) bookies: u32,
    pub(crate) advertise: Option<String>,
    pub(crate) cluster: String,
}

/// A running system.
pub(crate) struct Standalone {
    broker: Broker,
    bookies: Vec<Bookie>,
    metadata: SharedMetadata,
    ready_line: String,
    /// Held until the end: the directory is ours.
    data_dir: DataDir,
}

impl Standalone {
    /// Starts metadata, then the bookies side by side, then the broker. When this returns clients are served. After an
    /// error the process should end; what had started is in the state of a crash, which every start can cope with.
    pub(crate) async fn start(config: Config) -> anyhow::Result<Self> {
        let data_dir = DataDir::open(&config.data_dir, config.bookies)?;
        let env = Environment::system();
        let store = EmbeddedStore::open(&data_dir.metadata()).context("metadata store")?;
        let metadata: SharedMetadata = Arc::new(store);
        let bookies = start_bookies(&config, &data_dir, &metadata, &env).await?;

        let write_quorum = config.bookies.min(WRITE_QUORUM);
        let broker_config = BrokerConfig {
            cluster: config.cluster,
            bind: config.bind,
            broker_port: config.broker_port,
            http_port: config.http_port,
            advertise: config.advertise,
            ensemble: write_quorum,
            write_quorum,
            ack_quorum: write_quorum / 2 + 1,
            ..BrokerConfig::default()
        };
        let host = broker_config.advertised_host();
        let client_config = magnetar_ledger::ClientConfig::default();
        let ledgers = magnetar_ledger::Client::new(metadata.clone(), env.clone(), client_config)
            .await
            .context("ledger client")?;
        let broker = Broker::start(broker_config, metadata.clone(), ledgers, env).await.context("broker")?;
        let ready_line = format!(
            "magnetar standalone ready broker=pulsar://{host}:{} http=http://{host}:{}",
            broker.broker_addr().port(),
            broker.http_addr().port()
        );
        Ok(Self { broker, bookies, metadata, ready_line, data_dir })
    }

    /// The line that tells scripts where to connect.
    pub(crate) fn ready_line(&self) -> &str {
        &self.ready_line
    }

    /// Serves until SIGTERM or SIGINT, then stops in order. A bookie that can no longer make entries durable ends the
    /// process with an error: its restart replays the journal.
    pub(crate) async fn serve(self, mut signals: StopSignals) -> anyhow::Result<()> {
        let failure = tokio::select! {
            () = signals.received() => None,
            failure = first_failure(&self.bookies) => Some(failure),
        };
        if let Some((bookie, error)) = failure {
            anyhow::bail!("bookie {bookie}: {error}: check its disk, then start again");
        }
        signals.end_at_the_next();
        tracing::info!("stopping");
        self.stop().await
    }

    /// Drains the broker, then the bookies, then metadata.
    async fn stop(self) -> anyhow::Result<()> {
        let Self { broker, bookies, metadata, ready_line: _, data_dir } = self;
        if tokio::time::timeout(BROKER_STOP_MAX, broker.shutdown()).await.is_err() {
            tracing::warn!("the broker did not drain in time; its topics will recover at the next start");
        }
        let mut stopping = bookies.into_iter().map(Bookie::shutdown).collect::<JoinSet<_>>();
        let stop_all = async {
            while let Some(stopped) = stopping.join_next().await {
                match stopped {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => {
                        tracing::warn!(%error, "a bookie will replay its journal at the next start")
                    }
                    Err(error) => tracing::error!(%error, "the shutdown of a bookie was cut short"),
                }
            }
        };
        if tokio::time::timeout(BOOKIES_STOP_MAX, stop_all).await.is_err() {
            tracing::warn!(
                "the bookies did not flush in time; they will replay their journals at the next start"
            );
        }
        drop(metadata);
        drop(data_dir);
        Ok(())
    }
}

async fn start_bookies(
    config: &Config,
    data_dir: &DataDir,
    metadata: &SharedMetadata,
    env: &Environment,
) -> anyhow::Result<Vec<Bookie>> {
    let mut starting = JoinSet::new();
    for number in 0..config.bookies {
        // Cookies and ledgers name the id for ever, so it must not depend on the port of the day.
        let id = BookieId::new(&format!("standalone-bookie-{number}")).context("bookie id")?;
        let (journal, ledgers) = (data_dir.journal(number), data_dir.ledgers(number));
        let bookie = magnetar_bookie::Config {
            bookie_id: Some(id),
            bind: SocketAddr::from(([127, 0, 0, 1], 0)),
            read_cache_bytes: READ_CACHE_BYTES,
            in_flight_bytes_max: IN_FLIGHT_BYTES,
            ..magnetar_bookie::Config::new(journal, vec![ledgers])
        };
        let (metadata, env) = (metadata.clone(), env.clone());
        starting.spawn(async move {
            Bookie::start(bookie, metadata, env).await.with_context(|| format!("bookie {number}"))
        });
    }
    let mut bookies = Vec::new();
    while let Some(started) = starting.join_next().await {
        bookies.push(started??);
    }
    Ok(bookies)
}

/// The first bookie that failed for good, and why. Cancel-safe.
async fn first_failure(bookies: &[Bookie]) -> (String, FatalError) {
    let mut failures = bookies.iter().map(|bookie| (bookie, Box::pin(bookie.failed()))).collect::<Vec<_>>();
    std::future::poll_fn(|context| {
        for (bookie, failure) in &mut failures {
            if let std::task::Poll::Ready(error) = failure.as_mut().poll(context) {
                return std::task::Poll::Ready((bookie.id().to_string(), error));
            }
        }
        std::task::Poll::Pending
    })
    .await
}
