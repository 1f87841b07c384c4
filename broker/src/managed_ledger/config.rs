//! What a managed ledger is made with.

use bytes::Bytes;
use magnetar_common::clock::SharedClock;
use magnetar_common::metadata::SharedMetadata;
use magnetar_common::random::SharedRandom;
use magnetar_ledger::placement::Isolation;
use magnetar_ledger::{Client, LedgerOptions};
use std::collections::BTreeMap;
use std::time::Duration;

/// The components a managed ledger and its cursors stand on.
#[derive(Clone)]
pub struct MlEnv {
    /// Ledgers.
    pub ledgers: Client,
    /// The store that lists them.
    pub metadata: SharedMetadata,
    /// Time.
    pub clock: SharedClock,
    /// Tells owners apart.
    pub random: SharedRandom,
}

/// How long consumed entries are kept. A consumed ledger goes when either limit says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Kept this long after the ledger was closed; `None` means for ever.
    pub time: Option<Duration>,
    /// The newest bytes that are kept; `None` means all.
    pub size_bytes: Option<u64>,
}

impl Retention {
    /// Consumed entries go at once: Pulsar's default.
    pub const NONE: Self = Self { time: Some(Duration::ZERO), size_bytes: Some(0) };
}

/// The numbers of a managed ledger.
#[derive(Clone, Debug)]
pub struct MlConfig {
    /// Bookies per ledger.
    pub ensemble: u32,
    /// Copies of an entry.
    pub write_quorum: u32,
    /// Copies that must be durable before an entry is confirmed.
    pub ack_quorum: u32,
    /// A ledger of this many entries is rolled over. Default 50 000.
    pub max_entries_per_ledger: u64,
    /// A ledger of this many bytes is rolled over. Default 2 GiB.
    pub max_bytes_per_ledger: u64,
    /// A ledger this old is rolled over once it has an entry. Default 4 h.
    pub max_ledger_age: Duration,
    /// How long consumed entries are kept.
    pub retention: Retention,
    /// The password of the ledgers. Default empty, as Pulsar's.
    pub password: Bytes,
    /// Which bookies new ledgers may lie on; those there are stay where they are. Default any.
    pub isolation: Isolation,
}

impl Default for MlConfig {
    fn default() -> Self {
        Self {
            ensemble: 3,
            write_quorum: 3,
            ack_quorum: 2,
            max_entries_per_ledger: 50_000,
            max_bytes_per_ledger: 2 << 30,
            max_ledger_age: Duration::from_secs(4 * 60 * 60),
            retention: Retention::NONE,
            password: Bytes::new(),
            isolation: Isolation::default(),
        }
    }
}

impl MlConfig {
    /// Options for a new ledger of `managed_ledger`, or of one of its cursors.
    pub(crate) fn ledger_options(&self, managed_ledger: &str, cursor: Option<&str>) -> LedgerOptions {
        let mut custom = BTreeMap::from([
            ("application".to_owned(), Bytes::from_static(b"pulsar")),
            ("component".to_owned(), Bytes::from_static(b"managed-ledger")),
            ("pulsar/managed-ledger".to_owned(), Bytes::from(managed_ledger.to_owned())),
        ]);
        if let Some(cursor) = cursor {
            custom.insert("pulsar/cursor".to_owned(), Bytes::from(cursor.to_owned()));
        }
        custom.extend(self.isolation.to_custom());
        LedgerOptions {
            ensemble: self.ensemble,
            write_quorum: self.write_quorum,
            ack_quorum: self.ack_quorum,
            password: self.password.clone(),
            custom,
        }
    }
}
