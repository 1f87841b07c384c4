//! When a silent peer is pinged and when it is given up. Sans-IO: ticks in, decisions out.

/// What to do at a tick.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Tick {
    Ping,
    /// The reason, for the log.
    Close(&'static str),
}

/// One tick comes each keep-alive interval. Any byte from the peer is a sign of life.
#[derive(Debug, Default)]
pub(super) struct KeepAlive {
    connected: bool,
    /// A PING went out and nothing at all came back yet.
    waiting: bool,
}

impl KeepAlive {
    pub(super) fn on_connected(&mut self) {
        self.connected = true;
    }

    /// Bytes came, or could not come because we did not read.
    pub(super) fn on_life(&mut self) {
        self.waiting = false;
    }

    pub(super) fn on_tick(&mut self) -> Tick {
        if !self.connected {
            return Tick::Close("no CONNECT within the keep-alive interval");
        }
        if self.waiting {
            return Tick::Close("no sign of life since the last PING");
        }
        self.waiting = true;
        Tick::Ping
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_that_never_says_connect_is_closed_at_the_first_tick() {
        assert!(matches!(KeepAlive::default().on_tick(), Tick::Close(_)));
    }

    #[test]
    fn a_peer_is_closed_after_a_whole_interval_without_an_answer_to_a_ping() {
        let mut keepalive = KeepAlive::default();
        keepalive.on_connected();
        assert_eq!(keepalive.on_tick(), Tick::Ping);
        keepalive.on_life();
        assert_eq!(keepalive.on_tick(), Tick::Ping);
        assert!(matches!(keepalive.on_tick(), Tick::Close(_)));
    }
}
