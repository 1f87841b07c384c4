//! Keeps every entry at its full number of copies: notices lost bookies, copies what they held, and empties bookies that are
//! to go.
//!
//! Runs in every bookie's process ([`AutoRecovery`]), under BookKeeper's keys and records, so that Apache's auditors and
//! workers can share the work. What to do is decided by plain state machines and functions ([`audit`], [`plan`], [`jobs`]);
//! the rest gives them metadata, sockets and time. It must never take a bookie out of a ledger's record before another one
//! holds, durably, what it held; nor conclude from an error that there is nothing to copy.

pub mod audit;
mod auditor;
mod copy;
pub mod drain;
pub mod holdings;
mod integrity;
pub mod jobs;
mod mend;
mod metrics;
pub mod pace;
pub mod plan;
mod queue;
pub mod rejoin;
mod repair;
mod session;
mod status;
mod walk;
mod worker;

pub use self::mend::Damaged;
pub use self::metrics::Metrics;
pub use self::status::{Status, status};

use self::audit::AuditSettings;
use self::auditor::Auditor;
use self::integrity::Integrity;
use self::jobs::Jobs;
use self::mend::Mender;
use self::pace::Pace;
use self::queue::Queue;
use self::session::Session;
use self::worker::Worker;
use crate::client::Client;
use magnetar_common::layout;
use magnetar_common::metadata::MetadataError;
use magnetar_common::shutdown::Signal;
use magnetar_proto::bookkeeper::BookieId;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinSet;

/// After the metadata store failed.
const RETRY: Duration = Duration::from_secs(2);
/// A wish to empty this bookie is looked for at least so often.
const WISH_INTERVAL: Duration = Duration::from_secs(30);

/// What a user may set.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How long a bookie may be away before its copies count as lost. Default 5 min; the cluster's
    /// `lostBookieRecoveryDelay` wins. Less restores copies sooner, and copies more when machines restart.
    pub lost_bookie_delay: Duration,
    /// Between two looks of the auditor through all ledgers. Default 1 h.
    pub audit_interval: Duration,
    /// How long the writer of an open ledger has to leave a lost bookie by itself before its ledger is taken from it,
    /// if there are bookies for its next one.
    /// Default 30 s.
    pub open_ledger_grace: Duration,
    /// Bytes a second that this process copies at most. Default 64 MiB; 0: no limit.
    pub copy_bytes_per_second: u64,
    /// Between two comparisons of what this bookie holds with the metadata. Default 24 h; zero: never.
    pub integrity_interval: Duration,
    /// How long locks and the auditor's office outlive a process that vanished. Default 30 s.
    pub lease_ttl: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            lost_bookie_delay: Duration::from_secs(300),
            audit_interval: Duration::from_secs(3600),
            open_ledger_grace: Duration::from_secs(30),
            copy_bytes_per_second: 64 << 20,
            integrity_interval: Duration::from_secs(24 * 3600),
            lease_ttl: Duration::from_secs(30),
        }
    }
}

/// The auditor's candidate, the worker and the integrity check of one process. Dropping it stops them like a crash: what
/// they held ends with its lease.
pub struct AutoRecovery {
    metrics: Arc<Metrics>,
    draining: watch::Receiver<bool>,
    stop: Signal,
    tasks: JoinSet<()>,
}

impl AutoRecovery {
    /// Starts all of it for the bookie `me`, which should be serving. Must be called within a tokio runtime.
    /// `damaged` tells which entries the bookie itself has found damaged.
    pub async fn start(
        client: Client,
        me: BookieId,
        settings: Settings,
        damaged: Damaged,
    ) -> Result<Self, MetadataError> {
        let queue = Queue::new(client.metadata_store().clone());
        queue.prepare().await?;
        let metrics = Arc::new(Metrics::default());
        let session =
            || Session::new(client.metadata_store().clone(), client.env().clock.clone(), settings.lease_ttl);
        let mut auditor = Auditor {
            client: client.clone(),
            queue: queue.clone(),
            me: me.clone(),
            session: session(),
            metrics: metrics.clone(),
            settings: AuditSettings {
                delay: settings.lost_bookie_delay,
                interval: settings.audit_interval,
                retry: RETRY,
            },
        };
        let mut worker = Worker {
            client: client.clone(),
            queue: queue.clone(),
            me: me.clone(),
            session: session(),
            metrics: metrics.clone(),
            pace: Mutex::new(Pace::new(settings.copy_bytes_per_second)),
            grace: settings.open_ledger_grace,
            jobs: Jobs::default(),
        };
        let stop = Signal::new();
        let mut tasks = JoinSet::new();
        let stopped = stop.clone();
        tasks.spawn(async move {
            tokio::select! {
                () = auditor.run() => {}
                () = stopped.given() => {}
            }
            auditor.session.end().await;
        });
        let stopped = stop.clone();
        tasks.spawn(async move {
            tokio::select! {
                () = worker.run() => {}
                () = stopped.given() => {}
            }
            worker.session.end().await;
        });
        let (wish, draining) = watch::channel(false);
        let (watching, bookie, stopped) = (client.clone(), me.clone(), stop.clone());
        tasks.spawn(async move {
            tokio::select! {
                () = follow_wish(&watching, &bookie, &wish) => {}
                () = stopped.given() => {}
            }
        });
        let mender = Mender {
            client: client.clone(),
            me: me.clone(),
            metrics: metrics.clone(),
            pace: Mutex::new(Pace::new(settings.copy_bytes_per_second)),
            damaged,
        };
        let stopped = stop.clone();
        tasks.spawn(async move {
            tokio::select! {
                () = mender.run() => {}
                () = stopped.given() => {}
            }
        });
        if !settings.integrity_interval.is_zero() {
            let (interval, metrics) = (settings.integrity_interval, metrics.clone());
            let integrity = Integrity { client, queue, me, metrics, interval };
            let stopped = stop.clone();
            tasks.spawn(async move {
                tokio::select! {
                    () = integrity.run() => {}
                    () = stopped.given() => {}
                }
            });
        }
        Ok(Self { metrics, draining, stop, tasks })
    }

    /// The figures, which may be read at any time.
    pub fn metrics(&self) -> Arc<Metrics> {
        self.metrics.clone()
    }

    /// Whether an operator wants this bookie emptied: then it should refuse ordinary adds.
    pub fn draining(&self) -> watch::Receiver<bool> {
        self.draining.clone()
    }

    /// Stops working, and lets others go on at once.
    pub async fn stop(mut self) {
        self.stop.give();
        while self.tasks.join_next().await.is_some() {}
    }
}

/// Tells whether the bookie is to be emptied, again and again. What cannot be read changes nothing.
async fn follow_wish(client: &Client, me: &BookieId, wish: &watch::Sender<bool>) {
    let (store, clock, key) = (client.metadata_store(), &client.env().clock, layout::draining(me));
    loop {
        let mut watch = store.watch(&key);
        loop {
            match store.get(&key).await {
                Ok(value) => drop(wish.send_replace(value.is_some())),
                Err(error) => tracing::debug!(%error, "whether this bookie is to be emptied cannot be read"),
            }
            tokio::select! {
                event = watch.next() => if event.is_none() { break },
                () = clock.sleep(WISH_INTERVAL) => {}
            }
        }
        clock.sleep(RETRY).await;
    }
}
