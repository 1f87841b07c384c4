//! The harness that drives a real `magnetar` process, shared by the interop, chaos and robustness suites.
//!
//! Called by the test targets beside it. It must never use the broker's or the bookie's code: what is tested here is the
//! process that a user runs, over the sockets a user has. The one exception is [`sim`], which runs that code under
//! simulation and has nothing to do with the rest.

pub mod bookkeeper;
pub mod checker;
pub mod cluster;
pub mod counters;
pub mod driver;
pub mod etcd;
pub mod http;
pub mod java;
pub mod lone;
pub mod network;
pub mod process;
pub mod proxy;
pub mod publisher;
pub mod raw;
pub mod role;
#[path = "../sim/mod.rs"]
pub mod sim;
pub mod site;
pub mod usage;
pub mod wait;
