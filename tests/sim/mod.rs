//! The replicated ledger as a whole system in one thread under one seed: writers, recoveries and readers over bookies, a
//! metadata store and disks that fail in every way the design must survive, with a checker that knows what must hold.
//!
//! Called by the `sim` test target and by `bench sim`. It must never read a clock or a random source of the machine, and
//! never decide anything that production code decides: the protocol is stepped through the machines of
//! `magnetar_ledger::protocol`, the bookies are `magnetar_bookie`'s storage engine over files in memory.
//!
//! **Why a plain queue of events** and not turmoil, madsim or tokio with paused time: our protocol and our engine take
//! events and give actions, so nothing has to be intercepted. A run is then exactly repeatable (tokio's `select!` and
//! `watch` draw from a random source of their own), costs milliseconds instead of the price of tasks and simulated
//! sockets, and loses, doubles and reorders single messages, which a simulated TCP cannot. The price: the async shells
//! around the machines (sockets, connection pools, waiting) are not in it. They are tested over real sockets in
//! `magnetar-ledger` and over real processes in `chaos`; what they decide by themselves is kept so small that
//! [`actor`] can tell it again.
//!
//! What stands in for what: a message takes its time, comes late, twice or never; a crash keeps, loses or tears what the
//! disk had not synced; time passes only between events.

mod actor;
mod checker;
mod contract;
mod defect;
mod faults;
mod host;
mod messages;
mod model;
mod outside;
mod plan;
mod queue;
mod runner;
mod store;
mod world;

pub use defect::Defect;
pub use model::{Explored, Model, explore};
pub use runner::{Campaign, replay_command, replay_line};
pub use world::{Outcome, Tally, run};
