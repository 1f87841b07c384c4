//! Copies that were read and were not what was written: told to whoever runs the cluster, never to whoever reads.

use magnetar_proto::bookkeeper::BookieId;
use magnetar_proto::ids::{EntryId, LedgerId};
use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Reports kept; older ones are only counted.
const RECENT_MAX: usize = 128;

/// A copy of an entry whose digest, ledger or entry id is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadReplica {
    /// The ledger.
    pub ledger: LedgerId,
    /// The entry; `None` when the bookie's newest one was asked for.
    pub entry: Option<EntryId>,
    /// Who gave it.
    pub bookie: BookieId,
    /// What is wrong with it.
    pub reason: String,
}

/// What a client has met since it exists.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BadReplicaReport {
    /// How often. The same copy counts each time that it is read.
    pub total: u64,
    /// The latest ones, the newest last, each copy once.
    pub recent: Vec<BadReplica>,
}

#[derive(Debug, Default)]
pub(crate) struct BadReplicas {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    total: u64,
    recent: VecDeque<BadReplica>,
}

impl BadReplicas {
    /// A reader met this.
    pub(crate) fn report(&self, bad: BadReplica) {
        let BadReplica { ledger, entry, bookie, reason } = &bad;
        tracing::warn!(%ledger, ?entry, %bookie, reason, "a replica is corrupt; asking the next");
        let mut state = self.state();
        state.total += 1;
        state.recent.retain(|known| (known.ledger, known.entry, &known.bookie) != (*ledger, *entry, bookie));
        state.recent.push_back(bad);
        if state.recent.len() > RECENT_MAX {
            state.recent.pop_front();
        }
    }

    pub(crate) fn told(&self) -> BadReplicaReport {
        let state = self.state();
        BadReplicaReport { total: state.total, recent: state.recent.iter().cloned().collect() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
