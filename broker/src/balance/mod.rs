//! Which broker is to serve a bundle: pure decisions over what brokers report.
//!
//! The ownership of bundles and the leader's task call it. It must never touch the metadata store, a clock or a socket:
//! reports and time go in, decisions come out.

mod decide;
#[cfg(test)]
mod decide_tests;
mod isolation;
mod load;
mod place;

pub use decide::{Action, Balancer, Limits, View};
pub use isolation::{AutoFailover, InvalidPattern, Isolation, IsolationPolicies, IsolationPolicy};
pub use load::{BUNDLE_LOAD, bundle_load};
pub use place::{Candidate, Placement};
