//! Connections driven by a scripted peer that speaks the protocol's frames over an in-memory socket.

mod bad_input;
mod peer;
mod publishing;
mod requests;
mod topic_watchers;
