//! How the registry has a topic opened.

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use magnetar_common::topic_name::TopicName;

use crate::topic::{Handle, TopicError};

/// What a topic is loaded for. Any topic serves both; one that is loaded to be published to has its ledger sooner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    Read,
    Publish,
}

/// Opens a topic's task: the managed ledger recovered, cursors read. Fences whoever had the topic before.
pub trait LoadTopic: Send + Sync + 'static {
    fn load(&self, topic: TopicName, purpose: Purpose) -> BoxFuture<'static, Result<Handle, TopicError>>;

    /// The topic is in the registry now: what is told to all topics reaches it from here on.
    fn loaded(&self, _topic: TopicName, _handle: Handle) -> BoxFuture<'static, ()> {
        std::future::ready(()).boxed()
    }
}
