//! The harness that drives a real `magnetar` process, shared by the interop, chaos and robustness suites.
//!
//! Called by the test targets beside it. It must never link the broker or the bookie: what is tested here is the
//! process that a user runs, over the sockets a user has.

pub mod bookkeeper;
pub mod etcd;
pub mod http;
pub mod lone;
pub mod process;
pub mod proxy;
pub mod raw;
pub mod role;
pub mod wait;
