//! What every role shares: the metadata store, the clock, randomness, network and files behind traits, and names.
//!
//! Called by the bookie, the ledger client, the broker and the binary. It must never know what a topic or a ledger does
//! with any of it: no protocol logic, no policy.
#![warn(missing_docs)]

pub mod bookies;
pub mod budget;
pub mod bundles;
pub mod clock;
pub mod cluster;
mod environment;
pub mod layout;
pub mod metadata;
pub mod net;
pub mod random;
pub mod shutdown;
pub mod storage;
pub mod telemetry;
pub mod topic_name;

pub use environment::Environment;
pub use magnetar_proto::ids;
