//! A real etcd under our metadata store and under `magnetar bookie` processes.
//!
//! `tests/run` fetches etcd and names it in MAGNETAR_ETCD; where there is none the tests are skipped with a printed reason.

mod bookies;
mod brokers;
mod outages;
mod rereplication;
mod store;
mod support;
