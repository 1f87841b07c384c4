//! A network that loses packets between all processes, etcd included.
//!
//! The test runs itself once more in a network namespace of its own, whose loopback drops packets at random: the rule goes
//! away with the namespace, whatever happens, and touches nobody else. That needs root, `unshare`, `ip` and `nft`.

use super::load::{self, compare, options};
use super::{Cluster, seconds};
use anyhow::{Context, Result, ensure};
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

const NAME: &str = "ledger::loss::a_ledger_goes_on_and_loses_nothing_while_a_third_of_all_packets_is_lost";
/// Set in the namespace.
const INSIDE: &str = "MAGNETAR_CHAOS_INSIDE";
const PERCENT: u32 = 30;
const SAMPLE_SECONDS: u64 = 12;
const WINDOW: usize = 50;
/// In each of these something must be acknowledged.
const PERIOD: Duration = Duration::from_secs(10);

/// MAGNETAR_CHAOS_LOSS_SECONDS=120 is the full run.
#[test]
fn a_ledger_goes_on_and_loses_nothing_while_a_third_of_all_packets_is_lost() -> Result<()> {
    if std::env::var_os(INSIDE).is_some() {
        return tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()?
            .block_on(lossy());
    }
    if let Err(reason) = permitted() {
        println!("SKIPPED chaos ledger loss: {reason}");
        return Ok(());
    }
    let setup = "ip link set lo up && exec \"$0\" --exact \"$1\" --nocapture";
    let status = Command::new("unshare")
        .args(["--net", "sh", "-c", setup])
        .arg(std::env::current_exe()?)
        .arg(NAME)
        .env(INSIDE, "1")
        .status()
        .context("run unshare")?;
    ensure!(status.success(), "in the namespace: {status}");
    Ok(())
}

fn permitted() -> Result<(), String> {
    nft().ok_or("no nft in PATH, and MAGNETAR_NFT names none")?;
    let tried = Command::new("unshare").args(["--net", "ip", "link", "set", "lo", "up"]).output();
    match tried {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => {
            Err(format!("no network namespace: {}", String::from_utf8_lossy(&output.stderr).trim()))
        }
        Err(error) => Err(format!("no network namespace: {error}")),
    }
}

fn nft() -> Option<PathBuf> {
    if let Some(path) = std::env::var_os("MAGNETAR_NFT") {
        return Some(path.into());
    }
    let dirs = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&dirs).map(|dir| dir.join("nft")).find(|path| path.is_file())
}

fn lose_packets() -> Result<()> {
    let rules = format!(
        "table inet loss {{ chain input {{ type filter hook input priority 0; numgen random mod 100 < {PERCENT} drop; }}; }}"
    );
    let status = Command::new(nft().context("nft")?).arg(rules).status().context("run nft")?;
    ensure!(status.success(), "nft: {status}");
    Ok(())
}

async fn lossy() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let span = seconds("MAGNETAR_CHAOS_LOSS_SECONDS", SAMPLE_SECONDS)?;
    let Some(cluster) = Cluster::start(dir.path(), 3, "loss")? else { return Ok(()) };
    let client = cluster.client().await?;
    let mut writer = client.create(options()).await?;
    lose_packets()?;
    let acknowledged = Arc::new(AtomicU64::new(0));
    let seen = load::write(&mut writer, WINDOW, span, PERIOD, &acknowledged).await?;
    println!(
        "chaos ledger: {PERCENT} % of all packets lost for {} s: {} entries acknowledged, in each 10 s {:?}; latency p50 {} ms, \
         p99 {} ms; longest gap {} ms",
        span.as_secs(),
        seen.acknowledged,
        seen.per_period,
        seen.latency_ms.value_at_quantile(0.5),
        seen.latency_ms.value_at_quantile(0.99),
        seen.gaps_ms.max(),
    );
    ensure!(seen.per_period.iter().all(|count| *count > 0), "a window without progress");
    compare(&writer.reader(), seen.acknowledged).await
}
