//! What the handlers of one connection's commands share.

use std::future::Future;
use std::sync::Arc;

use magnetar_proto::pulsar::{Command, api};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::liveness;
use super::outbound::Outbound;
use super::refusal::Refusal;
use super::sessions::Sessions;
use super::topic_watchers::Watchers;
use crate::service::BrokerService;
use crate::topic::{Handle, Holder, TopicError};

/// Requests of one connection that are worked on at a time. Beyond it the connection is not read: a client that
/// re-creates thousands of producers after a restart is served in order rather than refused.
const REQUESTS_MAX: usize = 1_000;

/// Cheap to clone.
#[derive(Clone)]
pub(super) struct Context {
    pub(super) service: Arc<BrokerService>,
    pub(super) outbound: Outbound,
    pub(super) sessions: Arc<Sessions>,
    pub(super) watchers: Arc<Watchers>,
    requests: Arc<Semaphore>,
}

/// Room for one request; taken before the request is started.
pub(super) type Room = OwnedSemaphorePermit;

impl Context {
    pub(super) fn new(service: Arc<BrokerService>, outbound: Outbound) -> Self {
        Context {
            service,
            outbound,
            sessions: Arc::default(),
            watchers: Arc::default(),
            requests: Arc::new(Semaphore::new(REQUESTS_MAX)),
        }
    }

    /// Waits for room. Cancel-safe.
    pub(super) async fn room(requests: Arc<Semaphore>) -> Room {
        requests.acquire_owned().await.expect("the semaphore is never closed")
    }

    pub(super) fn requests(&self) -> Arc<Semaphore> {
        Arc::clone(&self.requests)
    }

    /// Works on a request beside the connection's reader.
    pub(super) fn spawn(&self, room: Room, work: impl Future<Output = ()> + Send + 'static) {
        tokio::spawn(async move {
            work.await;
            drop(room);
        });
    }

    pub(super) fn send(&self, command: impl Into<Command>) {
        self.outbound.send(command.into());
    }

    pub(super) fn succeed(&self, request_id: u64) {
        self.send(api::CommandSuccess { request_id, schema: None });
    }

    pub(super) fn refuse(&self, request_id: u64, refusal: Refusal) {
        self.send(refusal.answer(request_id));
    }

    /// SUCCESS or ERROR.
    pub(super) fn answer(&self, request_id: u64, result: Result<(), Refusal>) {
        match result {
            Ok(()) => self.succeed(request_id),
            Err(refusal) => self.refuse(request_id, refusal),
        }
    }

    /// Is the error a collision with a connection that turned out to be dead? Then its claims on the topic are gone,
    /// and the request may be repeated.
    pub(super) async fn collided_with_the_dead(&self, topic: &Handle, error: &TopicError) -> bool {
        let (TopicError::ProducerBusy { holder: Some(Holder(holder)), .. }
        | TopicError::ConsumerBusy { holder: Some(Holder(holder)), .. }) = error
        else {
            return false;
        };
        if holder.connection() == self.outbound.connection() {
            return false;
        }
        let gone = liveness::is_gone(holder, &self.service.clock, self.service.config.liveness_check).await;
        if gone {
            topic.connection_closed(holder.connection());
        }
        gone
    }
}

/// Key-value pairs of the wire; of a repeated key the last counts.
pub(super) fn properties(pairs: Vec<api::KeyValue>) -> std::collections::BTreeMap<String, String> {
    pairs.into_iter().map(|pair| (pair.key, pair.value)).collect()
}
