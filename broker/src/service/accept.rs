//! Takes connections of the binary protocol, one task for each.

use std::sync::Arc;
use std::time::Duration;

use magnetar_common::net::Listener;
use magnetar_common::shutdown::{Gate, Signal};

use super::BrokerService;
use crate::protocol;

/// After a failed accept (most often: no file descriptor left) the next try waits this long, so that it does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Runs until `stop` is given; connections already taken go on, and hold `gate`.
pub(super) async fn accept_connections(
    service: Arc<BrokerService>,
    listener: Box<dyn Listener>,
    stop: Signal,
    gate: Gate,
) {
    loop {
        let accepted = tokio::select! {
            biased;
            () = stop.given() => return,
            accepted = listener.accept() => accepted,
        };
        let stream = match accepted {
            Ok(stream) => stream,
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted; check the limit of open files");
                service.clock.sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        if gate.inside() >= service.config.max_connections {
            tracing::warn!(
                peer = stream.peer,
                limit = service.config.max_connections,
                "too many connections"
            );
            continue;
        }
        let connection = service.connections.next_id();
        let guard = gate.enter();
        let service = Arc::clone(&service);
        tokio::spawn(async move {
            protocol::serve(service, stream, connection).await;
            drop(guard);
        });
    }
}
