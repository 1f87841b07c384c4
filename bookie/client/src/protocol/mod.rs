//! The rules of the replicated ledger as state machines: events in, actions out.
//!
//! Called by the shells one level up, by unit tests and by seeded simulations. Nothing here may know a socket, a clock, a
//! random source or a task: the same input always gives the same output. (Rules: BookKeeper's replication protocol, with
//! the corrections that its TLA+ models led to.)

pub mod batching;
pub mod hedged;
pub mod quorum;
pub mod read_ahead;
pub mod record;
pub mod recoverer;
pub mod recovery;
pub mod slow_bookies;
pub mod writer;
