//! Pulsar's binary protocol, server side: one connection is a reader task, a writer task and short-lived request tasks.
//!
//! The service's accept loop calls it for each connection; topics send through its [`outbound`]. It must never know
//! how entries are stored or which consumer gets them: it turns commands into calls of a topic or of the namespace
//! module, and errors into the protocol's own.

mod commands;
mod connection;
mod consumer;
mod consumer_requests;
mod context;
mod errors;
pub(crate) mod frames;
mod handshake;
mod keepalive;
mod liveness;
mod lookup;
pub mod outbound;
mod producer;
mod refusal;
mod schema;
mod sessions;
#[cfg(test)]
mod tests;
mod topic_watchers;
mod writer;

pub use connection::serve;
