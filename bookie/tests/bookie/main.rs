//! The bookie from outside.

mod grpc;
mod http;
mod limits;
mod start;
mod support;
mod tls;
mod wire;
