//! Tells the topics in memory of changed policies, whoever changed them.

use std::sync::Arc;
use std::time::Duration;

use magnetar_common::clock::SharedClock;
use magnetar_common::layout;
use magnetar_common::metadata::{SharedMetadata, Watch, WatchEvent};
use magnetar_common::topic_name::TopicName;

use super::source::PolicySource;
use crate::namespace::{TOPIC_POLICIES, TopicRegistry};
use crate::topic::Handle;

/// After a failed read. Until then topics keep the policies that they have.
const RETRY_AFTER: Duration = Duration::from_secs(5);

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
    loop {
        let event = tokio::select! {
            event = of_namespaces.next() => event,
            event = of_bookies.next() => event,
            event = of_topics.next() => event,
        };
        let concerned = match event {
            None => return,
            Some(WatchEvent::Changed { key, .. } | WatchEvent::Deleted { key }) => Concerned::Key(key),
            Some(WatchEvent::Resync) => Concerned::All,
        };
        // Before the topics are looked for: one that is not there yet reads them anew once it is.
        source.changed();
        for handle in topics.loaded() {
            let Ok(name) = handle.name().parse::<TopicName>() else { continue };
            if concerned.includes(&name) {
                tell(&handle, &name, &*source, &clock).await;
            }
        }
    }
}

/// Tries until it succeeds or the topic is gone: a policy that was set and is not enforced is worse than a late one.
async fn tell(handle: &Handle, name: &TopicName, source: &dyn PolicySource, clock: &SharedClock) {
    while !handle.is_closed() {
        match source.of(name).await {
            Ok(policies) => return handle.set_policies(policies),
            Err(error) => {
                tracing::warn!(topic = %name, %error, "read changed policies");
                clock.sleep(RETRY_AFTER).await;
            }
        }
    }
}
