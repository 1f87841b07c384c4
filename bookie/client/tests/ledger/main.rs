//! The ledger from outside, as one program: over real bookies on sockets, and its machines under simulation.

mod cluster;
mod failures;
mod ledgers;
mod replication;
mod simulation;
