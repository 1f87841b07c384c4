//! The outside world of a role, in one value.

use crate::clock::{SharedClock, SystemClock};
use crate::net::{Network, TcpNetwork};
use crate::random::{OsRandom, SharedRandom};
use crate::storage::{RealStorage, Storage};
use std::sync::Arc;

/// Network, files, time and randomness as a role sees them. Cheap to clone; tests swap single parts.
#[derive(Clone)]
pub struct Environment {
    /// Where connections come from and go to.
    pub network: Arc<dyn Network>,
    /// Where files are.
    pub storage: Arc<dyn Storage>,
    /// What time it is.
    pub clock: SharedClock,
    /// Where chance comes from.
    pub random: SharedRandom,
}

impl Environment {
    /// The real machine: TCP, the file system, the system's clock and random source.
    pub fn system() -> Self {
        Self {
            network: Arc::new(TcpNetwork),
            storage: Arc::new(RealStorage),
            clock: Arc::new(SystemClock::default()),
            random: Arc::new(OsRandom),
        }
    }
}
