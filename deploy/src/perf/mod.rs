//! The load generator: publishes and receives at a rate or flat-out, and measures latency free of coordinated omission.
//!
//! Called by: `magnetar perf`, and through it by the bench target.
//! Must never know: anything about the server but its public protocol.
//!
//! Each payload begins with the time it was due, as eight big-endian bytes of nanoseconds since the Unix epoch: the
//! consuming side, which may be another process, takes end-to-end latency from it.

mod consume;
mod pace;
mod produce;
mod report;
mod stats;

use std::time::Duration;

use magnetar_common::Environment;

use crate::client::Client;

pub(crate) use self::consume::{ConsumeConfig, consume};
pub(crate) use self::produce::{ProduceConfig, produce};

/// Where to work and how to tell about it.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) service_url: String,
    pub(crate) topics: Vec<String>,
    /// The summary is JSON on stdout, and the periodic lines move to stderr.
    pub(crate) json: bool,
}

/// When to end.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) messages: Option<u64>,
    /// Counted from the end of the warm-up.
    pub(crate) duration: Option<Duration>,
    /// Not in the figures.
    pub(crate) warmup: Duration,
}

impl Target {
    fn client(&self) -> anyhow::Result<Client> {
        Ok(Client::new(&self.service_url, Environment::system())?)
    }
}

/// Bytes at the front of a payload that hold its time.
const STAMP_BYTES: usize = 8;

/// Writes the time a message was due into its payload, which has at least [`STAMP_BYTES`].
fn stamp(payload: &mut [u8], due_ns: u64) {
    payload[..STAMP_BYTES].copy_from_slice(&due_ns.to_be_bytes());
}

/// How long ago `payload` was due; None if it has no time that makes sense (another program published it, or the
/// clocks of the two machines differ).
fn age_ns(payload: &[u8], now_ns: u64) -> Option<u64> {
    /// A day: older "times" are other people's payloads.
    const OLDEST_NS: u64 = 86_400_000_000_000;
    let due_ns = u64::from_be_bytes(payload.get(..STAMP_BYTES)?.try_into().ok()?);
    now_ns.checked_sub(due_ns).filter(|age| *age < OLDEST_NS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_age_of_a_payload_comes_from_its_stamp() {
        let mut payload = [7; 16];
        stamp(&mut payload, 1_000);
        assert_eq!(age_ns(&payload, 1_500), Some(500));
        assert_eq!(age_ns(&payload, 900), None);
        assert_eq!(age_ns(b"hello", 1), None);
        assert_eq!(age_ns(b"some text of others", u64::MAX / 2), None);
    }
}
