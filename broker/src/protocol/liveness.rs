//! Is the connection in a newcomer's way still alive? A client whose machine died comes back before its old
//! connection is noticed to be gone, and must not be told that it is in its own way.

use std::time::Duration;

use magnetar_common::clock::SharedClock;
use magnetar_proto::pulsar::api;

use super::outbound::Outbound;

/// Pings the holder and waits for any bytes from it; a silent one is disconnected. True: it is gone.
pub(super) async fn is_gone(holder: &Outbound, clock: &SharedClock, patience: Duration) -> bool {
    if holder.is_closed() {
        return true;
    }
    let before = holder.received_so_far();
    holder.send(api::CommandPing {}.into());
    tokio::select! {
        () = holder.heard_since(before) => false,
        () = clock.sleep(patience) => {
            let client = holder.client();
            tracing::warn!(
                peer = client.address,
                client = client.version,
                "connection in the way of a new producer or consumer does not answer; disconnecting it"
            );
            holder.abort();
            true
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use magnetar_common::clock::ManualClock;

    use super::super::outbound::ConnectionId;
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(5);

    #[tokio::test]
    async fn a_silent_holder_is_disconnected_and_a_living_one_is_not() {
        let clock = ManualClock::new();
        let shared: SharedClock = Arc::clone(&clock) as SharedClock;
        let holder = Outbound::new(ConnectionId(1), "peer");

        let answering = async {
            tokio::task::yield_now().await;
            holder.note_received();
        };
        assert!(!tokio::join!(is_gone(&holder, &shared, PATIENCE), answering).0);
        assert!(!holder.is_closed());

        let passing = async {
            tokio::task::yield_now().await;
            clock.advance(PATIENCE);
        };
        assert!(tokio::join!(is_gone(&holder, &shared, PATIENCE), passing).0);
        assert!(holder.is_closed());
    }
}
