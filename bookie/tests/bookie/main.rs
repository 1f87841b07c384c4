//! The bookie from outside.

mod limits;
mod start;
mod support;
mod wire;
