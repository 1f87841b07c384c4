//! `/metrics`: what Prometheus scrapes.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use super::Routes;
use crate::control::Control;

const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

pub(super) fn routes() -> Routes {
    Routes::new().route("/metrics", get(scrape))
}

async fn scrape(State(control): State<Arc<Control>>) -> Response {
    match control.gauges().await {
        Some(gauges) => {
            let mut text = control.engine.metrics().render(&gauges);
            text.extend(control.more_metrics.get().map(|more| more()));
            ([(header::CONTENT_TYPE, CONTENT_TYPE)], text).into_response()
        }
        None => (StatusCode::SERVICE_UNAVAILABLE, "the bookie is ending\n").into_response(),
    }
}
