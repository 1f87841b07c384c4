//! Who is connected.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::protocol::outbound::{ConnectionId, Outbound};

/// Cheap to clone; all clones are the same list.
#[derive(Clone, Default)]
pub struct Connections(Arc<Shared>);

#[derive(Default)]
struct Shared {
    next: AtomicU64,
    open: Mutex<HashMap<ConnectionId, Outbound>>,
}

/// Keeps a connection listed until dropped.
pub(crate) struct Registered {
    connections: Connections,
    id: ConnectionId,
}

impl Connections {
    /// An id that no other connection of this process has or had.
    pub(crate) fn next_id(&self) -> ConnectionId {
        ConnectionId(self.0.next.fetch_add(1, Ordering::Relaxed))
    }

    /// Connections accepted since the start.
    pub fn accepted(&self) -> u64 {
        self.0.next.load(Ordering::Relaxed)
    }

    pub fn count(&self) -> usize {
        self.open().len()
    }

    /// Every open connection, in no order.
    pub fn all(&self) -> Vec<Outbound> {
        self.open().values().cloned().collect()
    }

    pub(crate) fn register(&self, outbound: Outbound) -> Registered {
        let id = outbound.connection();
        self.open().insert(id, outbound);
        Registered { connections: self.clone(), id }
    }

    fn open(&self) -> MutexGuard<'_, HashMap<ConnectionId, Outbound>> {
        self.0.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.connections.open().remove(&self.id);
    }
}
