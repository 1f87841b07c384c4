//! `/metrics`: what Prometheus scrapes, under Pulsar's names where the meaning is the same.
//!
//! Called by the HTTP router. Everything is gathered from the topics when it is asked for, so that counting costs the
//! hot path nothing; it must never load a topic or wait for a slow one.

mod families;

use crate::service::BrokerService;
use crate::topic::TopicStats;
use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::get;
use families::Families;
use futures_util::stream::{self, StreamExt};
use magnetar_common::topic_name::TopicName;
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;
use std::sync::Arc;
use std::time::Duration;

/// Topics asked at the same time.
const CONCURRENT: usize = 64;
/// A topic that does not answer by then is left out of this scrape.
const ANSWER_LIMIT: Duration = Duration::from_secs(1);
const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

pub(crate) fn routes() -> Router<Arc<BrokerService>> {
    Router::new()
        .route("/metrics", get(|| async { Redirect::temporary("/metrics/") }))
        .route("/metrics/", get(scrape))
}

async fn scrape(State(service): State<Arc<BrokerService>>) -> Response {
    let answers = stream::iter(service.topics.loaded()).map(|handle| async move {
        let stats = tokio::time::timeout(ANSWER_LIMIT, handle.stats()).await.ok()?.ok()?;
        Some((handle.name().parse::<TopicName>().ok()?, stats))
    });
    let topics: Vec<(TopicName, TopicStats)> =
        answers.buffer_unordered(CONCURRENT).filter_map(|answer| async move { answer }).collect().await;
    let mut registry = Registry::default();
    let families = Families::register(&mut registry);
    families.broker(&service, topics.len());
    for (topic, stats) in &topics {
        families.topic(&service.config.cluster, topic, stats);
    }
    let mut text = String::new();
    match encode(&mut text, &registry) {
        Ok(()) => ([(header::CONTENT_TYPE, CONTENT_TYPE)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}
