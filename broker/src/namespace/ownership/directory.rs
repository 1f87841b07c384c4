//! Which brokers there are: their registrations, followed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use magnetar_common::clock::SharedClock;
use magnetar_common::layout;
use magnetar_common::metadata::{MetadataError, SharedMetadata, Watch};
use tokio::sync::watch;

use super::record::BrokerRecord;

/// Brokers listed; a cluster has some hundred at most.
const BROKERS_MAX: usize = 10_000;
/// After a failed listing.
const RETRY: Duration = Duration::from_secs(1);

/// The brokers by id.
pub type Brokers = BTreeMap<String, BrokerRecord>;

/// Follows the registrations. Clones share one background task, which ends with the last clone.
#[derive(Clone)]
pub struct Directory {
    brokers: watch::Receiver<Arc<Brokers>>,
}

impl Directory {
    /// Lists the brokers and keeps following them.
    pub async fn follow(metadata: SharedMetadata, clock: SharedClock) -> Result<Self, MetadataError> {
        let watch = metadata.watch(layout::BROKERS);
        let (sender, brokers) = watch::channel(Arc::new(list(&metadata).await?));
        tokio::spawn(keep_following(metadata, clock, watch, sender));
        Ok(Self { brokers })
    }

    /// The brokers as of now.
    pub fn now(&self) -> Arc<Brokers> {
        self.brokers.borrow().clone()
    }
}

async fn keep_following(
    metadata: SharedMetadata,
    clock: SharedClock,
    mut watch: Watch,
    sender: watch::Sender<Arc<Brokers>>,
) {
    let mut stale = false;
    loop {
        let wait = async { if stale { clock.sleep(RETRY).await } else { std::future::pending().await } };
        tokio::select! {
            event = watch.next() => if event.is_none() { return },
            () = wait => {}
            () = sender.closed() => return,
        }
        // The list is short, and listing again is right for every kind of event; what has gathered shares one.
        while watch.next().now_or_never().flatten().is_some() {}
        let listed = list(&metadata).await;
        stale = listed.is_err();
        match listed {
            Ok(brokers) => drop(sender.send_replace(Arc::new(brokers))),
            Err(error) => tracing::warn!(%error, "cannot list the brokers; keeping the last list"),
        }
    }
}

async fn list(metadata: &SharedMetadata) -> Result<Brokers, MetadataError> {
    let prefix = format!("{}/", layout::BROKERS);
    let found = metadata.scan(&prefix, None, BROKERS_MAX).await?;
    let parse = |(key, value): &(String, magnetar_common::metadata::Value)| {
        let id = key.strip_prefix(&prefix)?;
        match serde_json::from_slice::<BrokerRecord>(&value.bytes) {
            Ok(record) => Some((id.to_owned(), BrokerRecord { broker_id: id.to_owned(), ..record })),
            Err(error) => {
                tracing::warn!(key, %error, "a registration that cannot be understood; ignoring it");
                None
            }
        }
    };
    Ok(found.iter().filter_map(parse).collect())
}
