//! Tells the topics in memory of changed policies, whoever changed them.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{Fuse, FusedFuture};
use magnetar_common::clock::SharedClock;
use magnetar_common::layout;
use magnetar_common::metadata::{SharedMetadata, Watch, WatchEvent};
use magnetar_common::topic_name::TopicName;

use super::source::PolicySource;
use crate::namespace::{StoreError, TOPIC_POLICIES, TopicRegistry};
use crate::topic::Handle;

/// After a failed read. Until then topics keep the policies that they have.
const RETRY_AFTER: Duration = Duration::from_secs(5);

/// Changes whose topics wait to be told. Beyond, all topics are told once.
const UNTOLD_MAX: usize = 64;

/// Which topics are concerned.
enum Concerned {
    /// Those whose policies lie at this key or below: a namespace's, or one topic's.
    Key(String),
    All,
}

impl Concerned {
    fn includes(&self, topic: &TopicName) -> bool {
        match self {
            Concerned::All => true,
            Concerned::Key(key) => {
                *key == layout::namespace(topic.namespace())
                    || *key == layout::local_policies(topic.namespace())
                    || *key == crate::namespace::topic_policies_key(topic)
            }
        }
    }
}

/// Runs until the store ends; follows from this call on. A topic that is opened meanwhile reads its policies after its
/// name is in `topics`, so it misses no change.
pub fn follow(
    metadata: SharedMetadata,
    topics: Arc<TopicRegistry>,
    source: Arc<dyn PolicySource>,
    clock: SharedClock,
) -> impl Future<Output = ()> + Send {
    let of_namespaces = metadata.watch(layout::POLICIES);
    let of_bookies = metadata.watch(layout::LOCAL_POLICIES);
    let of_topics = metadata.watch(TOPIC_POLICIES);
    // What was read before may have changed before the watches began.
    source.changed();
    run([of_namespaces, of_bookies, of_topics], topics, source, clock)
}

async fn run(
    watches: [Watch; 3],
    topics: Arc<TopicRegistry>,
    source: Arc<dyn PolicySource>,
    clock: SharedClock,
) {
    let [mut of_namespaces, mut of_bookies, mut of_topics] = watches;
    let mut untold = VecDeque::new();
    // Never waits for itself: what was remembered must count for nothing as soon as the event is there, however long the
    // topics before take to be told.
    let mut telling = Fuse::terminated();
    loop {
        let event = tokio::select! {
            event = of_namespaces.next() => event,
            event = of_bookies.next() => event,
            event = of_topics.next() => event,
            () = &mut telling => {
                let next = untold.pop_front();
                telling = next.map_or_else(Fuse::terminated, |next| tell_all(next, &topics, &*source, &clock).boxed().fuse());
                continue;
            }
        };
        let concerned = match event {
            None => return,
            Some(WatchEvent::Changed { key, .. } | WatchEvent::Deleted { key }) => Concerned::Key(key),
            Some(WatchEvent::Resync) => Concerned::All,
        };
        // Before the topics are looked for: one that is not there yet reads them anew once it is.
        source.changed();
        if telling.is_terminated() {
            telling = tell_all(concerned, &topics, &*source, &clock).boxed().fuse();
        } else if untold.len() < UNTOLD_MAX {
            untold.push_back(concerned);
        } else {
            untold = VecDeque::from([Concerned::All]);
        }
    }
}

/// Tells the topics in memory that are concerned, one after the other.
async fn tell_all(
    concerned: Concerned,
    topics: &TopicRegistry,
    source: &dyn PolicySource,
    clock: &SharedClock,
) {
    for handle in topics.loaded() {
        let Ok(name) = handle.name().parse::<TopicName>() else { continue };
        if concerned.includes(&name) {
            tell(&handle, &name, source, clock).await;
        }
    }
}

