//! How much free space each bookie has, as it tells when asked. An hour-old figure is as good as a new one for a choice by
//! chance; so bookies are asked in the background, and only while somebody chooses.

use crate::connection::Context;
use crate::info;
use hashbrown::HashMap;
use magnetar_proto::bookkeeper::BookieId;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Between two rounds of asking.
const INTERVAL: Duration = Duration::from_secs(60);

/// Shared by all who choose. Clones share it.
#[derive(Clone, Default)]
pub(crate) struct Space {
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    /// Of the bookies that answered in the last round.
    free_bytes: HashMap<BookieId, u64>,
    next_round: Duration,
}

impl Space {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What it said last; `None` when it has not.
    pub(crate) fn free_bytes(&self, bookie: &BookieId) -> Option<u64> {
        self.state().free_bytes.get(bookie).copied()
    }

    /// Asks every writable bookie in the background, unless that was done a short while ago.
    pub(crate) fn refresh(&self, context: &Context) {
        {
            let (mut state, now) = (self.state(), context.env.clock.now());
            if now < state.next_round {
                return;
            }
            state.next_round = now + INTERVAL;
        }
        let (space, context) = (self.clone(), context.clone());
        tokio::spawn(async move {
            let bookies = context.directory.now();
            let mut found = HashMap::new();
            // One after the other: nobody waits for it.
            for (bookie, service) in bookies.writable() {
                if let Ok(free) = info::free_bytes(&context, &service.address()).await {
                    found.insert(bookie.clone(), free);
                }
            }
            space.state().free_bytes = found;
        });
    }
}
