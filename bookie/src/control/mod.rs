//! What operators and their tools see of a running bookie and may change: the HTTP port and the gRPC port.
//! The bookie starts it with its parts and tells it how far the start or the end has come.
//! It must never hold up a request of the BookKeeper protocol: it copies what it shows, a bounded portion at a time.

mod connection;
mod grpc;
mod http;
mod port;
mod switch;

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use magnetar_common::clock::SharedClock;
use magnetar_proto::bookkeeper::BookieId;
use tokio::sync::watch;

pub(crate) use self::grpc::GrpcPort;
pub(crate) use self::http::HttpPort;
pub(crate) use self::port::Port;
pub(crate) use self::switch::Switch;
use crate::engine::{Engine, Mode};
use crate::gc::Asked;
use crate::identity::InstanceId;
use crate::metrics::{Gauges, ServerStatus};
use crate::server::Durable;

/// How far the bookie's life has come; only ever forwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    /// Not announced yet.
    Starting,
    Serving,
    Stopping,
}

/// What never changes while a bookie runs.
pub(crate) struct About {
    pub(crate) bookie: BookieId,
    pub(crate) instance: InstanceId,
    /// `host:port` that clients are told.
    pub(crate) address: String,
    pub(crate) journal_dir: PathBuf,
}

/// Text in Prometheus' format from outside the bookie.
pub(crate) type MoreMetrics = Box<dyn Fn() -> String + Send + Sync>;

/// What both ports show and change.
pub(crate) struct Control {
    engine: Arc<Engine<Durable>>,
    clock: SharedClock,
    about: About,
    switch: Arc<Switch>,
    gc: Arc<Asked>,
    phase: watch::Sender<Phase>,
    more_metrics: OnceLock<MoreMetrics>,
}

impl Control {
    pub(crate) fn new(
        engine: Arc<Engine<Durable>>,
        clock: SharedClock,
        about: About,
        switch: Arc<Switch>,
    ) -> Arc<Self> {
        let (phase, _) = watch::channel(Phase::Starting);
        Arc::new(Control {
            engine,
            clock,
            about,
            switch,
            gc: Arc::default(),
            phase,
            more_metrics: OnceLock::new(),
        })
    }

    /// Tells how far the bookie has come.
    pub(crate) fn reached(&self, phase: Phase) {
        self.phase.send_if_modified(|now| {
            let forwards = phase > *now;
            *now = phase.max(*now);
            forwards
        });
    }

    /// Shows these metrics too; only the first source counts.
    pub(crate) fn add_metrics(&self, source: MoreMetrics) {
        let _ = self.more_metrics.set(source);
    }

    /// What the collector must listen to.
    pub(crate) fn gc(&self) -> Arc<Asked> {
        self.gc.clone()
    }

    fn phase(&self) -> Phase {
        *self.phase.borrow()
    }

    fn has_failed(&self) -> bool {
        self.engine.failure().borrow().is_some()
    }

    /// Announced, and not on its way out.
    fn is_ready(&self) -> bool {
        self.phase() == Phase::Serving && !self.has_failed()
    }

    fn mode(&self) -> Mode {
        *self.engine.mode().borrow()
    }

    fn status(&self) -> ServerStatus {
        match self.is_ready() {
            false => ServerStatus::Unregistered,
            true if self.mode().is_read_only() => ServerStatus::ReadOnly,
            true => ServerStatus::Writable,
        }
    }

    /// Makes the bookie read-only for the operator, or no longer, now and after a restart; the error says what to do.
    async fn set_read_only(&self, on: bool) -> Result<Mode, String> {
        let (engine, switch) = (self.engine.clone(), self.switch.clone());
        let set = tokio::task::spawn_blocking(move || switch.set(&engine, on)).await;
        match set {
            Ok(Ok(())) => Ok(self.mode()),
            Ok(Err(error)) => {
                let dir = self.about.journal_dir.display();
                Err(format!(
                    "the bookie is read-only now, but that cannot be recorded in {dir}: {error}; repair it and ask again"
                ))
            }
            Err(_) => Err("the bookie is ending; ask again once it runs".into()),
        }
    }

    /// The figures of this moment; `None` when the runtime ends.
    async fn gauges(&self) -> Option<Gauges> {
        let (engine, status) = (self.engine.clone(), self.status());
        tokio::task::spawn_blocking(move || engine.gauges(status)).await.ok()
    }
}
