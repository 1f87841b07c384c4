//! A change to subscriptions that one call makes in several topics.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::stream::{self, StreamExt};
use magnetar_common::topic_name::TopicName;

use super::error::{AdminError, AdminResult};
use super::targets::{TOPICS_AT_A_TIME, load};
use crate::service::BrokerService;
use crate::topic::{Handle, SeekTarget, StartPosition, TopicError};

/// Which of a topic's subscriptions are meant.
pub(super) enum Which {
    /// 404 if none of the topics has it.
    Named(String),
    /// Fine if none of the topics has it.
    NamedIfPresent(String),
    All,
}

pub(super) enum What {
    Create { start: StartPosition, properties: BTreeMap<String, String> },
    Delete { force: bool },
    SkipAll,
    Reset(SeekTarget),
    Expire { age_seconds: u64 },
}

/// Changes the subscriptions of every topic given. A topic that is already as wanted (its subscription exists, or is
/// gone) is no failure as long as another one was not: so a call that failed half way can be repeated.
pub(super) async fn apply(
    service: &Arc<BrokerService>,
    topics: Vec<TopicName>,
    which: Which,
    what: What,
) -> AdminResult<()> {
    let change = Arc::new((which, what));
    let one = |topic: TopicName| {
        let (service, change) = (Arc::clone(service), Arc::clone(&change));
        async move {
            let handle = load(&service, &topic).await?;
            Ok::<_, AdminError>(change_topic(&handle, &change.0, &change.1).await)
        }
    };
    let mut outcomes = stream::iter(topics).map(one).buffer_unordered(TOPICS_AT_A_TIME);
    let (mut done, mut unchanged) = (false, None);
    while let Some(outcome) = outcomes.next().await {
        match outcome? {
            Ok(()) => done = true,
            Err(error @ (TopicError::Exists(_) | TopicError::SubscriptionNotFound(_))) => {
                unchanged = Some(error)
            }
            Err(error) => return Err(error.into()),
        }
    }
    match unchanged {
        Some(error) if !done => Err(error.into()),
        _ => Ok(()),
    }
}

async fn change_topic(topic: &Handle, which: &Which, what: &What) -> Result<(), TopicError> {
    match which {
        Which::Named(name) => change_subscription(topic, name, what).await,
        Which::NamedIfPresent(name) => match change_subscription(topic, name, what).await {
            Err(TopicError::SubscriptionNotFound(_)) => Ok(()),
            outcome => outcome,
        },
        Which::All => {
            for name in topic.subscriptions().await? {
                change_subscription(topic, &name, what).await?;
            }
            Ok(())
        }
    }
}

async fn change_subscription(topic: &Handle, name: &str, what: &What) -> Result<(), TopicError> {
    match what {
        What::Create { start, properties } => {
            topic.create_subscription(name, start.clone(), properties.clone()).await
        }
        What::Delete { force } => topic.delete_subscription(name, *force).await,
        What::SkipAll => topic.skip_all(name).await,
        What::Reset(target) => topic.reset_cursor(name, target.clone()).await,
        What::Expire { age_seconds } => topic.expire(name, *age_seconds).await,
    }
}
