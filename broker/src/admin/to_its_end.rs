//! A change goes on to its end when its caller hangs up: half an unload leaves topics closed and their bundle with nobody.

use axum::extract::Request;
use axum::http::{Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::error::AdminError;

/// The server drops a handler whose connection has ended; what a task of its own does is not dropped. Reading may be.
///
/// Not more work than before: each change has its own limits of time, and a caller who hangs up starts none.
pub(super) async fn to_its_end(request: Request, next: Next) -> Response {
    if matches!(*request.method(), Method::GET | Method::HEAD) {
        return next.run(request).await;
    }
    let change = tokio::spawn(next.run(request));
    change.await.unwrap_or_else(|error| {
        tracing::error!(%error, "a call of the admin REST did not come to its end");
        let reason = "the call ended without an outcome; look at what it was to change, then try again";
        AdminError::new(StatusCode::INTERNAL_SERVER_ERROR, reason).into_response()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::routing::put;
    use axum::{Router, middleware};
    use std::sync::Arc;
    use tokio::io::AsyncWriteExt;
    use tokio::net::{TcpListener, TcpStream};
    use tokio::sync::{Mutex, oneshot};

    #[tokio::test]
    async fn a_change_whose_caller_hangs_up_is_done_to_its_end() {
        let (started, in_the_middle) = oneshot::channel();
        let (hung_up, may_go_on) = oneshot::channel::<()>();
        let (ended, end) = oneshot::channel();
        let parts = Arc::new(Mutex::new(Some((started, may_go_on, ended))));
        let change = move || async move {
            let (started, may_go_on, ended) = parts.lock().await.take().expect("one call");
            started.send(()).expect("the test waits");
            may_go_on.await.expect("the caller hangs up");
            ended.send(()).expect("the test waits");
        };
        let router = Router::new().route("/", put(change)).layer(middleware::from_fn(to_its_end));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let mut caller =
            TcpStream::connect(listener.local_addr().expect("an address")).await.expect("a connection");
        let (stop, stopped) = oneshot::channel::<()>();
        let server = axum::serve(listener, router).with_graceful_shutdown(async { _ = stopped.await });
        let server = tokio::spawn(server.into_future());
        caller
            .write_all(b"PUT / HTTP/1.1\r\nHost: test\r\nContent-Length: 0\r\n\r\n")
            .await
            .expect("a request");
        in_the_middle.await.expect("the call begins");
        drop(caller);
        // The server stops when it has no connection left: it has seen the end of this one.
        stop.send(()).expect("it runs");
        server.await.expect("no panic").expect("it stops");
        hung_up.send(()).expect("the change still waits");
        end.await.expect("the change is done to its end");
    }
}
