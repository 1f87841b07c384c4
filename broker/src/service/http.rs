//! The HTTP port: admin REST, HTTP lookup and metrics behind one router.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use magnetar_common::net::BindError;
use magnetar_common::shutdown::Signal;
use tokio::net::TcpListener;

use super::BrokerService;

pub(super) async fn bind(address: SocketAddr) -> Result<(TcpListener, SocketAddr), BindError> {
    let listen = async {
        let listener = TcpListener::bind(address).await?;
        let local = listener.local_addr()?;
        Ok::<_, io::Error>((listener, local))
    };
    listen.await.map_err(|source| BindError { address, source })
}

/// Serves until `stop` is given and the requests under way are answered.
pub(super) async fn serve(service: Arc<BrokerService>, listener: TcpListener, stop: Signal) {
    let served = axum::serve(listener, crate::admin::router(service))
        .with_graceful_shutdown(async move { stop.given().await });
    if let Err(error) = served.await {
        tracing::error!(%error, "the HTTP port is not served any more");
    }
}
