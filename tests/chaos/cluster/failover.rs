//! The owner of topics dies, or leaves in order.

use super::{Run, rounds};
use anyhow::{Result, ensure};
use magnetar_tests::cluster::{Broker, Layout};
use magnetar_tests::http::put;
use magnetar_tests::wait::holds_within;
use std::time::Duration;

/// What a stop in order may take.
const STOP_MAX: Duration = Duration::from_secs(25);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn topics_of_a_killed_broker_go_on_elsewhere_after_its_lease() -> Result<()> {
    let Some(mut run) = Run::start("kill", 20).await? else { return Ok(()) };
    spread(&run)?;
    for round in 0..rounds(2) {
        let from = run.now();
        run.cluster.brokers[round % 2].role.kill()?;
        run.all_publish(20).await;
        let disturbed = run.record_gaps(from)?;
        ensure!(disturbed > 0, "round {round}: the broker that was killed served nothing");
        run.cluster.brokers[round % 2].role.restart()?;
        run.cluster.wait_for_brokers();
        spread(&run)?;
        run.all_publish(20).await;
    }
    run.finish().await.map(drop)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn topics_of_a_broker_that_leaves_go_on_at_once() -> Result<()> {
    let Some(mut run) = Run::start_as("leave", &nobody_dies(), 20).await? else { return Ok(()) };
    for round in 0..rounds(2) {
        let from = run.now();
        let status = run.cluster.brokers[round % 2].role.terminate(STOP_MAX)?;
        ensure!(status.success(), "exit {status}");
        run.all_publish(20).await;
        run.record_gaps(from)?;
        run.cluster.brokers[round % 2].role.restart()?;
        run.cluster.wait_for_brokers();
        spread(&run)?;
        run.all_publish(20).await;
    }
    run.finish().await.map(drop)
}

/// Gives half of the bundles to the broker that has none, as a balanced cluster would.
fn spread(run: &Run) -> Result<()> {
    let brokers = &run.cluster.brokers;
    let (from, to) = match (brokers[0].bundles()?.len(), brokers[1].bundles()?.len()) {
        (_, 0) => (&brokers[0], &brokers[1]),
        (0, _) => (&brokers[1], &brokers[0]),
        _ => return Ok(()),
    };
    let bundles = from.bundles()?;
    bundles.iter().take(bundles.len() / 2).try_for_each(|bundle| unload(from, bundle, to))
}

/// Two brokers that keep their leases on a busy machine: no kill waits for their end.
pub(super) fn nobody_dies() -> Layout {
    Layout { broker_flags: &["--lease", "15"], ..Layout::local(2) }
}

/// Moves a bundle (`tenant/namespace/range`).
pub(super) fn unload(from: &Broker, bundle: &str, to: &Broker) -> Result<()> {
    let url = format!("{}/admin/v2/namespaces/{bundle}/unload?destinationBroker={}", from.http, to.id());
    let mut answer = put(&url, None)?;
    // One of the two was too busy to keep its lease; it takes a new one.
    holds_within(Duration::from_secs(60), || {
        if matches!(answer.status, 412 | 503)
            && let Ok(again) = put(&url, None)
        {
            answer = again;
        }
        !matches!(answer.status, 412 | 503)
    });
    // A conflict: the other broker was too busy to take it in time. It is free then, until somebody asks for a topic of it. A
    // redirect: it is there already.
    ensure!(
        answer.status < 400 || answer.status == 409,
        "unload {bundle}: {} {}",
        answer.status,
        answer.body
    );
    Ok(())
}
