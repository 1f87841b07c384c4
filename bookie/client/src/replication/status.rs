//! What the metadata store tells of re-replication, for those who show it.

use super::drain;
use super::queue::Queue;
use magnetar_common::metadata::{MetadataError, SharedMetadata};
use magnetar_proto::bookkeeper::BookieId;
use magnetar_proto::bookkeeper::underreplication::{Mark, leader_path};
use magnetar_proto::ids::LedgerId;
use std::collections::BTreeSet;
use std::time::Duration;

/// The state of the whole cluster at about one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// Who is the auditor; `None`: nobody now.
    pub auditor: Option<String>,
    /// An operator has stopped all re-replication.
    pub disabled: bool,
    /// How long a bookie may be away, where the cluster says so.
    pub delay: Option<Duration>,
    /// Bookies to be emptied.
    pub draining: BTreeSet<BookieId>,
    /// Ledgers that lack copies, and what is known of each.
    pub marked: Vec<(LedgerId, Mark)>,
}

/// Reads it.
pub async fn status(store: &SharedMetadata) -> Result<Status, MetadataError> {
    let queue = Queue::new(store.clone());
    let auditor = store.get(&leader_path()).await?;
    let auditor = auditor.map(|value| String::from_utf8_lossy(&value.bytes).trim_matches('"').to_owned());
    let mut marked = Vec::new();
    for ledger in queue.all().await? {
        // Repaired since.
        let Some((mark, _)) = queue.get(ledger).await? else { continue };
        marked.push((ledger, mark));
    }
    Ok(Status {
        auditor,
        disabled: queue.is_disabled().await?,
        delay: queue.delay().await?,
        draining: drain::draining(store).await?,
        marked,
    })
}
