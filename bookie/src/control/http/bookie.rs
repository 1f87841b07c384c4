//! `/api/v1/bookie/...`: the state of this bookie.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde_json::{Value, json};

use super::Routes;
use crate::control::{Control, Phase};

pub(super) fn routes() -> Routes {
    Routes::new()
        .route("/gc", get(gc).put(trigger_gc))
        .route("/state", get(state))
        .route("/is_ready", get(is_ready))
        .route("/info", get(info))
        .route("/state/readonly", get(read_only).put(set_read_only))
}

/// What liveness probes ask: answered as long as the process works at all.
async fn state(State(control): State<Arc<Control>>) -> Json<Value> {
    Json(json!({
        "running": control.phase() != Phase::Starting && !control.has_failed(),
        "readOnly": control.mode().is_read_only(),
        "shuttingDown": control.phase() == Phase::Stopping,
        "availableForHighPriorityWrites": control.is_ready() && !control.mode().is_exhausted(),
    }))
}

/// What readiness probes ask.
async fn is_ready(State(control): State<Arc<Control>>) -> (StatusCode, &'static str) {
    match control.is_ready() {
        true => (StatusCode::OK, "OK"),
        false => (StatusCode::SERVICE_UNAVAILABLE, "the bookie is starting, stopping or has failed"),
    }
}

async fn read_only(State(control): State<Arc<Control>>) -> Json<Value> {
    Json(json!({ "readOnly": control.mode().is_read_only() }))
}

/// Holds over restarts. The answer is the state afterwards: another reason may keep the bookie read-only.
async fn set_read_only(State(control): State<Arc<Control>>, body: String) -> Response {
    let wish = serde_json::from_str::<Value>(&body).ok().and_then(|body| body.get("readOnly")?.as_bool());
    let Some(wish) = wish else {
        let advice = "send {\"readOnly\":true} or {\"readOnly\":false}\n";
        return (StatusCode::BAD_REQUEST, advice).into_response();
    };
    match control.set_read_only(wish).await {
        Ok(mode) => Json(json!({ "readOnly": mode.is_read_only() })).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}

/// Upstream's text, which tells a truth value as a string.
async fn gc(State(control): State<Arc<Control>>) -> Json<Value> {
    Json(json!({ "is_in_force_gc": control.gc.is_pending().to_string() }))
}

/// The body, with which upstream chooses kinds of compaction, is not looked at.
async fn trigger_gc(State(control): State<Arc<Control>>) -> Json<Value> {
    control.gc.ask();
    Json(json!(format!("Triggered GC on BookieServer: {}", control.about.bookie)))
}

async fn info(State(control): State<Arc<Control>>) -> Response {
    let spaces = control.gauges().await.map(|gauges| gauges.dirs.into_iter().map(|dir| dir.space).collect());
    match spaces {
        Some(spaces) => {
            let spaces: Vec<Option<(u64, u64)>> = spaces;
            let known = spaces.into_iter().flatten();
            let (free, total) = known.fold((0, 0), |sum, space| (sum.0 + space.0, sum.1 + space.1));
            Json(json!({ "freeSpace": free, "totalSpace": total })).into_response()
        }
        None => (StatusCode::SERVICE_UNAVAILABLE, "the bookie is ending").into_response(),
    }
}