/// Tries until it succeeds or the topic is gone: a policy that was set and is not enforced is worse than a late one. What no
/// second try can cure is left to the next change.
pub(crate) async fn tell(handle: &Handle, name: &TopicName, source: &dyn PolicySource, clock: &SharedClock) {
    while !handle.is_closed() {
        match source.of(name).await {
            Ok(policies) => return handle.set_policies(policies),
            Err(error @ (StoreError::Metadata(_) | StoreError::Contended(_))) => {
                tracing::warn!(topic = %name, %error, "read changed policies");
                clock.sleep(RETRY_AFTER).await;
            }
            Err(error) => {
                tracing::error!(topic = %name, %error, "read changed policies: the topic keeps those that it has");
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::any::Any;
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use bytes::Bytes;
    use futures_util::future::{BoxFuture, ready};
    use magnetar_common::clock::ManualClock;
    use magnetar_common::metadata::{Expect, MemoryStore};

    use super::*;
    use crate::namespace::{AutoCreate, LoadTopic, NamespaceStore, Owner, Purpose, SingleBroker};
    use crate::policies::TopicPolicies;
    use crate::topic::TopicError;

    /// Topics without a task. What is dropped is a topic's end.
    #[derive(Default)]
    struct Idle(Mutex<Vec<Box<dyn Any + Send>>>);

    impl LoadTopic for Idle {
        fn load(&self, topic: TopicName, _: Purpose) -> BoxFuture<'static, Result<Handle, TopicError>> {
            let (handle, mailbox) = Handle::of_nobody(topic.as_str());
            self.0.lock().expect("no panic").push(Box::new(mailbox));
            ready(Ok(handle)).boxed()
        }
    }

    /// No policies can be read.
    #[derive(Default)]
    struct Lost {
        reads: AtomicUsize,
        changes: AtomicUsize,
    }

    impl PolicySource for Lost {
        fn of(&self, _: &TopicName) -> BoxFuture<'static, Result<TopicPolicies, StoreError>> {
            self.reads.fetch_add(1, Ordering::Relaxed);
            ready(Err(StoreError::Metadata("lost in this test".into()))).boxed()
        }

        fn changed(&self) {
            self.changes.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// What was remembered of all namespaces held for as long as one topic could not be told: seconds, or for ever.
    #[tokio::test]
    async fn a_change_counts_although_an_earlier_one_cannot_be_told() {
        let metadata: SharedMetadata = Arc::new(MemoryStore::new());
        let topic: TopicName = "persistent://public/default/t".parse().expect("a name");
        let nowhere =
            Owner { broker_url: "pulsar://localhost:1".into(), http_url: "http://localhost:2".into() };
        let auto_create = AutoCreate { topics: true, subscriptions: true, partitions_max: 1 };
        let put = async |key: String| {
            metadata.put(&key, Bytes::from_static(b"{}"), Expect::Any).await.expect("a put");
        };
        put(layout::namespace(topic.namespace())).await;
        let topics = TopicRegistry::new(
            NamespaceStore::new(Arc::clone(&metadata)),
            Arc::new(Idle::default()),
            auto_create,
            Arc::new(SingleBroker(nowhere)),
        );
        topics.get_or_load(&topic, true).await.expect("a topic");
        let lost = Arc::new(Lost::default());
        let (source, clock) = (Arc::clone(&lost) as Arc<dyn PolicySource>, ManualClock::new());
        let following = tokio::spawn(follow(Arc::clone(&metadata), topics, source, clock));
        put(layout::namespace(topic.namespace())).await;
        while lost.reads.load(Ordering::Relaxed) == 0 {
            tokio::task::yield_now().await;
        }
        let before = lost.changes.load(Ordering::Relaxed);
        put(layout::namespace(&"public/other".parse().expect("a name"))).await;
        for _ in 0..10_000 {
            tokio::task::yield_now().await;
        }
        assert_ne!(lost.changes.load(Ordering::Relaxed), before, "the second change is not heard of");
        following.abort();
    }
}
