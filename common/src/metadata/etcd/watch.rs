//! One watch: a task that reads etcd's stream and, whenever that ends, goes on behind the last change it told.

use super::super::error::MetadataError;
use super::super::watch::{Watch, WatchEvent, Watcher};
use super::link::{Link, within};
use super::range::key_of;
use super::transaction::version_of;
use crate::shutdown::Signal;
use etcd_client::{EventType, WatchOptions, WatchResponse, WatchStream};
use std::time::Duration;

/// Between two tries to watch again.
const PAUSE: Duration = Duration::from_millis(300);

/// Where a watch stands.
struct Task {
    link: Link,
    watcher: Watcher,
    /// The first revision not told yet.
    next: i64,
}

/// Why a stream ended.
enum Ended {
    /// The connection or the member failed, or etcd refused: another stream may go better.
    Broken(String),
    /// The revision asked for is gone, and with it changes nobody told.
    Compacted { first: i64 },
}

/// Watches from the newest revision known until nobody listens or the store is closed. Whoever calls a store learns the
/// revision of each answer first: so a change made after this call is never before the watch.
pub(super) fn start(link: Link, prefix: &str, closed: Signal, runtime: &tokio::runtime::Handle) -> Watch {
    let (watcher, watch) = Watcher::new(prefix);
    let next = link.newest() + 1;
    let task = Task { link, watcher, next };
    runtime.spawn(task.run(closed));
    watch
}

impl Task {
    async fn run(mut self, closed: Signal) {
        let unheard = self.watcher.unheard();
        tokio::select! {
            () = self.follow() => {}
            () = unheard => {}
            () = closed.given() => {}
        }
    }

    /// Never returns by itself.
    async fn follow(&mut self) {
        let mut failing = false;
        loop {
            let ended = match self.check_revision().await {
                Ok(()) => self.stream(&mut failing).await,
                Err(error) => Ended::Broken(error.to_string()),
            };
            match ended {
                Ended::Compacted { first } => self.resync(first),
                Ended::Broken(reason) => {
                    // Once an outage: a watch is tried several times a second.
                    if !std::mem::replace(&mut failing, true) {
                        tracing::warn!(
                            prefix = self.watcher.prefix(),
                            reason,
                            "a watch broke; watching again"
                        );
                    }
                    self.link.clock().sleep(PAUSE).await;
                }
            }
        }
    }

    /// Sees whether the cluster was put back to an older state: its revisions count on from there, and waiting for the one
    /// that is next here would miss what happens until then. A request of its own also renews an expired token, which
    /// opening a stream does not.
    async fn check_revision(&mut self) -> Result<(), MetadataError> {
        let now = self.link.learn_revision().await?;
        if now + 1 < self.next {
            self.resync(now + 1);
        }
        Ok(())
    }

    /// Tells the watcher to list; goes on from the newest change, which that listing will show, or from `first`.
    fn resync(&mut self, first: i64) {
        self.watcher.tell(&WatchEvent::Resync);
        self.next = first;
    }

    async fn stream(&mut self, failing: &mut bool) -> Ended {
        let options = WatchOptions::new().with_prefix().with_start_revision(self.next);
        let mut client = self.link.client().watch_client();
        let open = client.watch(self.watcher.prefix(), Some(options));
        let mut stream: WatchStream = match within(&**self.link.clock(), self.link.limit(), open).await {
            Some(Ok(stream)) => stream,
            Some(Err(error)) => return Ended::Broken(error.to_string()),
            None => return Ended::Broken("no answer".into()),
        };
        loop {
            match stream.message().await {
                Ok(Some(response)) => {
                    *failing = false;
                    if let Some(ended) = self.take(&response) {
                        return ended;
                    }
                }
                Ok(None) => return Ended::Broken("the member ended it".into()),
                Err(error) => return Ended::Broken(error.to_string()),
            }
        }
    }

    /// Passes the changes of a response on.
    fn take(&mut self, response: &WatchResponse) -> Option<Ended> {
        if response.canceled() {
            return Some(if response.compact_revision() > 0 {
                Ended::Compacted { first: response.compact_revision() }
            } else {
                Ended::Broken(response.cancel_reason().to_owned())
            });
        }
        for event in response.events() {
            let Some(found) = event.kv() else { continue };
            // A response holds all changes of a revision below the prefix: none of it is left for later.
            self.next = self.next.max(found.mod_revision() + 1);
            let Ok(key) = key_of(found) else {
                tracing::warn!(key = ?found.key(), "a key that is no text; ignoring it");
                continue;
            };
            let (version, created) = (version_of(found), found.create_revision() == found.mod_revision());
            self.watcher.tell(&match event.event_type() {
                EventType::Put => WatchEvent::Changed { key, version, created },
                EventType::Delete => WatchEvent::Deleted { key },
            });
        }
        None
    }
}
