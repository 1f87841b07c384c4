//! How long a ledger is without an owner when its writer has died.

use super::load::{compare, options, payload};
use super::{Cluster, PATIENCE};
use anyhow::{Result, bail};
use magnetar_common::clock::{Clock, SystemClock};
use magnetar_ledger::{Event, Writer};

const ENTRIES: u64 = 100_000;
const WINDOW: u64 = 2_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_open_ledger_with_a_hundred_thousand_entries_is_recovered_at_once() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let Some(cluster) = Cluster::start(dir.path(), 3, "recovery")? else { return Ok(()) };
    let client = cluster.client().await?;
    let mut writer = client.create(options()).await?;
    let mut sent = 0;
    while sent < ENTRIES {
        let until = (sent + WINDOW).min(ENTRIES);
        while sent < until {
            writer.append(payload(sent))?;
            sent += 1;
        }
        confirmed(&mut writer, until - WINDOW.min(until) / 2).await?;
    }
    // The last ones are in flight when the writer goes.
    let acknowledged = writer.last_add_confirmed().map_or(0, |last| last.0 + 1);
    let id = writer.id();
    drop(writer);
    let other = cluster.client().await?;
    let clock = SystemClock::default();
    let reader = other.recover(id, b"").await?;
    let took = clock.now();
    println!(
        "chaos ledger: {acknowledged} acknowledged entries and what was in flight recovered in {} ms, up to {:?}",
        took.as_millis(),
        reader.last_entry()
    );
    compare(&reader, acknowledged).await
}

async fn confirmed(writer: &mut Writer, count: u64) -> Result<()> {
    loop {
        match tokio::time::timeout(PATIENCE, writer.next()).await? {
            Event::Confirmed { last } if last.0 + 1 >= count => return Ok(()),
            Event::Confirmed { .. } => {}
            Event::Failed(error) => bail!("{error}"),
        }
    }
}
