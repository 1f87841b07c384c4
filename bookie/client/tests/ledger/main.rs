//! The ledger from outside, as one program, over real bookies on sockets. Its machines under faults: `tests/sim`.

mod cluster;
mod copies;
mod failures;
mod ledgers;
mod proxy;
mod reading;
mod replication;
mod silent;
mod slowness;
mod tls;
