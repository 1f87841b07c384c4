//! The marks of under-replicated ledgers in the metadata store, shared with Apache's auditors and workers.
//!
//! A mark is removed only at the version at which its ledger was found complete: who marks it meanwhile is not unheard.

use magnetar_common::metadata::{Expect, LeaseId, MetadataError, SharedMetadata, Version, Watch};
use magnetar_proto::bookkeeper::BookieId;
use magnetar_proto::bookkeeper::underreplication::{self as layout, Mark};
use magnetar_proto::ids::LedgerId;
use std::collections::BTreeSet;
use std::time::Duration;

/// Marks read at once.
const PAGE: usize = 500;

/// See the module. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Queue {
    store: SharedMetadata,
}

impl Queue {
    pub(crate) fn new(store: SharedMetadata) -> Self {
        Self { store }
    }

    /// Writes what Apache's tools look for before they use the queue.
    pub(crate) async fn prepare(&self) -> Result<(), MetadataError> {
        match self.store.put(&layout::layout_path(), layout::LAYOUT.into(), Expect::Missing).await {
            Ok(_) | Err(MetadataError::Conflict { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Whether an operator has stopped all re-replication.
    pub(crate) async fn is_disabled(&self) -> Result<bool, MetadataError> {
        Ok(self.store.get(&layout::disable_path()).await?.is_some())
    }

    /// How long a bookie may be away, where the cluster says so; it wins over what processes are started with.
    pub(crate) async fn delay(&self) -> Result<Option<Duration>, MetadataError> {
        let value = self.store.get(&layout::delay_path()).await?;
        let seconds = value.and_then(|value| std::str::from_utf8(&value.bytes).ok()?.trim().parse().ok());
        Ok(seconds.map(Duration::from_secs))
    }

    /// Notes that these bookies may lack copies of a ledger. Whether that is news. A `renewed` mark is written in any case:
    /// whoever has begun to repair what it said before must not remove it.
    pub(crate) async fn mark(
        &self,
        ledger: LedgerId,
        replicas: &BTreeSet<BookieId>,
        renewed: bool,
        unix_ms: u64,
    ) -> Result<bool, MetadataError> {
        let path = layout::mark_path(ledger);
        loop {
            let (mut mark, expect) = match self.store.get(&path).await? {
                Some(value) => (decode(&value.bytes), Expect::Version(value.version)),
                None => {
                    let ctime_ms = i64::try_from(unix_ms).ok();
                    (Mark { ctime_ms, ..Mark::default() }, Expect::Missing)
                }
            };
            let before = mark.replicas.len();
            mark.replicas.extend(replicas.iter().map(|replica| replica.as_str().to_owned()));
            let is_news = mark.replicas.len() > before || expect == Expect::Missing;
            if !is_news && !renewed {
                return Ok(false);
            }
            match self.store.put(&path, mark.encode().into(), expect).await {
                Ok(_) => return Ok(is_news),
                Err(MetadataError::Conflict { .. }) => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// A ledger's mark.
    pub(crate) async fn get(&self, ledger: LedgerId) -> Result<Option<(Mark, Version)>, MetadataError> {
        let value = self.store.get(&layout::mark_path(ledger)).await?;
        Ok(value.map(|value| (decode(&value.bytes), value.version)))
    }

    /// Every marked ledger. The list is read in pages; what is marked meanwhile may be missing.
    pub(crate) async fn all(&self) -> Result<BTreeSet<LedgerId>, MetadataError> {
        let prefix = format!("{}/", layout::marks_path());
        let (mut marked, mut after) = (BTreeSet::new(), None);
        loop {
            let page = self.store.scan(&prefix, after.as_deref(), PAGE).await?;
            marked.extend(page.iter().filter_map(|(key, _)| layout::parse_mark_path(key)));
            match page.into_iter().last() {
                Some((last, _)) => after = Some(last),
                None => return Ok(marked),
            }
        }
    }

    /// Removes a mark that was read at `version`. False: it has been marked again since, or removed by somebody else.
    pub(crate) async fn unmark(&self, ledger: LedgerId, version: Version) -> Result<bool, MetadataError> {
        match self.store.delete(&layout::mark_path(ledger), Expect::Version(version)).await {
            Ok(()) => Ok(true),
            Err(MetadataError::Conflict { .. } | MetadataError::NotFound { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Keeps others from working on a ledger for as long as the lease lives. False: somebody else does. What keeps copies
    /// safe is not this but that records change by compare-and-set only.
    pub(crate) async fn lock(
        &self,
        ledger: LedgerId,
        me: &BookieId,
        lease: LeaseId,
    ) -> Result<bool, MetadataError> {
        let (path, record) = (layout::lock_path(ledger), layout::encode_lock(me));
        match self.store.put_ephemeral(&path, record.into(), Expect::Missing, lease).await {
            Ok(_) => Ok(true),
            Err(MetadataError::Conflict { .. }) => Ok(self.holds(ledger, lease).await?),
            Err(error) => Err(error),
        }
    }

    /// Lets others work on a ledger. Only removes a lock of this lease.
    pub(crate) async fn unlock(&self, ledger: LedgerId, lease: LeaseId) -> Result<(), MetadataError> {
        if !self.holds(ledger, lease).await? {
            return Ok(());
        }
        match self.store.delete(&layout::lock_path(ledger), Expect::Any).await {
            Err(MetadataError::NotFound { .. }) => Ok(()),
            other => other,
        }
    }

    async fn holds(&self, ledger: LedgerId, lease: LeaseId) -> Result<bool, MetadataError> {
        let value = self.store.get(&layout::lock_path(ledger)).await?;
        Ok(value.is_some_and(|value| value.lease == Some(lease)))
    }

    /// Tells of new marks, locks that end, and switches of operators.
    pub(crate) fn watch(&self) -> Watch {
        self.store.watch(&format!("{}/", layout::base()))
    }
}

fn decode(bytes: &[u8]) -> Mark {
    Mark::decode(&String::from_utf8_lossy(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use magnetar_common::metadata::{MemoryStore, MetadataStore};
    use std::sync::Arc;

    const LEDGER: LedgerId = LedgerId(5);

    fn ids(names: &[&str]) -> BTreeSet<BookieId> {
        names.iter().map(|name| BookieId::new(name).expect("an id")).collect()
    }

    #[tokio::test]
    async fn a_mark_that_was_renewed_is_not_removed() {
        let queue = Queue::new(Arc::new(MemoryStore::new()));
        assert!(queue.mark(LEDGER, &ids(&["a"]), false, 1).await.expect("marked"));
        let (_, first) = queue.get(LEDGER).await.expect("read").expect("a mark");
        assert!(!queue.mark(LEDGER, &ids(&["a"]), false, 2).await.expect("marked"), "no news");
        let (_, version) = queue.get(LEDGER).await.expect("read").expect("a mark");
        assert_eq!(version, first, "not written again");
        assert!(!queue.mark(LEDGER, &ids(&["a"]), true, 2).await.expect("marked"), "no news");
        assert!(!queue.unmark(LEDGER, first).await.expect("refused"), "it may be lost anew");
        let (mark, version) = queue.get(LEDGER).await.expect("read").expect("a mark");
        assert_eq!((mark.replicas.len(), mark.ctime_ms), (1, Some(1)));
        assert!(queue.mark(LEDGER, &ids(&["b"]), false, 3).await.expect("marked"));
        assert!(!queue.unmark(LEDGER, version).await.expect("refused"));
        let (mark, version) = queue.get(LEDGER).await.expect("read").expect("a mark");
        assert_eq!(mark.replicas.into_iter().collect::<Vec<_>>(), ["a", "b"]);
        assert!(queue.unmark(LEDGER, version).await.expect("removed"));
        assert_eq!(queue.all().await.expect("listed"), BTreeSet::new());
    }

    #[tokio::test]
    async fn a_lock_is_exclusive_and_ends_with_its_lease() {
        let store = MemoryStore::new();
        let queue = Queue::new(Arc::new(store.clone()));
        let one = store.grant_lease(Duration::from_secs(9)).await.expect("a lease");
        let other = store.grant_lease(Duration::from_secs(9)).await.expect("a lease");
        let me = BookieId::new("a:1").expect("an id");
        assert!(queue.lock(LEDGER, &me, one.id()).await.expect("locked"));
        assert!(queue.lock(LEDGER, &me, one.id()).await.expect("ours already"));
        assert!(!queue.lock(LEDGER, &me, other.id()).await.expect("asked"));
        queue.unlock(LEDGER, other.id()).await.expect("nothing");
        assert!(!queue.lock(LEDGER, &me, other.id()).await.expect("asked"), "not theirs to unlock");
        store.expire(one.id());
        assert!(queue.lock(LEDGER, &me, other.id()).await.expect("locked"));
        queue.unlock(LEDGER, other.id()).await.expect("unlocked");
        assert_eq!(store.get(&layout::lock_path(LEDGER)).await, Ok(None));
    }

    #[tokio::test]
    async fn a_delay_is_seconds_in_digits() {
        let store: SharedMetadata = Arc::new(MemoryStore::new());
        let queue = Queue::new(store.clone());
        assert_eq!(queue.delay().await, Ok(None));
        store.put(&layout::delay_path(), "90".into(), Expect::Any).await.expect("put");
        assert_eq!(queue.delay().await, Ok(Some(Duration::from_secs(90))));
    }
}
