//! Settings of the client.

use crate::placement::PlacementPolicy;
use crate::protocol::slow_bookies::SlowConfig;
use magnetar_common::net::tls::TlsClientConfig;
use std::time::Duration;

/// Settings of a [`Client`](crate::Client).
#[derive(Clone, Debug)]
pub struct ClientConfig {
    /// How copies are placed.
    pub placement: PlacementPolicy,
    /// How long [`Client::create`](crate::Client::create) waits for enough bookies to register. Default 5 s: a cluster's
    /// parts start together.
    pub registration_wait: Duration,
    /// Payload bytes of one ledger that may wait to be acknowledged; then appending is refused until some are. Default
    /// 64 MiB: far more than a healthy ensemble has under way, so that a caller with a smaller budget of its own never meets
    /// it.
    pub ledger_bytes_max: usize,
    /// Bytes that one bookie may lag behind what the others have acknowledged, over all ledgers; then its adds fail, and the
    /// ledgers choose another. Default 64 MiB. So much memory a client needs at most for each bookie that hangs.
    pub lag_bytes_max: usize,
    /// Bytes that all readers may have read before they are asked for. Default 64 MiB; 0 turns reading ahead off.
    pub read_ahead_bytes_max: usize,
    /// When a bookie counts as slow.
    pub slow: SlowConfig,
    /// TLS towards the bookies. Set: a bookie that offers none is not spoken to. Default: none.
    pub tls: Option<TlsClientConfig>,
}

impl Default for ClientConfig {
    fn default() -> Self {
        Self {
            placement: PlacementPolicy::default(),
            registration_wait: Duration::from_secs(5),
            ledger_bytes_max: 64 << 20,
            lag_bytes_max: 64 << 20,
            read_ahead_bytes_max: 64 << 20,
            slow: SlowConfig::default(),
            tls: None,
        }
    }
}
