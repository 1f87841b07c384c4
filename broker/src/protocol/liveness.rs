//! Is the connection in a newcomer's way still alive? A client whose machine died comes back before its old
//! connection is noticed to be gone, and must not be told that it is in its own way.

use std::time::Duration;

use magnetar_common::clock::SharedClock;
use magnetar_proto::pulsar::api;

use super::outbound::{Outbound, State};

/// Pings the holder and waits for its PONG, its end, or `patience`. A silent one is disconnected then; one that sent
/// anything else, or that we did not listen to, is not. True: it is gone.
///
/// Other bytes are no answer at once: they may be the last ones before an end that stands right behind them in its socket.
pub(super) async fn is_gone(holder: &Outbound, clock: &SharedClock, patience: Duration) -> bool {
    let (pongs, received) = (holder.pongs_so_far(), holder.received_so_far());
    holder.send(api::CommandPing {}.into());
    tokio::select! {
        biased;
        () = holder.reached(State::Closing) => true,
        () = holder.pong_since(pongs) => false,
        () = clock.sleep(patience) => {
            if holder.received_so_far() != received || holder.is_paused() {
                return false;
            }
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

        let after = |event: fn(&Outbound, &ManualClock)| {
            let (holder, clock) = (holder.clone(), Arc::clone(&clock));
            async move {
                tokio::task::yield_now().await;
                event(&holder, &clock);
            }
        };
        let answers = after(|holder, _| holder.note_pong());
        assert!(!tokio::join!(is_gone(&holder, &shared, PATIENCE), answers).0);
        let sends = after(|holder, clock| {
            holder.note_received();
            clock.advance(PATIENCE);
        });
        assert!(!tokio::join!(is_gone(&holder, &shared, PATIENCE), sends).0);
        holder.set_paused(true);
        let is_not_heard = after(|_, clock| clock.advance(PATIENCE));
        assert!(!tokio::join!(is_gone(&holder, &shared, PATIENCE), is_not_heard).0);
        holder.set_paused(false);
        assert!(!holder.is_closed());
        let is_silent = after(|_, clock| clock.advance(PATIENCE));
        assert!(tokio::join!(is_gone(&holder, &shared, PATIENCE), is_silent).0);
        assert!(holder.is_closed());
    }

    /// A client that comes back on a new connection was told that it is in its own way: what its old one had sent last was
    /// taken for a sign of life, although its end was the next thing to be read.
    #[tokio::test]
    async fn a_holder_that_ends_after_its_last_bytes_is_gone() {
        let clock = ManualClock::new();
        let shared: SharedClock = Arc::clone(&clock) as SharedClock;
        let holder = Outbound::new(ConnectionId(1), "peer");
        let ends = async {
            tokio::task::yield_now().await;
            holder.note_received();
            tokio::task::yield_now().await;
            holder.close();
        };
        assert!(tokio::join!(is_gone(&holder, &shared, PATIENCE), ends).0);
        assert!(is_gone(&holder, &shared, PATIENCE).await);
    }
}
