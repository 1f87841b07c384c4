//! Whether one schema may follow another.
//!
//! The schema registry asks before it stores a version, and the admin API before it says what would happen. It must
//! never know of topics, versions or storage: schemas and a strategy come in, a verdict with its reason comes out.

mod avro;
mod compatibility;
mod key_value;
mod protobuf;
mod strategy;

pub use compatibility::{Incompatible, check, check_consumer};
pub use strategy::{Rule, Strategy};
