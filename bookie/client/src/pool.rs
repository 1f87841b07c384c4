//! The connections to all bookies, made on demand and kept; and which bookies have failed lately.

use crate::connection::Connection;
use hashbrown::HashMap;
use magnetar_common::Environment;
use magnetar_common::bookies::BookieDirectory;
use magnetar_proto::bookkeeper::BookieId;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// For so long a bookie that failed is no candidate: about the time after which a dead one is no longer registered.
const DISTRUST: Duration = Duration::from_secs(30);

/// One connection a bookie: requests of one ledger to one bookie stay in order.
#[derive(Clone)]
pub(crate) struct Pool {
    shared: Arc<Shared>,
}

struct Shared {
    directory: BookieDirectory,
    env: Environment,
    /// Bounded by the number of bookies that ledgers in use name.
    members: Mutex<HashMap<BookieId, Member>>,
}

struct Member {
    connection: Connection,
    failed_at: Option<Duration>,
}

impl Pool {
    pub(crate) fn new(directory: BookieDirectory, env: Environment) -> Self {
        Self { shared: Arc::new(Shared { directory, env, members: Mutex::default() }) }
    }

    pub(crate) fn get(&self, bookie: &BookieId) -> Connection {
        let open =
            || Connection::open(bookie.clone(), self.shared.directory.clone(), self.shared.env.clone());
        let mut members = self.members();
        members
            .entry_ref(bookie)
            .or_insert_with(|| Member { connection: open(), failed_at: None })
            .connection
            .clone()
    }

    /// An add at this bookie failed.
    pub(crate) fn note_failure(&self, bookie: &BookieId) {
        let now = self.shared.env.clock.now();
        if let Some(member) = self.members().get_mut(bookie) {
            member.failed_at = Some(now);
        }
    }

    /// Whether an add at this bookie has failed lately.
    pub(crate) fn is_distrusted(&self, bookie: &BookieId) -> bool {
        let now = self.shared.env.clock.now();
        let failed_at = self.members().get(bookie).and_then(|member| member.failed_at);
        failed_at.is_some_and(|at| now < at + DISTRUST)
    }

    fn members(&self) -> MutexGuard<'_, HashMap<BookieId, Member>> {
        self.shared.members.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
