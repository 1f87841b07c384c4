//! How the registry opens topics in a real broker.

use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use magnetar_common::topic_name::TopicName;

use crate::namespace::{LoadTopic, Purpose};
use crate::policies::follow::tell;
use crate::topic::{self, Handle, TopicEnv, TopicError};

/// Opens topics over ledgers.
pub(super) struct Loader(pub(super) TopicEnv);

impl LoadTopic for Loader {
    fn load(&self, topic: TopicName, purpose: Purpose) -> BoxFuture<'static, Result<Handle, TopicError>> {
        topic::open(self.0.clone(), topic, purpose == Purpose::Publish).boxed()
    }

    /// Policies that changed between being read and the topic's entry into the registry would be missed otherwise.
    fn loaded(&self, topic: TopicName, handle: Handle) -> BoxFuture<'static, ()> {
        let (policies, clock) = (Arc::clone(&self.0.policies), self.0.environment.clock.clone());
        async move {
            match policies.of(&topic).await {
                Ok(policies) => handle.set_policies(policies),
                // Whoever waits for the topic does not wait for this: no change is told to the topic a second time.
                Err(error) => {
                    tracing::warn!(%topic, %error, "read the policies again");
                    tokio::spawn(async move { tell(&handle, &topic, &*policies, &clock).await });
                }
            }
        }
        .boxed()
    }
}
