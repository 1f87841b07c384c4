//! Draining: read-only, and everything accepted so far in entry logs.

use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{self, BoxStream, StreamExt};
use tokio::sync::mpsc;
use tonic::Status;

use crate::control::Control;
use crate::control_api::DrainProgress;

/// How often the client hears of it.
const REPORT: Duration = Duration::from_secs(1);

/// What the client hears. Dropping it stops the reports, not the flush.
pub(super) fn start(control: Arc<Control>) -> BoxStream<'static, Result<DrainProgress, Status>> {
    let (send, reports) = mpsc::channel(1);
    tokio::spawn(run(control, send));
    stream::unfold(reports, |mut reports| async { Some((reports.recv().await?, reports)) }).boxed()
}

async fn run(control: Arc<Control>, reports: mpsc::Sender<Result<DrainProgress, Status>>) {
    let engine = control.engine.clone();
    let mut flush = tokio::task::spawn_blocking(move || {
        let flushed = engine.flush_now();
        if let Err(error) = &flushed {
            engine.fail(error.clone());
        }
        flushed
    });
    loop {
        if reports.send(report(&control, false).await).await.is_err() {
            return;
        }
        let flushed = tokio::select! {
            flushed = &mut flush => flushed,
            () = control.clock.sleep(REPORT) => continue,
        };
        let last = match flushed {
            Ok(Ok(true)) => report(&control, true).await,
            Ok(Ok(false)) => Err(Status::resource_exhausted(
                "the disks are full, so the journal still holds what was accepted last; free space, then drain again",
            )),
            Ok(Err(error)) => Err(Status::internal(format!(
                "the bookie failed and ends: {error}; nothing is lost, start it again"
            ))),
            Err(_) => Err(Status::unavailable("the bookie is ending; drain again once it runs")),
        };
        // A client that is gone misses only the news.
        let _ = reports.send(last).await;
        return;
    }
}

async fn report(control: &Control, done: bool) -> Result<DrainProgress, Status> {
    let engine = control.engine.clone();
    let held = tokio::task::spawn_blocking(move || engine.not_in_logs()).await;
    let (write_cache_bytes, write_cache_entries, journal_bytes) =
        held.map_err(|_| Status::unavailable("the bookie is ending; drain again once it runs"))?;
    Ok(DrainProgress { done, write_cache_bytes, write_cache_entries, journal_bytes })
}
