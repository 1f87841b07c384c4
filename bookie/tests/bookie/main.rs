//! The bookie from outside.

mod grpc;
mod http;
mod limits;
mod long_poll;
mod start;
mod support;
mod tls;
mod wire;
