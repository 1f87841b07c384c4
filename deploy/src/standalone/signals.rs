//! The signals that end a process in an orderly way.
//!
//! Called by: every command that runs until it is told to stop.
//! Must never know: what stopping means.

use tokio::signal::unix::{SignalKind, signal};

/// Resolves at the first SIGTERM or SIGINT. From the first call on these no longer kill the process by themselves; a second
/// one, sent by somebody who does not want to wait, does.
pub(crate) async fn terminated() {
    let (Ok(mut terminate), Ok(mut interrupt)) =
        (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        // Without handlers the default action stays: the process is killed, which is a stop too.
        return std::future::pending().await;
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        eprintln!("magnetar: stopped by a second signal before everything was flushed");
        std::process::exit(1);
    });
}
