//! The storage server: keeps entries of ledgers and never loses one it has acknowledged; speaks the BookKeeper wire
//! protocol. `deploy` starts it; everything else meets it on the wire only.
//! It must never know what entries mean, who leads a topic, or how many copies of an entry exist elsewhere.

mod background;
mod bookie;
mod cache;
mod checkpoint;
mod compaction;
mod config;
mod control;
mod cookie;
mod engine;
mod entry_log;
mod error;
mod files;
#[doc(hidden)]
pub mod fuzzing;
mod gc;
#[cfg(test)]
mod golden_tests;
mod identity;
mod index;
mod journal;
mod metrics;
pub mod offline;
mod registration;
mod scrub;
mod server;
#[doc(hidden)]
pub mod simulated;
#[cfg(test)]
mod testing;

/// Messages, client and server of the control service, generated from `bookie_control.proto`, which explains them.
#[allow(unreachable_pub, unused_qualifications, clippy::all, reason = "generated")]
pub mod control_api {
    tonic::include_proto!("magnetar.bookie.control.v1");
}

pub use self::bookie::{Bookie, FoundDamage, StartError, Welcome};
pub use self::checkpoint::{FormatError as CheckpointFormatError, ReadError as CheckpointError};
pub use self::config::Config;
pub use self::engine::{LedgerReport, LogReport, Mode, ReadOnlyReason, ScrubCounts, SpaceReport};
pub use self::entry_log::{FormatError as EntryLogFormatError, OpenError as EntryLogError};
pub use self::error::{FatalError, OpenError};
pub use self::identity::{IdentityError, InstanceId};
pub use self::journal::{JournalDevice, ReplayError};
