//! Watching a prefix.

use super::ops::Version;
use std::sync::{Mutex, PoisonError};
use tokio::sync::mpsc;

/// Events that may wait for a slow watcher; beyond it the watcher is told to list again, so memory stays bounded.
const EVENTS_MAX: usize = 1024;

/// A change below a watched prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WatchEvent {
    /// A key was put.
    Changed {
        /// The key.
        key: String,
        /// Its version after the put.
        version: Version,
        /// Whether the put created it.
        created: bool,
    },
    /// A key was removed, or its lease ended.
    Deleted {
        /// The key.
        key: String,
    },
    /// Events may be missing: list again what you watch.
    Resync,
}

/// The changes below a prefix, in the order in which they happened. Ends when the store does.
#[derive(Debug)]
pub struct Watch {
    events: mpsc::Receiver<WatchEvent>,
}

impl Watch {
    /// The next event; `None` when the store has gone. Cancel-safe.
    pub async fn next(&mut self) -> Option<WatchEvent> {
        self.events.recv().await
    }
}

/// The watchers of a store.
#[derive(Debug, Default)]
pub(super) struct Watchers {
    all: Mutex<Vec<Watcher>>,
}

/// The store's end of a [`Watch`].
#[derive(Debug)]
pub(super) struct Watcher {
    prefix: String,
    events: mpsc::Sender<WatchEvent>,
}

impl Watchers {
    pub(super) fn add(&self, prefix: &str) -> Watch {
        let (watcher, watch) = Watcher::new(prefix);
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        // Without this, watches of a store that never changes would pile up.
        all.retain(|watcher| !watcher.events.is_closed());
        all.push(watcher);
        watch
    }

    /// Ends every watch.
    pub(super) fn end(&self) {
        self.all.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Tells everybody concerned. Called in the order of the changes.
    pub(super) fn notify(&self, events: &[WatchEvent]) {
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|watcher| !watcher.events.is_closed());
        for watcher in all.iter() {
            for event in events {
                watcher.tell(event);
            }
        }
    }
}

impl Watcher {
    pub(super) fn new(prefix: &str) -> (Self, Watch) {
        let (sender, events) = mpsc::channel(EVENTS_MAX);
        (Self { prefix: prefix.to_owned(), events: sender }, Watch { events })
    }

    pub(super) fn prefix(&self) -> &str {
        &self.prefix
    }

    /// Resolves once the watch has been dropped.
    pub(super) fn unheard(&self) -> impl Future<Output = ()> + Send + 'static {
        let events = self.events.clone();
        async move { events.closed().await }
    }

    /// The last free place takes a Resync instead of the event, and nothing fits behind it until the watcher has taken
    /// something: so whatever was dropped lies between a Resync and the events that follow it, never unannounced.
    pub(super) fn tell(&self, event: &WatchEvent) {
        let concerned = match event {
            WatchEvent::Changed { key, .. } | WatchEvent::Deleted { key } => key.starts_with(&self.prefix),
            WatchEvent::Resync => true,
        };
        if !concerned {
            return;
        }
        match self.events.capacity() {
            0 => {}
            1 => drop(self.events.try_send(WatchEvent::Resync)),
            _ => drop(self.events.try_send(event.clone())),
        }
    }
}
