//! The bookie from outside.

mod http;
mod limits;
mod start;
mod support;
mod tls;
mod wire;
