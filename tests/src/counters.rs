//! A topic's counters beside what its log says, byte for byte, once nothing happens to it any more.
//!
//! Called by every suite that publishes and acknowledges, at its end. The log is read back as a reader sees it; what is
//! acknowledged, the suite knows.

use crate::{checker, http};
use anyhow::{Context, Result, bail, ensure};
use magnetar_proto::pulsar::entry;
use magnetar_proto::pulsar::message::summarize_entry;
use serde_json::Value;
use std::time::Duration;

/// The last acknowledgements may be on their way that long.
const SETTLED_MAX: Duration = Duration::from_secs(20);
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// What a suite knows of one subscription.
pub struct Known<'a> {
    /// Its name.
    pub subscription: &'a str,
    /// Whether an entry, told by its payload, is not acknowledged.
    pub is_left: &'a dyn Fn(&[u8]) -> bool,
    /// Messages that connected consumers hold unacknowledged, where the broker counts them.
    pub unacked: u64,
}

impl<'a> Known<'a> {
    /// Everything that was published is acknowledged.
    pub fn done(subscription: &'a str) -> Self {
        Self { subscription, is_left: &|_| false, unacked: 0 }
    }
}

/// What the log and a suite's knowledge of one subscription amount to.
#[derive(Debug, Default, PartialEq)]
struct Backlog {
    entries: u64,
    /// From the first entry left to the end: what lies after the mark-delete position.
    bytes: u64,
    /// Of the first entry left; 0 if there is none.
    earliest_publish_time: u64,
    unacked: u64,
}

#[derive(Debug, Default, PartialEq)]
struct Counters {
    entries: u64,
    bytes: u64,
    /// In the order of what is known.
    backlogs: Vec<Backlog>,
    /// Of the subscription that is farthest behind.
    backlog_bytes: u64,
}

/// Waits until the counters of `topic` are those of its log, and fails with both if they do not become so. `known` are all
/// its subscriptions.
///
/// # Errors
/// Also when the topic has a subscription that is not known.
pub async fn check(address: &str, http_url: &str, topic: &str, known: &[Known<'_>]) -> Result<()> {
    let expected = of_log(address, topic, known).await.with_context(|| format!("read {topic} back"))?;
    for _ in 0..SETTLED_MAX.as_millis() / LOOK_EVERY.as_millis() {
        // The reader of the log itself may still be there.
        if of_broker(http_url, topic, known).is_ok_and(|found| found == expected) {
            return Ok(());
        }
        crate::wait::pause(LOOK_EVERY);
    }
    let found = of_broker(http_url, topic, known)?;
    if found == expected {
        return Ok(());
    }
    bail!("{topic}: the broker counts\n{found:?}, but its log and the clients amount to\n{expected:?}")
}

/// Like [`check`], for a caller without a runtime.
pub fn check_blocking(address: &str, http_url: &str, topic: &str, known: &[Known<'_>]) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(check(address, http_url, topic, known))
}

async fn of_log(address: &str, topic: &str, known: &[Known<'_>]) -> Result<Counters> {
    let mut found = Counters::default();
    found.backlogs.extend(known.iter().map(|known| Backlog { unacked: known.unacked, ..Backlog::default() }));
    checker::read_each(address, topic, |_, entry| {
        let (summary, parts) = (summarize_entry(entry)?, entry::split(entry)?);
        found.entries += 1;
        found.bytes += entry.len() as u64;
        for (backlog, known) in found.backlogs.iter_mut().zip(known) {
            if (known.is_left)(&parts.payload) {
                if backlog.entries == 0 {
                    backlog.earliest_publish_time = summary.publish_time;
                }
                backlog.entries += 1;
            }
            if backlog.entries > 0 {
                backlog.bytes += entry.len() as u64;
            }
        }
        Ok(())
    })
    .await?;
    found.backlog_bytes = found.backlogs.iter().map(|backlog| backlog.bytes).max().unwrap_or(0);
    Ok(found)
}

fn of_broker(http_url: &str, topic: &str, known: &[Known<'_>]) -> Result<Counters> {
    let path = format!("{http_url}/admin/v2/{}", topic.replace("://", "/"));
    let flags = "getPreciseBacklog=true&subscriptionBacklogSize=true&getEarliestTimeInBacklog=true";
    let stats = http::get(&format!("{path}/stats?{flags}"))?.json()?;
    let internal = http::get(&format!("{path}/internalStats"))?.json()?;
    let subscriptions = stats["subscriptions"].as_object().context("subscriptions")?;
    for name in subscriptions.keys() {
        ensure!(
            known.iter().any(|known| known.subscription == name),
            "{topic}: an unknown subscription {name}"
        );
    }
    let bytes = number(&stats, "storageSize")?;
    ensure!(number(&internal, "totalSize")? == bytes, "{topic}: storageSize {bytes} is not {internal}");
    let backlog = |known: &Known<'_>| {
        let of = subscriptions.get(known.subscription).context("the subscription is gone")?;
        Ok(Backlog {
            entries: number(of, "msgBacklog")?,
            bytes: number(of, "backlogSize")?,
            earliest_publish_time: number(of, "earliestMsgPublishTimeInBacklog")?,
            unacked: number(of, "unackedMessages")?,
        })
    };
    Ok(Counters {
        entries: number(&internal, "numberOfEntries")?,
        bytes,
        backlogs: known.iter().map(backlog).collect::<Result<_>>()?,
        backlog_bytes: number(&stats, "backlogSize")?,
    })
}

fn number(of: &Value, name: &str) -> Result<u64> {
    of[name].as_u64().with_context(|| format!("{name} in {of}"))
}
