//! Calls about a topic that another broker serves: sent there, as Pulsar's tools expect.

use std::sync::Arc;

use axum::Extension;
use axum::extract::{OriginalUri, Request, State};
use axum::http::{StatusCode, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use magnetar_common::topic_name::{Domain, NamespaceName, TopicName, decode};

use super::error::AdminResult;
use super::fan_out;
use crate::namespace::{Asked, Located, Owner};
use crate::service::BrokerService;

/// What any broker can answer: it is about records, not about an open topic. What follows the topic's name in the path.
const ANYWHERE: &[&str] =
    &["partitions", "partitioned-stats", "partitioned-internalStats", "permissions", "terminate/partitions"];

/// 307 to the same path at another broker. With `authoritative` that one is to claim the bundle.
pub(super) fn redirect(broker: &Owner, uri: &Uri, authoritative: bool) -> Response {
    let path = uri.path();
    let kept = uri
        .query()
        .unwrap_or_default()
        .split('&')
        .filter(|pair| !pair.is_empty() && !pair.starts_with("authoritative="));
    let query = kept.chain(authoritative.then_some("authoritative=true")).collect::<Vec<_>>().join("&");
    let mark = if query.is_empty() { "" } else { "?" };
    let location = format!("{}{path}{mark}{query}", broker.http_url.trim_end_matches('/'));
    (StatusCode::TEMPORARY_REDIRECT, [(header::LOCATION, location)]).into_response()
}

/// Before any handler of a topic's path: who serves the topic? A partitioned topic is nobody's: its partitions are.
pub(super) async fn to_owner(
    State(service): State<Arc<BrokerService>>,
    Extension(domain): Extension<Domain>,
    OriginalUri(uri): OriginalUri,
    request: Request,
    next: Next,
) -> Response {
    if !service.ownership.is_shared() {
        return next.run(request).await;
    }
    let Some((topic, rest)) = topic_of(domain, request.uri().path()) else { return next.run(request).await };
    let answer = match whose(&service, &topic, &rest, &uri).await {
        Ok(Whose::Ours) => return next.run(request).await,
        Ok(Whose::Elsewhere(response)) => Ok(response),
        Ok(Whose::Partitions) => fan_out::to_partitions(&service, &topic, &rest, request).await,
        Err(error) => Err(error),
    };
    answer.unwrap_or_else(IntoResponse::into_response)
}

/// Who answers a call.
enum Whose {
    Ours,
    Elsewhere(Response),
    /// Each partition's broker.
    Partitions,
}

async fn whose(service: &BrokerService, topic: &TopicName, rest: &str, uri: &Uri) -> AdminResult<Whose> {
    if ANYWHERE.iter().any(|path| rest == *path || rest.starts_with(&format!("{path}/")))
        || service.store.namespace(topic.namespace()).await?.is_none()
    {
        return Ok(Whose::Ours);
    }
    if topic.partition().is_none() && service.store.partitions(topic).await?.is_some() {
        // Creating or deleting it as a plain topic is refused by the handler.
        return Ok(if rest.is_empty() { Whose::Ours } else { Whose::Partitions });
    }
    let authoritative =
        uri.query().is_some_and(|query| query.split('&').any(|pair| pair == "authoritative=true"));
    let asked = Asked { authoritative, listener: None };
    Ok(match service.ownership.locate(topic, asked).await? {
        Located::Serves(owner) if owner == service.advertised => Whose::Ours,
        Located::Serves(owner) => Whose::Elsewhere(redirect(&owner, uri, false)),
        Located::Ask { broker, authoritative } => Whose::Elsewhere(redirect(&broker, uri, authoritative)),
    })
}

/// `/{tenant}/{namespace}/{topic}[/rest]`; `None` for what is about a namespace.
fn topic_of(domain: Domain, path: &str) -> Option<(TopicName, String)> {
    let mut parts = path.strip_prefix('/')?.splitn(4, '/');
    // In a path a plus is a plus.
    let part = |text: &str| decode(&text.replace('+', "%2B"));
    let (tenant, namespace, topic) = (part(parts.next()?)?, part(parts.next()?)?, part(parts.next()?)?);
    let namespace = NamespaceName::new(&tenant, &namespace).ok()?;
    let topic = TopicName::new(domain, namespace, &topic).ok()?;
    let rest = parts.next().unwrap_or_default().to_owned();
    // `…/partitioned` is the list of a namespace's partitioned topics.
    (topic.local() != "partitioned" || !rest.is_empty()).then_some((topic, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn location(uri: &str, authoritative: bool) -> String {
        let broker = Owner { broker_url: "pulsar://b:6650".into(), http_url: "http://b:8080".into() };
        let response = redirect(&broker, &uri.parse().expect("a URI"), authoritative);
        assert_eq!(response.status(), StatusCode::TEMPORARY_REDIRECT);
        response.headers()[header::LOCATION].to_str().expect("text").to_owned()
    }

    #[test]
    fn a_redirect_keeps_path_and_query_and_says_who_decided() {
        let path = "/admin/v2/persistent/t/n/a%2Fb/stats";
        assert_eq!(location(path, false), format!("http://b:8080{path}"));
        let query = format!("{path}?force=true&authoritative=true");
        assert_eq!(location(&query, false), format!("http://b:8080{path}?force=true"));
        assert_eq!(location(&query, true), format!("http://b:8080{path}?force=true&authoritative=true"));
    }

    #[test]
    fn the_topic_is_found_in_the_path() {
        let (topic, rest) =
            topic_of(Domain::Persistent, "/t/n/a%2Fb/subscription/s/skip/3").expect("a topic");
        assert_eq!((topic.as_str(), rest.as_str()), ("persistent://t/n/a/b", "subscription/s/skip/3"));
        assert!(topic_of(Domain::Persistent, "/t/n").is_none());
    }
}
