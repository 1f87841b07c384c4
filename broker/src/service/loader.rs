//! How the registry opens topics in a real broker.

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use magnetar_common::topic_name::TopicName;

use crate::namespace::LoadTopic;
use crate::topic::{self, Handle, TopicEnv, TopicError};

/// Opens topics over ledgers.
pub(super) struct Loader(pub(super) TopicEnv);

impl LoadTopic for Loader {
    fn load(&self, topic: TopicName) -> BoxFuture<'static, Result<Handle, TopicError>> {
        topic::open(self.0.clone(), topic).boxed()
    }
}
