//! Work beside serving: tasks that end together, and how they are held back.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use magnetar_common::clock::SharedClock;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::engine::Engine;
use crate::error::FatalError;

/// The tasks of one bookie.
#[derive(Debug)]
pub(crate) struct Background {
    stop: watch::Sender<bool>,
    tasks: Vec<JoinHandle<()>>,
}

/// Tells a task that it must end.
#[derive(Clone, Debug)]
pub(crate) struct Stop(watch::Receiver<bool>);

impl Background {
    pub(crate) fn new() -> Self {
        Background { stop: watch::channel(false).0, tasks: Vec::new() }
    }

    pub(crate) fn stop(&self) -> Stop {
        Stop(self.stop.subscribe())
    }

    /// Starts a task, which must end soon after its [`Stop`].
    pub(crate) fn spawn(&mut self, task: impl Future<Output = ()> + Send + 'static) {
        self.tasks.push(tokio::spawn(task));
    }

    /// Ends all tasks and waits for them: afterwards none of them touches a file.
    pub(crate) async fn end(self) {
        self.stop.send_replace(true);
        for task in self.tasks {
            // A panic of the task has been reported by the panic hook.
            let _ = task.await;
        }
    }

    /// Ends all tasks wherever they are, as a crash does.
    pub(crate) fn abort(&self) {
        self.stop.send_replace(true);
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

impl Stop {
    pub(crate) fn requested(&self) -> bool {
        *self.0.borrow()
    }

    /// Resolves when the task must end. Cancel-safe.
    pub(crate) async fn wait(&self) {
        // The sender is dropped only with the bookie.
        let _ = self.0.clone().wait_for(|stop| *stop).await;
    }
}

/// Time lost by waking up late that may be made up for.
const CATCH_UP_MAX: Duration = Duration::from_millis(200);

/// A rate in bytes a second.
pub(crate) struct Pace {
    clock: SharedClock,
    bytes_per_second: u64,
    ready_at: Duration,
}

impl Pace {
    /// `bytes_per_second` is at least 1.
    pub(crate) fn new(clock: SharedClock, bytes_per_second: u64) -> Self {
        let ready_at = clock.now();
        Pace { clock, bytes_per_second, ready_at }
    }

    /// How much to do between two looks at the clock, so that the rate is kept also over short times.
    pub(crate) fn step(&self, bytes_max: u64) -> usize {
        bytes_max.min(self.bytes_per_second.div_ceil(10)) as usize
    }

    /// Waits until `bytes` more were allowed. Ends at once when stopped.
    pub(crate) async fn took(&mut self, bytes: u64, stop: &Stop) {
        let pause = Duration::from_secs_f64(bytes as f64 / self.bytes_per_second as f64);
        let now = self.clock.now();
        self.ready_at = self.ready_at.max(now.saturating_sub(CATCH_UP_MAX)) + pause;
        tokio::select! {
            () = self.clock.sleep(self.ready_at.saturating_sub(now)) => {}
            () = stop.wait() => {}
        }
    }
}

/// Runs a step that blocks. An error means that the runtime is ending.
pub(crate) async fn blocking<T: Send + 'static, R: Send + 'static>(
    engine: &Arc<Engine<T>>,
    step: impl FnOnce(&Engine<T>) -> R + Send + 'static,
) -> Result<R, FatalError> {
    let engine = engine.clone();
    tokio::task::spawn_blocking(move || step(&engine)).await.map_err(|_| FatalError::Stopped)
}
