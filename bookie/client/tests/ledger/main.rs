//! The ledger from outside, as one program: over real bookies on sockets, and its machines under simulation.

mod cluster;
mod failures;
mod ledgers;
mod proxy;
mod reading;
mod replication;
mod silent;
mod simulation;
mod slowness;
mod tls;
