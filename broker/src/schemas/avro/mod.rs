//! Avro: reading a schema's JSON, and the rules of schema resolution.
//!
//! Of our own because the rules are few and the common implementation in Rust compares a type that is defined in one
//! schema and referred to in the other as different, which refuses ordinary evolution (a field added before).

mod parse;
mod resolve;

pub(super) use parse::Schema;
pub(super) use resolve::can_read;
