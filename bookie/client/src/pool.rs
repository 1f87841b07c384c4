//! The connections to all bookies, made on demand and kept.

use crate::connection::Connection;
use hashbrown::HashMap;
use magnetar_common::Environment;
use magnetar_common::bookies::BookieDirectory;
use magnetar_proto::bookkeeper::BookieId;
use std::sync::{Arc, Mutex, PoisonError};

/// One connection a bookie: requests of one ledger to one bookie stay in order.
#[derive(Clone)]
pub(crate) struct Pool {
    shared: Arc<Shared>,
}

struct Shared {
    directory: BookieDirectory,
    env: Environment,
    /// Bounded by the number of bookies that ledgers in use name.
    connections: Mutex<HashMap<BookieId, Connection>>,
}

impl Pool {
    pub(crate) fn new(directory: BookieDirectory, env: Environment) -> Self {
        Self { shared: Arc::new(Shared { directory, env, connections: Mutex::default() }) }
    }

    pub(crate) fn get(&self, bookie: &BookieId) -> Connection {
        let mut connections = self.shared.connections.lock().unwrap_or_else(PoisonError::into_inner);
        let open =
            || Connection::open(bookie.clone(), self.shared.directory.clone(), self.shared.env.clone());
        connections.entry_ref(bookie).or_insert_with(open).clone()
    }
}
