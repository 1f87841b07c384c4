//! The bookie from outside.

mod start;
mod support;
mod wire;
