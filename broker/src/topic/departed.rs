//! The clients of a topic that has closed: who is to hear of it, and what.

use magnetar_proto::pulsar::api;

use super::consumer::NO_REQUEST;
use super::request::{ConsumerKey, ProducerKey};
use crate::protocol::outbound::Outbound;

/// One producer or consumer that is not connected to its topic any more.
pub(crate) enum Client {
    Producer(ProducerKey, Outbound),
    Consumer(ConsumerKey, Outbound),
}

impl Client {
    /// Makes it come back, straight to the broker `next` (`pulsar://host:port`) if its library knows that (PIP-307), or by
    /// looking the topic up. A library that does not listen to CLOSE_PRODUCER loses its connection.
    pub(crate) fn send_away(&self, next: Option<&str>) {
        let next = next.map(str::to_owned);
        match self {
            Client::Producer(_, outbound) if outbound.client().ignores_close_producer() => outbound.close(),
            Client::Producer(key, outbound) => outbound.send(
                api::CommandCloseProducer {
                    producer_id: key.producer_id,
                    request_id: NO_REQUEST,
                    assigned_broker_service_url: next,
                    ..Default::default()
                }
                .into(),
            ),
            Client::Consumer(key, outbound) => outbound.send(
                api::CommandCloseConsumer {
                    consumer_id: key.consumer_id,
                    request_id: NO_REQUEST,
                    assigned_broker_service_url: next,
                    ..Default::default()
                }
                .into(),
            ),
        }
    }
}

/// The clients of a topic that was closed to be served elsewhere. They have not been told yet: what they send meanwhile is
/// dropped, and sent again once they are there. Dropping this tells them to look the topic up.
#[derive(Default)]
pub struct Departed(Vec<Client>);

impl Departed {
    pub(crate) fn new(clients: Vec<Client>) -> Self {
        Self(clients)
    }

    /// Whether anybody published: the next owner will need a ledger to write to.
    pub fn has_producers(&self) -> bool {
        self.0.iter().any(|client| matches!(client, Client::Producer(..)))
    }

    /// Sends everybody to the broker that serves the topic now.
    pub fn send_to(mut self, broker_url: &str) {
        for client in std::mem::take(&mut self.0) {
            client.send_away(Some(broker_url));
        }
    }
}

impl Drop for Departed {
    fn drop(&mut self) {
        self.0.iter().for_each(|client| client.send_away(None));
    }
}
