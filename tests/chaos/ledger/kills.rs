//! SIGKILL of one bookie after the other, in the middle of writing.

use super::load::{self, Load, compare, options};
use super::{Cluster, seconds};
use anyhow::{Result, ensure};
use magnetar_common::clock::{Clock, SystemClock};
use magnetar_tests::role::Role;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

const BOOKIES: usize = 4;
/// About 60 MB/s for the disk that the bookies share. The writer, five processes and a start every 5 s take two processors
/// half of their time: with twice as many the gaps tell of processors that are busy.
const LOAD: Load = Load { window: 4096, per_second: Some(10_000) };
/// From one kill to the next.
const KILL_EVERY: Duration = Duration::from_secs(5);
/// So long a bookie stays away.
const AWAY: Duration = Duration::from_secs(2);
const SAMPLE_SECONDS: u64 = 15;
/// What p99 of the gaps has to stay below in a full run on an idle machine; a sample on a busy one is only printed.
const GAP_MS_MAX: u64 = 200;

/// Gives the bookies back, all of them running, and how often one was killed.
async fn kill_one_after_the_other(mut bookies: Vec<Role>, span: Duration) -> Result<(Vec<Role>, usize)> {
    let clock = SystemClock::default();
    let mut kills = 0;
    for restart_at in (1..).map(|number| KILL_EVERY * number).take_while(|at| *at <= span) {
        clock.sleep((restart_at - AWAY).saturating_sub(clock.now())).await;
        let victim = &mut bookies[kills % BOOKIES];
        tokio::task::block_in_place(|| victim.kill())?;
        kills += 1;
        clock.sleep(restart_at.saturating_sub(clock.now())).await;
        tokio::task::block_in_place(|| victim.restart())?;
    }
    Ok((bookies, kills))
}

/// MAGNETAR_CHAOS_KILL_SECONDS=300 is the full run, and asserts the gap.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ledger_loses_nothing_while_one_bookie_after_the_other_is_killed() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let span = seconds("MAGNETAR_CHAOS_KILL_SECONDS", SAMPLE_SECONDS)?;
    let Some(mut cluster) = Cluster::start(dir.path(), BOOKIES, "kills")? else { return Ok(()) };
    let client = cluster.client().await?;
    let mut writer = client.create(options()).await?;
    let acknowledged = Arc::new(AtomicU64::new(0));
    // A task of its own: whoever starts a bookie waits for it, and the writer must not.
    let killing = tokio::spawn(kill_one_after_the_other(std::mem::take(&mut cluster.bookies), span));
    let seen = load::write(&mut writer, LOAD, span, KILL_EVERY, &acknowledged).await?;
    let killed;
    (cluster.bookies, killed) = killing.await??;
    let segments = client.metadata(writer.id()).await?.segments.len();
    println!(
        "chaos ledger: {killed} kills in {} s, {segments} segments, {} entries acknowledged ({}/s); longest gap of each 5 s: \
         p50 {} ms, p99 {} ms; latency p50 {} ms, p99 {} ms, p99.9 {} ms",
        span.as_secs(),
        seen.acknowledged,
        seen.acknowledged / span.as_secs().max(1),
        seen.gaps_ms.value_at_quantile(0.5),
        seen.gaps_ms.value_at_quantile(0.99),
        seen.latency_ms.value_at_quantile(0.5),
        seen.latency_ms.value_at_quantile(0.99),
        seen.latency_ms.value_at_quantile(0.999),
    );
    for (at, gap) in &seen.long_gaps {
        println!(
            "chaos ledger: {:.1} s after the start: no acknowledgement for {} ms",
            at.as_secs_f64(),
            gap.as_millis()
        );
    }
    compare(&writer.reader(), seen.acknowledged).await?;
    let other = cluster.client().await?;
    load::recover_and_compare(&other, writer, seen.acknowledged).await?;
    ensure!(killed > 0 && seen.acknowledged > 0, "nothing happened");
    ensure!(segments > 1, "no bookie was replaced");
    if span > Duration::from_secs(SAMPLE_SECONDS) {
        let p99 = seen.gaps_ms.value_at_quantile(0.99);
        ensure!(p99 <= GAP_MS_MAX, "the gaps' p99 is {p99} ms, more than {GAP_MS_MAX} ms");
    }
    Ok(())
}
