//! A namespace's topics as they come and go: one list for all who watch the namespace, read anew when the store changes.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use magnetar_common::clock::SharedClock;
use magnetar_common::layout;
use magnetar_common::metadata::{Watch, WatchEvent};
use magnetar_common::topic_name::{NamespaceName, TopicName};
use tokio::sync::watch;

use super::error::StoreError;
use super::store::NamespaceStore;

/// After a failed read. Until then watchers keep the list that they have: what cannot be read is not gone.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// The namespaces that somebody watches. A task and two watches of the store for each, while anybody does.
pub struct TopicFeeds {
    store: NamespaceStore,
    clock: SharedClock,
    feeds: Mutex<HashMap<NamespaceName, watch::Sender<Listed>>>,
}

#[derive(Clone)]
enum Listed {
    Pending,
    /// Never follows a list.
    Failed(StoreError),
    Topics(Arc<Vec<TopicName>>),
}

/// One watcher's view of a namespace. Stays up to date until dropped.
pub struct TopicFeed {
    listed: watch::Receiver<Listed>,
}

impl TopicFeed {
    /// The newest list: every persistent topic, sorted. [`TopicFeed::changed`] will not tell of it again.
    pub fn topics(&mut self) -> Arc<Vec<TopicName>> {
        match &*self.listed.borrow_and_update() {
            Listed::Topics(topics) => Arc::clone(topics),
            Listed::Pending | Listed::Failed(_) => Arc::default(),
        }
    }

    /// Resolves when there is a newer list; lists in between are passed over. False: the store has ended. Cancel-safe.
    pub async fn changed(&mut self) -> bool {
        self.listed.changed().await.is_ok()
    }
}

impl TopicFeeds {
    pub fn new(store: NamespaceStore, clock: SharedClock) -> Arc<Self> {
        Arc::new(TopicFeeds { store, clock, feeds: Mutex::default() })
    }

    /// The topics of a namespace from now on; none, if there is no such namespace yet. Cancel-safe.
    pub async fn follow(self: &Arc<Self>, namespace: &NamespaceName) -> Result<TopicFeed, StoreError> {
        let mut listed = self.subscribe(namespace);
        let known = listed.wait_for(|listed| !matches!(listed, Listed::Pending)).await;
        if let Listed::Failed(error) = &*known.map_err(|_| StoreError::Metadata("it was closed".into()))? {
            return Err(error.clone());
        }
        Ok(TopicFeed { listed })
    }

    fn subscribe(self: &Arc<Self>, namespace: &NamespaceName) -> watch::Receiver<Listed> {
        let mut feeds = self.feeds();
        if let Some(feed) = feeds.get(namespace) {
            return feed.subscribe();
        }
        let (feed, listed) = watch::channel(Listed::Pending);
        feeds.insert(namespace.clone(), feed.clone());
        let task = Task {
            // Watched before it is listed: no change falls in between.
            stored: Directory::of(&self.store, layout::managed_ledgers(namespace)),
            partitioned: Directory::of(&self.store, layout::partitioned_topics(namespace, "persistent")),
            feeds: Arc::clone(self),
            namespace: namespace.clone(),
            feed,
        };
        tokio::spawn(task.run());
        listed
    }

    /// Namespaces that are watched.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.feeds().len()
    }

    /// Forgets a feed that nobody listens to any more. False: somebody came in the last moment.
    fn forget_unheard(&self, namespace: &NamespaceName) -> bool {
        let mut feeds = self.feeds();
        let unheard = feeds.get(namespace).is_none_or(|feed| feed.receiver_count() == 0);
        if unheard {
            feeds.remove(namespace);
        }
        unheard
    }

    fn feeds(&self) -> MutexGuard<'_, HashMap<NamespaceName, watch::Sender<Listed>>> {
        self.feeds.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Changes of the records directly below a key.
struct Directory {
    prefix: String,
    watch: Watch,
}

impl Directory {
    fn of(store: &NamespaceStore, key: String) -> Self {
        let prefix = format!("{key}/");
        let watch = store.records.metadata.watch(&prefix);
        Directory { prefix, watch }
    }

    /// The next event that may have changed the list; `None` when the store has gone. Cursors lie below the records and
    /// change nothing; `written`: so do records that are written again.
    async fn next(&mut self, written: bool) -> Option<()> {
        loop {
            let (key, changes) = match self.watch.next().await? {
                WatchEvent::Resync => return Some(()),
                WatchEvent::Deleted { key } => (key, true),
                WatchEvent::Changed { key, created, .. } => (key, created || written),
            };
            let direct = key.strip_prefix(&self.prefix).is_some_and(|name| !name.contains('/'));
            if direct && changes {
                return Some(());
            }
        }
    }
}

struct Task {
    feeds: Arc<TopicFeeds>,
    namespace: NamespaceName,
    stored: Directory,
    partitioned: Directory,
    feed: watch::Sender<Listed>,
}

impl Task {
    async fn run(mut self) {
        loop {
            let clock = &self.feeds.clock;
            let began = clock.now();
            let listed = self.feeds.store.topics(&self.namespace).await;
            // Of a namespace where topics appear in crowds at most half the time goes into listing it.
            let rest = if listed.is_ok() { clock.now().saturating_sub(began) } else { RETRY_AFTER };
            let again = listed.is_err();
            self.publish(listed);
            if !rest.is_zero() && !self.rest(rest).await {
                return;
            }
            if !again && !self.next_change().await {
                return;
            }
        }
    }

    fn publish(&self, listed: Result<Vec<TopicName>, StoreError>) {
        self.feed.send_if_modified(|known| match (listed, &known) {
            (Ok(topics), Listed::Topics(before)) if **before == topics => false,
            (Ok(topics), _) => {
                *known = Listed::Topics(Arc::new(topics));
                true
            }
            (Err(error), Listed::Topics(_)) => {
                tracing::warn!(namespace = %self.namespace, %error, "list the topics for watchers; trying again");
                false
            }
            (Err(error), _) => {
                *known = Listed::Failed(error);
                true
            }
        });
    }

    /// False: nobody listens any more.
    async fn rest(&self, time: Duration) -> bool {
        loop {
            tokio::select! {
                () = self.feeds.clock.sleep(time) => return true,
                () = self.feed.closed() => if self.feeds.forget_unheard(&self.namespace) { return false },
            }
        }
    }

    /// False: nobody listens any more, or the store has gone.
    async fn next_change(&mut self) -> bool {
        loop {
            let change = tokio::select! {
                change = self.stored.next(false) => change,
                change = self.partitioned.next(true) => change,
                () = self.feed.closed() => {
                    if self.feeds.forget_unheard(&self.namespace) {
                        return false;
                    }
                    continue;
                }
            };
            if change.is_none() {
                self.feeds.feeds().remove(&self.namespace);
            }
            return change.is_some();
        }
    }
}
