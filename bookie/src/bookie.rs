//! The bookie as a whole: starts its parts in an order in which nothing is announced before it works, and stops them in
//! the opposite one.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use magnetar_common::Environment;
use magnetar_common::bookies::ServiceInfo;
use magnetar_common::clock::SharedClock;
use magnetar_common::metadata::{MetadataError, SharedMetadata};
use magnetar_common::net::tls::{TlsError, TlsServer};
use magnetar_common::net::{BindError, Listener};
use magnetar_proto::bookkeeper::BookieId;
use magnetar_proto::ids::{EntryId, LedgerId};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use crate::background::Background;
use crate::compaction::{self, Compactor};
use crate::config::Config;
use crate::control::{About, Control, GrpcPort, HttpPort, Phase, Port, Switch};
use crate::cookie;
use crate::engine::{Disk, Engine, Limits, Mode, ReadOnlyReason, ScrubCounts, SpaceReport};
use crate::error::{FatalError, OpenError};
use crate::gc;
use crate::identity::{Identity, IdentityError, Locks, data_dirs};
use crate::journal::{Complete, DeviceOptions};
use crate::metrics::Metrics;
use crate::registration::{Announcement, Registration};
use crate::scrub::Scrubber;
use crate::server::{self, Durable, Server, complete};

/// Why a bookie does not start. Each message names the cause in one line.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("bad bookie settings: {0}")]
    Config(String),
    #[error("{0}")]
    Identity(#[from] IdentityError),
    /// The stored state is damaged, of a newer version, or cannot be read.
    #[error("cannot open the bookie's data: {0}")]
    Open(#[from] OpenError),
    #[error("{0}")]
    Tls(#[from] TlsError),
    #[error("{0}")]
    Bind(#[from] BindError),
    #[error("cannot reach the metadata store: {0}")]
    Metadata(#[from] MetadataError),
    /// Whoever started the bookie does not let it take its name.
    #[error("{0}")]
    Unwelcome(String),
    /// The runtime is ending.
    #[error("the start was interrupted")]
    Interrupted,
}

/// Asked before a bookie without data takes its name for the first time: an error, which is told to the user, keeps it from
/// starting. Asked again at the next start unless this one went through.
pub type Welcome = Box<dyn FnOnce(BookieId) -> BoxFuture<'static, Result<(), String>> + Send>;

/// A running bookie. Dropping it without [`Bookie::shutdown`] is what a crash is: nothing acknowledged is lost, but the
/// next start replays the journal.
pub struct Bookie {
    id: BookieId,
    local_addr: SocketAddr,
    http_addr: Option<SocketAddr>,
    grpc_addr: Option<SocketAddr>,
    engine: Arc<Engine<Durable>>,
    control: Arc<Control>,
    parts: Option<Parts>,
}

/// A view of what verifying in the background has found damaged, which may outlive the bookie.
#[derive(Clone)]
pub struct FoundDamage(Arc<Engine<Durable>>);

impl FoundDamage {
    /// The entries found so far, as far as they are remembered, each with the log in which its damaged copy lies.
    pub fn entries(&self) -> Vec<(LedgerId, EntryId, u64)> {
        self.0.findings.damaged()
    }
}

/// What a shutdown takes apart.
struct Parts {
    server: Server,
    registration: Registration,
    background: Background,
    ports: Vec<Port>,
    space: JoinHandle<()>,
    /// Held until the end: the directories are ours.
    _locks: Locks,
}

impl Bookie {
    /// Opens the data directories, replays the journal, listens, and announces the bookie, in this order. When this
    /// returns the bookie serves. Must be called inside a tokio runtime. Not cancel-safe: a cancelled start leaves
    /// its parts running until the process ends.
    pub async fn start(
        config: Config,
        metadata: SharedMetadata,
        env: Environment,
    ) -> Result<Bookie, StartError> {
        Self::start_if_welcome(config, metadata, env, Box::new(|_| Box::pin(async { Ok(()) }))).await
    }

    /// As [`start`](Self::start), but a bookie without data asks `welcome` first.
    pub async fn start_if_welcome(
        config: Config,
        metadata: SharedMetadata,
        env: Environment,
        welcome: Welcome,
    ) -> Result<Bookie, StartError> {
        config.check().map_err(StartError::Config)?;
        let tls = tls(&config)?;
        let dirs = data_dirs(&config.journal_dir, &config.ledger_dirs);
        // Bound first, because the address may become the id; accepted from only once everything works.
        let listener = env.network.bind(config.bind).await?;
        let local_addr = listener.local_addr();
        let http = bind(&env, config.http).await?;
        let grpc = bind(&env, config.grpc).await?;
        let (host, port) = advertised(&config, local_addr)?;
        let claim = cookie::Claim {
            storage: env.storage.clone(),
            dirs,
            metadata: metadata.clone(),
            random: env.random.clone(),
            welcome,
        };
        let (identity, locks) = claim.establish(config.bookie_id.clone(), &format!("{host}:{port}")).await?;

        let disk = Disk {
            storage: env.storage.clone(),
            journal_dir: config.journal_dir.clone(),
            ledger_dirs: config.ledger_dirs.clone(),
            instance: identity.instance,
        };
        let limits = Limits {
            write_cache_bytes: config.write_cache_bytes,
            read_cache_bytes: config.read_cache_bytes,
            journal_bytes: config.journal_bytes,
            segment_bytes: config.segment_bytes,
            journal_device: DeviceOptions {
                device: config.journal_device,
                unsafe_no_sync: config.journal_unsafe_no_sync,
            },
            free_bytes_min: config.free_bytes_min,
        };
        let metrics = Metrics::new(env.clock.clone());
        let counting = metrics.clone();
        let durable: Complete<Durable> = Box::new(move |tokens| complete(tokens, &counting));
        let switch = Arc::new(Switch::new(env.storage.clone(), config.journal_dir.clone()));
        let restoring = switch.clone();
        let open = tokio::task::spawn_blocking(move || {
            let engine = Engine::open(disk, limits, metrics, durable)?;
            restoring.restore(&engine).inspect_err(|_| engine.abandon())?;
            Ok::<_, OpenError>(engine)
        });
        let engine = open.await.map_err(|_| StartError::Interrupted)??;

        let about = About {
            bookie: identity.bookie.clone(),
            instance: identity.instance,
            address: format!("{host}:{port}"),
            journal_dir: config.journal_dir.clone(),
        };
        let control = Control::new(engine.clone(), env.clock.clone(), about, switch);
        let http = http.map(|http| HttpPort::start(control.clone(), http));
        let grpc = grpc.map(|grpc| GrpcPort::start(control.clone(), grpc));
        let (http_addr, grpc_addr) =
            (http.as_ref().map(Port::local_addr), grpc.as_ref().map(Port::local_addr));
        let ports = http.into_iter().chain(grpc).collect();
        let server = Server::start(engine.clone(), wire_limits(&config), tls, listener, env.clock.clone());
        let announcement = Announcement {
            metadata: metadata.clone(),
            clock: env.clock.clone(),
            bookie: identity.bookie.clone(),
            service: ServiceInfo { host, port, tls: config.tls.is_some(), rack: config.rack.clone() },
            ttl: config.lease_ttl,
            mode: engine.mode(),
        };
        let registration = match announcement.start().await {
            Ok(registration) => registration,
            Err(error) => {
                server.close().await;
                engine.abandon();
                return Err(error.into());
            }
        };
        control.reached(Phase::Serving);
        let background = start_background(&config, &engine, metadata, &env.clock, &identity, control.gc());
        let space = tokio::spawn(watch_space(engine.clone(), env.clock.clone(), config.space_interval));
        tracing::info!(bookie = %identity.bookie, address = %local_addr, instance = %identity.instance, "bookie serves");
        let parts = Some(Parts { server, registration, background, space, ports, _locks: locks });
        Ok(Bookie { id: identity.bookie, local_addr, http_addr, grpc_addr, engine, control, parts })
    }

    /// The name under which ledgers know this bookie.
    pub fn id(&self) -> &BookieId {
        &self.id
    }

    /// Where it listens.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Where metrics and state are served over HTTP, if they are.
    pub fn http_addr(&self) -> Option<SocketAddr> {
        self.http_addr
    }

    /// Where the gRPC control service is served, if it is.
    pub fn grpc_addr(&self) -> Option<SocketAddr> {
        self.grpc_addr
    }

    /// Whether the bookie takes ordinary adds now, and if not, why.
    pub fn mode(&self) -> Mode {
        *self.engine.mode().borrow()
    }

    /// Refuses ordinary adds from now on, or no longer for this reason. The registration follows. Holds until the bookie
    /// stops.
    pub fn set_read_only(&self, read_only: bool) {
        self.engine.set_read_only(ReadOnlyReason::Operator, read_only);
    }

    /// Refuses ordinary adds while its copies are made elsewhere, or no longer for this reason.
    pub fn set_draining(&self, draining: bool) {
        self.engine.set_read_only(ReadOnlyReason::Draining, draining);
    }

    /// Text in Prometheus' format that the HTTP port serves behind the bookie's own metrics: what else this process does.
    /// The first source is kept.
    pub fn add_metrics(&self, source: impl Fn() -> String + Send + Sync + 'static) {
        self.control.add_metrics(Box::new(source));
    }

    /// Resolves when the bookie has failed for good, the first time a journal write or sync or a flush fails: it answers
    /// nothing more and its process should end. Cancel-safe.
    pub async fn failed(&self) -> FatalError {
        let mut failure = self.engine.failure();
        let failed = failure.wait_for(Option::is_some).await.map(|failed| failed.clone());
        failed.ok().flatten().unwrap_or(FatalError::Stopped)
    }

    /// Accounts for every byte of the data directories. Reads no entries, but visits every ledger and file.
    pub async fn explain(&self) -> std::io::Result<SpaceReport> {
        let engine = self.engine.clone();
        let explained = tokio::task::spawn_blocking(move || engine.explain()).await;
        explained.map_err(std::io::Error::other)?
    }

    /// How far verifying in the background has come, and the damaged entries it found with the log of each.
    pub fn scrubbed(&self) -> (ScrubCounts, Vec<(LedgerId, EntryId, u64)>) {
        (self.engine.findings.counts(), self.engine.findings.damaged())
    }

    /// A view of the damaged entries alone.
    pub fn found_damage(&self) -> FoundDamage {
        FoundDamage(self.engine.clone())
    }

    /// Takes the bookie off the list, closes its connections, writes everything into entry logs, checkpoints, and ends
    /// its threads. Entries are safe whatever this returns; after an error the next start replays the journal.
    pub async fn shutdown(mut self) -> Result<(), FatalError> {
        let Some(Parts { server, registration, background, space, ports, _locks }) = self.parts.take() else {
            return Ok(());
        };
        self.control.reached(Phase::Stopping);
        background.end().await;
        space.abort();
        registration.stop().await;
        server.close().await;
        let engine = self.engine.clone();
        let closed = tokio::task::spawn_blocking(move || engine.close()).await;
        // Last, so that the way to the end can be watched.
        for port in ports {
            port.close().await;
        }
        closed.map_err(|_| FatalError::Stopped)?
    }
}

impl Drop for Bookie {
    fn drop(&mut self) {
        if let Some(parts) = self.parts.take() {
            parts.background.abort();
            parts.space.abort();
            parts.server.abort();
            self.engine.abandon();
        }
    }
}

fn tls(config: &Config) -> Result<Option<server::Tls>, TlsError> {
    let Some(files) = &config.tls else { return Ok(None) };
    let server = Arc::new(TlsServer::load(files.clone())?);
    Ok(Some(server::Tls { server, required: config.tls_required }))
}

/// Everything that gives space back and looks for damage.
fn start_background(
    config: &Config,
    engine: &Arc<Engine<Durable>>,
    metadata: SharedMetadata,
    clock: &SharedClock,
    identity: &Identity,
    asked: Arc<gc::Asked>,
) -> Background {
    let mut background = Background::new();
    let (clock, freed) = (clock.clone(), Arc::new(Notify::new()));
    let collector = gc::Collector {
        engine: engine.clone(),
        metadata,
        clock: clock.clone(),
        identity: identity.clone(),
        settings: gc::Settings { interval: config.gc_interval, grace: config.gc_grace },
        freed: freed.clone(),
        asked,
        stop: background.stop(),
    };
    background.spawn(collector.run());
    let settings = compaction::Settings {
        live_ratio: config.compaction_live_ratio,
        bytes_per_second: config.compaction_bytes_per_second,
        small_bytes: config.write_cache_bytes as u64 / compaction::SMALL_PART,
    };
    let (engine, stop) = (engine.clone(), background.stop());
    let compactor =
        Compactor { engine: engine.clone(), clock: clock.clone(), settings, freed, stop: stop.clone() };
    background.spawn(compactor.run());
    let bytes_per_second = config.scrub_bytes_per_second;
    background.spawn(Scrubber { engine, clock, bytes_per_second, stop }.run());
    background
}

fn wire_limits(config: &Config) -> server::Limits {
    server::Limits {
        frame_bytes_max: config.frame_bytes_max,
        in_flight_bytes_max: config.in_flight_bytes_max,
        connections_max: config.connections_max,
    }
}

async fn bind(
    env: &Environment,
    address: Option<SocketAddr>,
) -> Result<Option<Box<dyn Listener>>, BindError> {
    match address {
        Some(address) => env.network.bind(address).await.map(Some),
        None => Ok(None),
    }
}

/// Looks at the free space every `interval`, until aborted.
async fn watch_space(engine: Arc<Engine<Durable>>, clock: SharedClock, interval: Duration) {
    loop {
        clock.sleep(interval).await;
        let engine = engine.clone();
        // Asking a file system can take long when it is in trouble. A panic there has been reported.
        let _ = tokio::task::spawn_blocking(move || engine.check_space()).await;
    }
}

/// The host and port that clients are told.
fn advertised(config: &Config, local: SocketAddr) -> Result<(String, u16), StartError> {
    let Some(text) = &config.advertise else { return Ok((local.ip().to_string(), local.port())) };
    match text.rsplit_once(':') {
        Some((host, port)) if !host.contains(':') || host.ends_with(']') => {
            let port =
                port.parse().map_err(|_| StartError::Config(format!("'{text}' is not host[:port]")))?;
            Ok((host.to_owned(), port))
        }
        _ => Ok((text.clone(), local.port())),
    }
}
