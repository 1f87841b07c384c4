//! Calls about a partitioned topic whose partitions are served by several brokers: made once for each partition, where it is.

use axum::body::to_bytes;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use futures_util::stream::{self, StreamExt, TryStreamExt};
use magnetar_common::topic_name::TopicName;

use super::error::{AdminError, AdminResult};
use super::targets;
use crate::namespace::{Asked, Located};
use crate::service::BrokerService;
use crate::service::peer::PeerAnswer;

/// `rest` is what follows the topic's name in the path. Answers with the first refusal that is one for every partition:
/// a partition that is already as wanted is no failure as long as another one was not.
pub(super) async fn to_partitions(
    service: &BrokerService,
    topic: &TopicName,
    rest: &str,
    request: Request,
) -> AdminResult<Response> {
    let (head, body) = request.into_parts();
    let body = to_bytes(body, super::BODY_BYTES_MAX).await;
    let body = body.map_err(|error| AdminError::bad_request(error.to_string()))?;
    let query = head.uri.query().map(|query| format!("?{query}")).unwrap_or_default();
    let call = |partition: TopicName| {
        let (method, body, query) = (head.method.as_str(), &body, &query);
        async move {
            let located = service.ownership.locate(&partition, Asked::default()).await?;
            let (Located::Serves(owner) | Located::Ask { broker: owner, .. }) = located;
            let path = format!("{}/{rest}{query}", targets::path_of(&partition));
            targets::at_peer(service, &owner, method, path.trim_end_matches('/'), body).await
        }
    };
    let answers: Vec<PeerAnswer> = stream::iter(targets::of_topic(service, topic).await?)
        .map(call)
        .buffered(targets::TOPICS_AT_A_TIME)
        .try_collect()
        .await?;
    let already = |status: u16| matches!(status, 404 | 409);
    let failed = answers.iter().find(|answer| answer.status >= 400 && !already(answer.status));
    let done = answers.iter().find(|answer| answer.status < 300);
    let answer = failed.or(done).or(answers.first());
    let answer = answer.ok_or_else(|| AdminError::not_found(format!("a partition of {topic}")))?;
    let status = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::BAD_GATEWAY);
    let json = [(axum::http::header::CONTENT_TYPE, "application/json")];
    Ok((status, json, answer.body.clone()).into_response())
}
