//! The signals that end a process in an orderly way.
//!
//! Called by: every command that runs until it is told to stop.
//! Must never know: what stopping means.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// SIGTERM and SIGINT, which from the creation of this value on no longer kill the process by themselves.
pub(crate) struct StopSignals {
    terminate: Signal,
    interrupt: Signal,
}

impl StopSignals {
    /// Takes the signals over. Do it before telling anybody that the process is ready: who sees that may send one at once.
    pub(crate) fn install() -> io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    /// Resolves at the next signal; one that came before counts. Cancel-safe.
    pub(crate) async fn received(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }

    /// From now on a signal, sent by somebody who does not want to wait, ends the process at once.
    pub(crate) fn end_at_the_next(mut self) {
        tokio::spawn(async move {
            self.received().await;
            eprintln!("magnetar: stopped by a second signal before everything was flushed");
            std::process::exit(1);
        });
    }
}
