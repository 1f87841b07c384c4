//! The HTTP port: `/metrics` for Prometheus, and those paths of BookKeeper's admin API that probes and tools ask a single
//! bookie, with upstream's JSON. There is no authentication: it is for a management network.

mod bookie;
mod metrics;

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::StatusCode;
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Router, serve};
use magnetar_common::net::Listener;

use super::{Control, Port};

/// No body is larger: they are single switches.
const BODY_BYTES_MAX: usize = 4 << 10;

/// A request that is not answered by then is given up: the disks hang, or the machine is overloaded.
const ANSWER_MAX: Duration = Duration::from_secs(10);

type Routes = Router<Arc<Control>>;

/// Starts the HTTP port.
pub(crate) struct HttpPort;

impl HttpPort {
    /// Serves `listener` until it is closed.
    pub(crate) fn start(control: Arc<Control>, listener: Box<dyn Listener>) -> Port {
        let clock = control.clock.clone();
        Port::start(listener, clock, |acceptor, stopped| async move {
            let served = serve(acceptor, router(control)).with_graceful_shutdown(stopped).await;
            if let Err(error) = served {
                tracing::error!(%error, "the HTTP port is not served any more");
            }
        })
    }
}

fn router(control: Arc<Control>) -> Router {
    Router::new()
        .route("/heartbeat", get(|| async { "OK\n" }))
        .merge(metrics::routes())
        .nest("/api/v1/bookie", bookie::routes())
        .fallback(|| async {
            (StatusCode::NOT_FOUND, "no such path; see /metrics and /api/v1/bookie/state\n")
        })
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(from_fn_with_state(control.clone(), in_time))
        .with_state(control)
}

async fn in_time(State(control): State<Arc<Control>>, request: Request, next: Next) -> Response {
    tokio::select! {
        response = next.run(request) => response,
        () = control.clock.sleep(ANSWER_MAX) => {
            (StatusCode::SERVICE_UNAVAILABLE, "no answer in time; look at the bookie's log and disks\n").into_response()
        }
    }
}
