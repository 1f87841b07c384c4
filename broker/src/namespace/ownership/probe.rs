//! Whether a process listens at a broker's address: a killed one's lease lives on for seconds, in which clients need not be
//! sent there.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use magnetar_common::clock::SharedClock;
use magnetar_common::net::Network;

/// How long an answer counts.
const FRESH: Duration = Duration::from_millis(500);
/// A broker that does not answer by then may be behind a broken link that the client's own way does not use.
const PATIENCE: Duration = Duration::from_millis(300);
/// Addresses remembered.
const REMEMBERED_MAX: usize = 1024;

/// Knocks at brokers' ports.
pub(super) struct Probe {
    network: Arc<dyn Network>,
    clock: SharedClock,
    known: Mutex<HashMap<String, (Duration, bool)>>,
}

impl Probe {
    pub(super) fn new(network: Arc<dyn Network>, clock: SharedClock) -> Self {
        Self { network, clock, known: Mutex::default() }
    }

    /// False only when the broker's machine says that nobody listens there; silence proves nothing.
    pub(super) async fn is_listening(&self, broker_url: &str) -> bool {
        let Some((_, address)) = broker_url.split_once("://") else { return true };
        let now = self.clock.now();
        if let Some((at, listening)) = self.known().get(address)
            && now.saturating_sub(*at) < FRESH
        {
            return *listening;
        }
        let listening = tokio::select! {
            connected = self.network.connect(address) => {
                !matches!(connected, Err(error) if error.kind() == io::ErrorKind::ConnectionRefused)
            }
            () = self.clock.sleep(PATIENCE) => true,
        };
        let mut known = self.known();
        if known.len() >= REMEMBERED_MAX {
            known.clear();
        }
        known.insert(address.to_owned(), (self.clock.now(), listening));
        listening
    }

    fn known(&self) -> std::sync::MutexGuard<'_, HashMap<String, (Duration, bool)>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
