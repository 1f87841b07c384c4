//! A lean Pulsar client of our own: lookup, producers with batching and pipelining, consumers with permits.
//!
//! Called by: `magnetar client` and `magnetar perf`.
//! Must never know: anything of our broker beyond the public protocol; it must work against any Pulsar broker. It does not
//! reconnect: a lost connection is an error that its user reports.

mod batcher;
mod connection;
mod consumer;
mod error;
mod lookup;
mod producer;
mod url;

#[cfg(test)]
mod scripted_tests;

use std::collections::HashMap;
use std::sync::Arc;

use magnetar_common::Environment;
use tokio::sync::Mutex;

pub(crate) use self::batcher::{Batching, Message};
use self::connection::Connection;
pub(crate) use self::consumer::{Consumer, Entry, SubType, Subscribe};
pub(crate) use self::error::ClientError;
pub(crate) use self::producer::{Producer, Receipt};
use self::url::ServiceUrl;

/// Which TCP connection a topic needs: where to dial, and for which broker behind a proxy.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Route {
    dial: String,
    proxied_broker: Option<String>,
}

/// A client of one cluster; cheap to clone. Connections are opened on first use and closed with the last user.
#[derive(Clone)]
pub(crate) struct Client {
    env: Environment,
    service: ServiceUrl,
    connections: Arc<Mutex<HashMap<Route, Connection>>>,
}

impl Client {
    /// A client of the cluster behind `service_url` (`pulsar://host:6650`). Nothing is dialled yet.
    pub(crate) fn new(service_url: &str, env: Environment) -> Result<Self, ClientError> {
        Ok(Self { env, service: service_url.parse()?, connections: Arc::default() })
    }

    /// The names that a topic consists of: its partitions, or itself. Asks the broker, which may create the topic.
    pub(crate) async fn partitions(&self, topic: &str) -> Result<Vec<String>, ClientError> {
        let connection = self.connection(self.service_route()).await?;
        let count = lookup::partitions(&connection, topic).await?;
        if count == 0 {
            return Ok(vec![topic.to_owned()]);
        }
        Ok((0..count).map(|number| format!("{topic}-partition-{number}")).collect())
    }

    /// Creates a producer on one topic or partition.
    pub(crate) async fn producer<T>(
        &self,
        topic: &str,
        batching: Batching,
    ) -> Result<Producer<T>, ClientError> {
        let connection = self.connection_to(topic).await?;
        Producer::create(connection, self.env.clock.clone(), topic, batching).await
    }

    /// Subscribes to one topic or partition.
    pub(crate) async fn consumer(&self, subscribe: Subscribe) -> Result<Consumer, ClientError> {
        let connection = self.connection_to(&subscribe.topic).await?;
        Consumer::subscribe(connection, subscribe).await
    }

    fn service_route(&self) -> Route {
        Route { dial: self.service.address().to_owned(), proxied_broker: None }
    }

    /// A connection to the broker that serves `topic`.
    async fn connection_to(&self, topic: &str) -> Result<Connection, ClientError> {
        let mut route = self.service_route();
        let mut authoritative = false;
        for _ in 0..lookup::REDIRECTS_MAX {
            let connection = self.connection(route.clone()).await?;
            let answer = lookup::lookup(&connection, topic, authoritative).await?;
            let broker = answer.broker.parse::<ServiceUrl>()?.address().to_owned();
            route = if answer.through_proxy {
                Route { dial: self.service.address().to_owned(), proxied_broker: Some(broker) }
            } else {
                Route { dial: broker, proxied_broker: None }
            };
            if answer.is_final {
                return self.connection(route).await;
            }
            authoritative = answer.authoritative;
        }
        Err(ClientError::Protocol(format!("lookup of {topic} was redirected too often")))
    }

    async fn connection(&self, route: Route) -> Result<Connection, ClientError> {
        let mut connections = self.connections.lock().await;
        if let Some(connection) = connections.get(&route).filter(|connection| connection.is_open()) {
            return Ok(connection.clone());
        }
        let connection = Connection::open(&self.env, &route.dial, route.proxied_broker.as_deref()).await?;
        connections.insert(route, connection.clone());
        Ok(connection)
    }
}
