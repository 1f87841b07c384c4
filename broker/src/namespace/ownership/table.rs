//! The bundles that this broker holds: what is asked before every load of a topic, so it never waits.
//!
//! Must never know of the metadata store: whoever changes a record there changes the table under the bundle's turn.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};

use magnetar_common::bundles::BundleRange;
use magnetar_common::topic_name::NamespaceName;
use tokio::sync::watch;

/// A bundle of a namespace.
pub(super) type Bundle = (NamespaceName, BundleRange);

/// What this broker does with a bundle that it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Its topics are loaded on demand.
    Serving,
    /// Its topics are being closed; nothing is loaded any more.
    Releasing,
}

/// The bundles of one namespace by their first hash.
type Ranges = BTreeMap<u32, (BundleRange, State)>;

/// Ranges of one namespace never overlap.
pub(super) struct Table {
    held: Mutex<HashMap<NamespaceName, Ranges>>,
    changes: watch::Sender<u64>,
}

impl Default for Table {
    fn default() -> Self {
        Self { held: Mutex::default(), changes: watch::Sender::new(0) }
    }
}

impl Table {
    /// What is done with the bundle that a hash falls into, if it is held.
    pub(super) fn find(&self, namespace: &NamespaceName, hash: u32) -> Option<State> {
        let held = self.held();
        let (_, (range, state)) = held.get(namespace)?.range(..=hash).next_back()?;
        range.contains(hash).then_some(*state)
    }

    pub(super) fn state(&self, (namespace, range): &Bundle) -> Option<State> {
        let held = self.held();
        let (found, state) = held.get(namespace)?.get(&range.low())?;
        (found == range).then_some(*state)
    }

    /// Every bundle held, in order.
    pub(super) fn all(&self) -> Vec<Bundle> {
        let held = self.held();
        let of = |(namespace, ranges): (&NamespaceName, &Ranges)| {
            ranges.values().map(|(range, _)| (namespace.clone(), *range)).collect::<Vec<_>>()
        };
        let mut all: Vec<Bundle> = held.iter().flat_map(of).collect();
        all.sort();
        all
    }

    pub(super) fn serve(&self, (namespace, range): &Bundle) {
        let mut held = self.held();
        held.entry(namespace.clone()).or_default().insert(range.low(), (*range, State::Serving));
        self.changed();
    }

    /// False if it is not held, or being released already.
    pub(super) fn begin_release(&self, (namespace, range): &Bundle) -> bool {
        let mut held = self.held();
        let found = held.get_mut(namespace).and_then(|ranges| ranges.get_mut(&range.low()));
        match found {
            Some((found, state @ State::Serving)) if found == range => {
                *state = State::Releasing;
                self.changed();
                true
            }
            _ => false,
        }
    }

    pub(super) fn remove(&self, (namespace, range): &Bundle) {
        let mut held = self.held();
        if let Some(ranges) = held.get_mut(namespace)
            && ranges.get(&range.low()).is_some_and(|(found, _)| found == range)
        {
            ranges.remove(&range.low());
        }
        self.changed();
    }

    /// Puts the parts in the place of the whole: no hash between is unserved for a moment.
    pub(super) fn split(&self, (namespace, whole): &Bundle, parts: &[BundleRange]) {
        let mut held = self.held();
        let ranges = held.entry(namespace.clone()).or_default();
        ranges.remove(&whole.low());
        ranges.extend(parts.iter().map(|part| (part.low(), (*part, State::Serving))));
        self.changed();
    }

    /// Sees every change from now on.
    pub(super) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    fn changed(&self) {
        self.changes.send_modify(|count| *count += 1);
    }

    fn held(&self) -> MutexGuard<'_, HashMap<NamespaceName, Ranges>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
