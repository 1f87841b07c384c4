//! The bookie from outside.

mod http;
mod start;
mod support;
mod wire;
