//! The broker: speaks Pulsar's binary protocol and admin REST, owns topics, and writes them as ledgers.
//!
//! `deploy` starts it as a role, tests start it in-process. It must never know of a bookie's inside (they meet on the
//! wire, through the ledger client) nor which metadata store is below it.

pub mod admin;
pub mod balance;
pub mod config;
pub mod cursor;
pub mod dispatch;
pub mod managed_ledger;
pub mod metrics;
pub mod namespace;
pub mod policies;
pub mod protocol;
pub mod schemas;
pub mod service;
pub mod topic;
